//! What the flow table hands out and every sink writes.

use super::{EndReason, ProtocolState, Status, Totals, Tuple};

/// Identity of a flow: an unkeyed 128-bit hash (XXH3-128) of boot id, namespace, zone, original tuple and start.
/// The byte layout that is hashed stands in ARCHITECTURE.md.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct FlowId(pub u128);

impl std::fmt::Display for FlowId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:032x}", self.0)
    }
}

/// Which moment of its life a record tells of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RecordKind {
    /// The first record of the flow.
    New,
    /// Something moved since the previous record.
    Update,
    /// The last record; its totals are final.
    End,
}

/// Which addresses or ports are translated.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NatKind {
    /// The reply tuple mirrors the original one.
    None,
    /// The source is translated.
    Source,
    /// The destination is translated.
    Destination,
    /// Both are.
    Both,
}

/// What a reader must know before trusting the figures.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RecordFlags {
    /// The flow was running before the agent saw it; what it moved until then is in no delta.
    pub first_seen_midlife: bool,
    /// The flow was created while accounting was off: the kernel never counts it.
    pub no_counters: bool,
    /// The kernel keeps no start for it: the id rests on the agent's first sight of it.
    pub weak_id: bool,
    /// Its packets take a way around conntrack on which nobody counts them: the totals stand still or are too low.
    pub offloaded: bool,
}

/// One record. Times are wall clock, nanoseconds since the Unix epoch, derived from boot time.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Record {
    /// Identity of the flow.
    pub flow_id: FlowId,
    /// Which moment of its life.
    pub kind: RecordKind,
    /// When this was observed; for an end, when the entry was destroyed.
    pub observed_ns: i64,
    /// The same in `CLOCK_BOOTTIME` nanoseconds.
    pub observed_boot_ns: u64,
    /// When the flow was confirmed, or first seen when the kernel keeps no start.
    pub start_ns: i64,
    /// `observed - start` by the boot clock where both are known by it, so that clock steps do no harm.
    pub duration_ns: u64,
    /// When its counters were last seen to have moved; `None` if never.
    pub last_moved_ns: Option<i64>,
    /// Tuple of the original direction.
    pub original: Tuple,
    /// Tuple of the reply direction.
    pub reply: Tuple,
    /// The kind of translation between them.
    pub nat: NatKind,
    /// Totals since the flow's birth. Meaningless with `flags.no_counters`.
    pub totals: Totals,
    /// What is new since the flow's previous record.
    pub delta: Totals,
    /// Status bits.
    pub status: Status,
    /// State of the protocol tracker.
    pub protocol_state: ProtocolState,
    /// Why it ended, with [`RecordKind::End`] only.
    pub end_reason: Option<EndReason>,
    /// Connection mark.
    pub mark: u32,
    /// Connection labels, zero when there are none.
    pub labels: [u8; 16],
    /// Conntrack zone.
    pub zone: u16,
    /// Inode of the network namespace.
    pub netns: u32,
    /// What a reader must know.
    pub flags: RecordFlags,
}
