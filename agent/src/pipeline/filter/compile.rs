//! From what a filter says to its program.

use super::Filter;
use super::addresses::AddressSet;
use super::check::{Check, bit, direction_bit};
use super::error::{FilterError, hint};
use super::expr::{AddressValue, At, Expr, NetnsValue, Test};
use super::program::{Builder, Next};
use super::words::Word;
use crate::model::Family;
use crate::pipeline::networks::Networks;

/// Adds the steps of a filter in front of those that are there; tells where they begin.
pub(super) fn emit(
    filter: &Filter,
    networks: &Networks,
    builder: &mut Builder,
    if_true: Next,
    if_false: Next,
) -> Result<Next, FilterError> {
    Emitter { text: &filter.text, networks, builder }.expr(&filter.expr, if_true, if_false)
}

struct Emitter<'a> {
    text: &'a str,
    networks: &'a Networks,
    builder: &'a mut Builder,
}

impl Emitter<'_> {
    fn expr(&mut self, expr: &Expr, if_true: Next, if_false: Next) -> Result<Next, FilterError> {
        match expr {
            Expr::All(parts) => {
                parts.iter().rev().try_fold(if_true, |next, part| self.expr(part, next, if_false))
            }
            Expr::Any(parts) => {
                parts.iter().rev().try_fold(if_false, |next, part| self.expr(part, if_true, next))
            }
            Expr::Not(inner) => self.expr(inner, if_false, if_true),
            Expr::Term { test, negated } => {
                let check = self.check(test)?;
                let (if_true, if_false) = if *negated { (if_false, if_true) } else { (if_true, if_false) };
                Ok(self.builder.prepend(check, if_true, if_false))
            }
        }
    }

    fn check(&self, test: &Test) -> Result<Check, FilterError> {
        Ok(match test {
            Test::Address(field, values) => Check::Address(*field, self.addresses(values)?),
            Test::Port(field, ranges) => Check::Port(*field, ranges.as_slice().into()),
            Test::Protocol(numbers) => Check::Protocol(protocol_bits(numbers)),
            Test::Mark(marks) => Check::Mark(marks.as_slice().into()),
            Test::Zone(ranges) => Check::Zone(ranges.as_slice().into()),
            Test::Netns(values) => netns(values),
            Test::Family(families) => family(families),
            Test::Direction(directions, at) => {
                self.direction_is_known(*at)?;
                Check::Direction(directions.iter().fold(0, |bits, one| bits | direction_bit(*one)))
            }
            Test::Kind(kinds) => Check::Kind(bits(kinds.iter().map(|kind| *kind as u8))),
            Test::Nat(kinds) => Check::Nat(bits(kinds.iter().map(|kind| *kind as u8))),
            Test::Status(wanted) => Check::Status(wanted.iter().fold(0, |bits, one| bits | one.0)),
            Test::Flag(flags) => Check::Flag(flags.as_slice().into()),
            Test::EndReason(reasons) => Check::EndReason(bits(reasons.iter().map(|reason| *reason as u8))),
        })
    }

    fn addresses(&self, values: &[AddressValue]) -> Result<AddressSet, FilterError> {
        let mut prefixes = Vec::new();
        for value in values {
            match value {
                AddressValue::Prefix(prefix) => prefixes.push(prefix),
                AddressValue::Network(name, at) => prefixes.extend(self.network(name, *at)?),
            }
        }
        Ok(AddressSet::new(prefixes))
    }

    fn network(&self, name: &str, at: At) -> Result<&[ipnetwork::IpNetwork], FilterError> {
        self.networks.prefixes(name).ok_or_else(|| {
            let hint = hint(name, self.networks.names());
            let message = format!("{name:?} is neither an address nor a name in [networks]{hint}");
            FilterError::new(self.text, at.0, message)
        })
    }

    fn direction_is_known(&self, at: At) -> Result<(), FilterError> {
        if self.networks.has_internal() {
            return Ok(());
        }
        let message = "no flow has a direction, as no network is internal: say internal = true in [networks]";
        Err(FilterError::new(self.text, at.0, message))
    }
}

fn bits(values: impl Iterator<Item = u8>) -> u8 {
    values.fold(0, |bits, value| bits | bit(value))
}

fn protocol_bits(numbers: &[u8]) -> [u64; 4] {
    let mut bits = [0; 4];
    for number in numbers {
        if let Some(word) = bits.get_mut(usize::from(number / 64)) {
            *word |= 1 << (number % 64);
        }
    }
    bits
}

fn netns(values: &[NetnsValue]) -> Check {
    let (mut inodes, mut names) = (Vec::new(), Vec::new());
    for value in values {
        match value {
            NetnsValue::Inode(inode) => inodes.push(*inode),
            NetnsValue::Name(name) => names.push(name.clone()),
        }
    }
    Check::Netns { inodes: inodes.into(), names: names.into() }
}

fn family(families: &[Family]) -> Check {
    match families {
        [first, others @ ..] if others.iter().all(|other| other == first) => Check::Family(*first),
        _ => Check::Always(families.len() >= Family::ALL.len()),
    }
}
