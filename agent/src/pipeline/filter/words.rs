//! The closed lists of words that fields are compared with.

use crate::model::{EndReason, Family, NatKind, RecordFlags, RecordKind, Status};
use crate::pipeline::networks::Direction;

/// A value that has a name.
pub(super) trait Word: Copy + PartialEq + 'static {
    /// All values.
    const ALL: &'static [(&'static str, Self)];

    fn name(self) -> &'static str {
        Self::ALL.iter().find(|(_, value)| *value == self).map_or("", |(name, _)| name)
    }

    fn from_name(name: &str) -> Option<Self> {
        Self::ALL.iter().find(|(known, _)| *known == name).map(|(_, value)| *value)
    }

    fn names() -> impl Iterator<Item = &'static str> {
        Self::ALL.iter().map(|(name, _)| *name)
    }
}

/// One bit of the status.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct StatusBit(pub(super) u32);

/// One of the flags of a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Flag {
    FirstSeenMidlife,
    NoCounters,
    WeakId,
    Offloaded,
}

impl Flag {
    pub(super) const fn is_set(self, flags: RecordFlags) -> bool {
        match self {
            Self::FirstSeenMidlife => flags.first_seen_midlife,
            Self::NoCounters => flags.no_counters,
            Self::WeakId => flags.weak_id,
            Self::Offloaded => flags.offloaded,
        }
    }
}

impl Word for StatusBit {
    const ALL: &'static [(&'static str, Self)] = &[
        ("confirmed", Self(Status::CONFIRMED)),
        ("expected", Self(Status::EXPECTED)),
        ("replied", Self(Status::SEEN_REPLY)),
        ("assured", Self(Status::ASSURED)),
        ("snat", Self(Status::SRC_NAT)),
        ("dnat", Self(Status::DST_NAT)),
        ("offloaded", Self(Status::OFFLOAD)),
        ("hw_offloaded", Self(Status::HW_OFFLOAD)),
    ];
}

impl Word for Flag {
    const ALL: &'static [(&'static str, Self)] = &[
        ("first_seen_midlife", Self::FirstSeenMidlife),
        ("no_counters", Self::NoCounters),
        ("weak_id", Self::WeakId),
        ("offloaded", Self::Offloaded),
    ];
}

impl Word for Direction {
    const ALL: &'static [(&'static str, Self)] = &[
        (Self::Inbound.name(), Self::Inbound),
        (Self::Outbound.name(), Self::Outbound),
        (Self::Internal.name(), Self::Internal),
        (Self::External.name(), Self::External),
    ];
}

impl Word for Family {
    const ALL: &'static [(&'static str, Self)] = &[("ipv4", Self::V4), ("ipv6", Self::V6)];
}

impl Word for RecordKind {
    const ALL: &'static [(&'static str, Self)] =
        &[("new", Self::New), ("update", Self::Update), ("end", Self::End)];
}

impl Word for NatKind {
    const ALL: &'static [(&'static str, Self)] =
        &[("none", Self::None), ("snat", Self::Source), ("dnat", Self::Destination), ("both", Self::Both)];
}

impl Word for EndReason {
    const ALL: &'static [(&'static str, Self)] = &[
        (Self::Closed.name(), Self::Closed),
        (Self::Timeout.name(), Self::Timeout),
        (Self::Deleted.name(), Self::Deleted),
        (Self::Evicted.name(), Self::Evicted),
        (Self::Replaced.name(), Self::Replaced),
        (Self::Missed.name(), Self::Missed),
        (Self::Unknown.name(), Self::Unknown),
    ];
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sinks::names::{flag_names, nat_name, status_names};

    #[test]
    fn the_words_are_those_of_records() {
        for (name, StatusBit(bit)) in StatusBit::ALL {
            assert_eq!(status_names(Status(*bit)).collect::<Vec<_>>(), [*name]);
        }
        assert!(NatKind::ALL.iter().all(|(name, nat)| nat_name(*nat) == *name));
        let all = RecordFlags { first_seen_midlife: true, no_counters: true, weak_id: true, offloaded: true };
        assert_eq!(flag_names(all).collect::<Vec<_>>(), Flag::names().collect::<Vec<_>>());
        assert!(Flag::ALL.iter().all(|(_, flag)| flag.is_set(all)));
        assert!(Flag::ALL.iter().all(|(_, flag)| !flag.is_set(RecordFlags::default())));
    }
}
