//! What a filter says, and its printed form.

use std::fmt::{self, Display, Formatter};

use ipnetwork::IpNetwork;

use super::token::{is_word, keyword};
use super::words::{Flag, StatusBit, Word};
use crate::model::{EndReason, Family, NatKind, RecordKind};
use crate::pipeline::networks::Direction;
use crate::sinks::names::protocol_name;

/// A condition.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Expr {
    /// All hold; at least two.
    All(Vec<Self>),
    /// Any holds; at least two.
    Any(Vec<Self>),
    /// It does not hold.
    Not(Box<Self>),
    /// A field has one of the values, or none of them.
    Term { test: Test, negated: bool },
}

/// A field and the values it is compared with, at least one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Test {
    Address(AddressField, Vec<AddressValue>),
    Port(PortField, Vec<Range>),
    Protocol(Vec<u8>),
    Mark(Vec<Masked>),
    Zone(Vec<Range>),
    Netns(Vec<NetnsValue>),
    Family(Vec<Family>),
    Direction(Vec<Direction>, At),
    Kind(Vec<RecordKind>),
    Nat(Vec<NatKind>),
    Status(Vec<StatusBit>),
    Flag(Vec<Flag>),
    EndReason(Vec<EndReason>),
}

/// Where something stands in the filter, bytes. Two filters that say the same are equal wherever it stands.
#[derive(Clone, Copy, Debug, Eq)]
pub(super) struct At(pub(super) usize);

impl PartialEq for At {
    fn eq(&self, _: &Self) -> bool {
        true
    }
}

/// Which address is looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum AddressField {
    Src,
    Dst,
    Host,
    NatSrc,
    NatDst,
    NatHost,
}

/// Which port is looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum PortField {
    Src,
    Dst,
    Either,
}

/// Addresses.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum AddressValue {
    Prefix(IpNetwork),
    /// A name that is looked up when the filter is compiled.
    Network(String, At),
}

/// From the one to the other, both included.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Range {
    pub(super) first: u16,
    pub(super) last: u16,
}

/// Bits and which of them count.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Masked {
    pub(super) value: u32,
    pub(super) mask: u32,
}

/// A network namespace.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum NetnsValue {
    Inode(u32),
    Name(String),
}

impl Word for AddressField {
    const ALL: &'static [(&'static str, Self)] = &[
        ("src", Self::Src),
        ("dst", Self::Dst),
        ("host", Self::Host),
        ("nat_src", Self::NatSrc),
        ("nat_dst", Self::NatDst),
        ("nat_host", Self::NatHost),
    ];
}

impl Word for PortField {
    const ALL: &'static [(&'static str, Self)] =
        &[("src_port", Self::Src), ("dst_port", Self::Dst), ("port", Self::Either)];
}

impl Display for Expr {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match self {
            Self::All(parts) => joined(f, parts, " and "),
            Self::Any(parts) => joined(f, parts, " or "),
            Self::Not(inner) => {
                f.write_str("not ")?;
                part(f, inner)
            }
            Self::Term { test, negated } => test.print(f, *negated),
        }
    }
}

fn joined(f: &mut Formatter<'_>, parts: &[Expr], between: &str) -> fmt::Result {
    for (index, inner) in parts.iter().enumerate() {
        f.write_str(if index == 0 { "" } else { between })?;
        part(f, inner)?;
    }
    Ok(())
}

fn part(f: &mut Formatter<'_>, inner: &Expr) -> fmt::Result {
    match inner {
        Expr::All(_) | Expr::Any(_) => write!(f, "({inner})"),
        Expr::Not(_) | Expr::Term { .. } => write!(f, "{inner}"),
    }
}

impl Test {
    fn print(&self, f: &mut Formatter<'_>, negated: bool) -> fmt::Result {
        match self {
            Self::Address(field, values) => term(f, field.name(), negated, values),
            Self::Port(field, values) => term(f, field.name(), negated, values),
            Self::Protocol(values) => {
                let names: Vec<_> = values.iter().map(|number| Protocol(*number)).collect();
                term(f, "proto", negated, &names)
            }
            Self::Mark(values) => term(f, "mark", negated, values),
            Self::Zone(values) => term(f, "zone", negated, values),
            Self::Netns(values) => term(f, "netns", negated, values),
            Self::Family(values) => words(f, "family", negated, values),
            Self::Direction(values, _) => words(f, "direction", negated, values),
            Self::Kind(values) => words(f, "kind", negated, values),
            Self::Nat(values) => words(f, "nat", negated, values),
            Self::Status(values) => words(f, "status", negated, values),
            Self::Flag(values) => words(f, "flag", negated, values),
            Self::EndReason(values) => words(f, "end_reason", negated, values),
        }
    }
}

fn words<T: Word>(f: &mut Formatter<'_>, field: &str, negated: bool, values: &[T]) -> fmt::Result {
    let names: Vec<_> = values.iter().map(|value| value.name()).collect();
    term(f, field, negated, &names)
}

fn term<T: Display>(f: &mut Formatter<'_>, field: &str, negated: bool, values: &[T]) -> fmt::Result {
    if let [value] = values {
        return write!(f, "{field} {} {value}", if negated { "!=" } else { "=" });
    }
    write!(f, "{field} {} {{", if negated { "not in" } else { "in" })?;
    for (index, value) in values.iter().enumerate() {
        write!(f, "{}{value}", if index == 0 { "" } else { ", " })?;
    }
    f.write_str("}")
}

struct Protocol(u8);

impl Display for Protocol {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match protocol_name(self.0) {
            Some(name) => f.write_str(name),
            None => write!(f, "{}", self.0),
        }
    }
}

impl Display for AddressValue {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match self {
            Self::Prefix(prefix) if is_one_address(prefix) => write!(f, "{}", prefix.network()),
            Self::Prefix(prefix) => write!(f, "{prefix}"),
            Self::Network(name, _) => word(f, name, looks_like_an_address(name)),
        }
    }
}

impl Display for Range {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let Self { first, last } = self;
        if first == last { write!(f, "{first}") } else { write!(f, "{first}-{last}") }
    }
}

impl Display for Masked {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let Self { value, mask } = self;
        if *mask == u32::MAX { write!(f, "{value:#x}") } else { write!(f, "{value:#x}/{mask:#x}") }
    }
}

impl Display for NetnsValue {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match self {
            Self::Inode(inode) => write!(f, "{inode}"),
            Self::Name(name) => word(f, name, name.starts_with(|c: char| c.is_ascii_digit())),
        }
    }
}

fn word(f: &mut Formatter<'_>, name: &str, ambiguous: bool) -> fmt::Result {
    if !ambiguous && keyword(name).is_none() && name.chars().all(is_word) {
        return f.write_str(name);
    }
    let quote = if name.contains('"') { '\'' } else { '"' };
    write!(f, "{quote}{name}{quote}")
}

/// Whether a word outside of quotes is taken for an address, a correct one or not.
pub(super) fn looks_like_an_address(word: &str) -> bool {
    word.contains([':', '/']) || word.chars().all(|c| c.is_ascii_digit() || c == '.')
}

fn is_one_address(prefix: &IpNetwork) -> bool {
    prefix.prefix() == if prefix.is_ipv4() { 32 } else { 128 }
}
