//! One sight of a flow, whichever source had it.

use super::{Status, Totals, Tuple};

/// What was seen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ObservationKind {
    /// The flow just came into being; its totals have been counted since its birth.
    New,
    /// The flow lives.
    Update,
    /// A look at the kernel's table met the flow alive (a walk or a dump).
    Existing,
    /// The flow's entry was destroyed; the totals are final.
    End,
    /// The flow is no longer in the kernel's table and its end was never seen; the totals mean nothing.
    Gone,
}

/// Why a flow ended. What the kernel does not let one tell is [`EndReason::Unknown`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EndReason {
    /// The connection was already closing (TCP, SCTP, DCCP).
    Closed,
    /// No packet came in time.
    Timeout,
    /// Deleted by request, flushed, or its namespace is gone.
    Deleted,
    /// Dropped early because the table was full.
    Evicted,
    /// The tuple was opened again while the old entry waited to expire.
    Replaced,
    /// Found gone; its end was not seen.
    Missed,
    /// The kernel does not tell.
    Unknown,
}

impl EndReason {
    /// The name in records.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Closed => "closed",
            Self::Timeout => "timeout",
            Self::Deleted => "deleted",
            Self::Evicted => "evicted",
            Self::Replaced => "replaced",
            Self::Missed => "missed",
            Self::Unknown => "unknown",
        }
    }
}

/// State of the protocol tracker: the kernel's number for TCP, SCTP or DCCP, `None` for others or when unknown.
pub type ProtocolState = Option<u8>;

/// One sight of a flow. Carries totals; only the flow table makes deltas of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Observation {
    /// What was seen.
    pub kind: ObservationKind,
    /// When: nanoseconds of `CLOCK_BOOTTIME`.
    pub boot_ns: u64,
    /// Address of the kernel's entry; 0 when the source does not know it.
    pub conntrack: u64,
    /// When the kernel programs first met the flow, `CLOCK_BOOTTIME` nanoseconds; 0 when unknown. With
    /// `conntrack` it tells apart flows of the same tuple for which the kernel keeps no start.
    pub born_ns: u64,
    /// When the flow was confirmed, `CLOCK_REALTIME` nanoseconds; 0 when the kernel keeps no timestamps.
    pub start_ns: u64,
    /// Inode of the network namespace.
    pub netns: u32,
    /// Conntrack zone.
    pub zone: u16,
    /// State of the protocol tracker.
    pub protocol_state: ProtocolState,
    /// Whether the kernel counts this flow. If not, `totals` is zero and means nothing.
    pub has_counters: bool,
    /// Whether the kernel programs met the flow only in the middle of its life.
    pub midlife: bool,
    /// Whether the kernel programs told of this flow before, so that its end is not the first that is heard of it.
    pub announced: bool,
    /// Status bits.
    pub status: Status,
    /// Connection mark.
    pub mark: u32,
    /// Connection labels, zero when there are none.
    pub labels: [u8; 16],
    /// Tuple of the original direction.
    pub original: Tuple,
    /// Tuple of the reply direction as the kernel expects it (source = the answerer).
    pub reply: Tuple,
    /// Totals since the flow's birth.
    pub totals: Totals,
    /// Why it ended; `None` unless the kind is [`ObservationKind::End`] or [`ObservationKind::Gone`].
    pub end_reason: Option<EndReason>,
}
