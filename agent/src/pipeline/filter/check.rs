//! One comparison of a record, ready to be made.

use std::sync::Arc;

use super::addresses::AddressSet;
use super::expr::{AddressField, Masked, PortField, Range};
use super::words::Flag;
use crate::model::{Family, NatKind, Record, RecordFlags};
use crate::pipeline::networks::{Direction, Networks};

/// Tells the name of a network namespace by its inode number.
pub type NetnsName = Arc<dyn Fn(u32) -> Option<Arc<str>> + Send + Sync>;

/// What comparisons look up outside of the record.
#[derive(Clone)]
pub(super) struct Surroundings {
    pub(super) networks: Arc<Networks>,
    pub(super) netns_name: NetnsName,
}

/// A comparison. Sets of small numbers are bits.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Check {
    Address(AddressField, AddressSet),
    Port(PortField, Box<[Range]>),
    Protocol([u64; 4]),
    Mark(Box<[Masked]>),
    Zone(Box<[Range]>),
    Netns {
        inodes: Box<[u32]>,
        names: Box<[String]>,
    },
    Family(Family),
    Direction(u8),
    Kind(u8),
    Nat(u8),
    Status(u32),
    Flag(Box<[Flag]>),
    EndReason(u8),
    /// Holds always, or never.
    Always(bool),
}

impl Check {
    pub(super) fn holds(&self, record: &Record, around: &Surroundings) -> bool {
        match self {
            Self::Address(field, set) => address(*field, set, record),
            Self::Port(field, ranges) => port(*field, ranges, record),
            Self::Protocol(bits) => {
                let number = record.original.protocol;
                bits.get(usize::from(number / 64)).is_some_and(|word| word >> (number % 64) & 1 == 1)
            }
            Self::Mark(marks) => marks.iter().any(|masked| record.mark & masked.mask == masked.value),
            Self::Zone(ranges) => within(ranges, record.zone),
            Self::Netns { inodes, names } => netns(inodes, names, record.netns, around),
            Self::Family(family) => record.original.family == *family,
            Self::Direction(bits) => around
                .networks
                .direction(&record.original, &record.reply)
                .is_some_and(|direction| bits & direction_bit(direction) != 0),
            Self::Kind(bits) => bits & bit(record.kind as u8) != 0,
            Self::Nat(bits) => bits & bit(record.nat as u8) != 0,
            Self::Status(bits) => record.status.0 & bits != 0,
            Self::Flag(flags) => any_flag(flags, record.flags),
            Self::EndReason(bits) => record.end_reason.is_some_and(|reason| bits & bit(reason as u8) != 0),
            Self::Always(holds) => *holds,
        }
    }
}

/// The bit of a value among at most eight.
pub(super) const fn bit(value: u8) -> u8 {
    1 << (value & 7)
}

pub(super) const fn direction_bit(direction: Direction) -> u8 {
    bit(direction as u8)
}

fn address(field: AddressField, set: &AddressSet, record: &Record) -> bool {
    let Record { original, reply, nat, .. } = record;
    let holds = |address| set.contains(original.family, address);
    let nat_src = || matches!(nat, NatKind::Source | NatKind::Both) && holds(reply.dst);
    let nat_dst = || matches!(nat, NatKind::Destination | NatKind::Both) && holds(reply.src);
    match field {
        AddressField::Src => holds(original.src),
        AddressField::Dst => holds(original.dst),
        AddressField::Host => holds(original.src) || holds(original.dst),
        AddressField::NatSrc => nat_src(),
        AddressField::NatDst => nat_dst(),
        AddressField::NatHost => nat_src() || nat_dst(),
    }
}

fn port(field: PortField, ranges: &[Range], record: &Record) -> bool {
    let tuple = &record.original;
    tuple.has_ports()
        && match field {
            PortField::Src => within(ranges, tuple.src_port),
            PortField::Dst => within(ranges, tuple.dst_port),
            PortField::Either => within(ranges, tuple.src_port) || within(ranges, tuple.dst_port),
        }
}

fn within(ranges: &[Range], number: u16) -> bool {
    ranges.iter().any(|range| range.first <= number && number <= range.last)
}

fn netns(inodes: &[u32], names: &[String], inode: u32, around: &Surroundings) -> bool {
    let is_named =
        || (around.netns_name)(inode).is_some_and(|name| names.iter().any(|known| **known == *name));
    inodes.contains(&inode) || (!names.is_empty() && is_named())
}

fn any_flag(flags: &[Flag], set: RecordFlags) -> bool {
    flags.iter().any(|flag| flag.is_set(set))
}
