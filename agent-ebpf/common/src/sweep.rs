//! What user space and the program `sweep` tell each other: which flows to look at, and what came of it.

/// Flows that one run of the program `sweep` looks at, at most: the length of the list in the map
/// `VISITS`.
pub const VISITS: u32 = 128;

/// Events that one run of the program `sweep` or `walk` leaves in the map `SIGHTS` at most. They take no way through a
/// ring: user space has the map in its memory and reads it after the run.
pub const SIGHTS: u32 = 512;

/// A flow that is due: an element of the list at the start of the map `VISITS`, which both sides have in their memory.
/// The first element whose address is 0 ends the list.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[cfg_attr(
    feature = "user",
    derive(zerocopy::FromBytes, zerocopy::IntoBytes, zerocopy::Immutable, zerocopy::KnownLayout)
)]
pub struct Visit {
    /// Address of the `nf_conn`.
    pub conntrack: u64,
    /// [`crate::Slot::born_ns`] of its slot: with the address it says which flow is meant.
    pub born_ns: u64,
    /// Packets of both directions that user space knows of. Another number means that the counters moved.
    pub packets: u64,
    /// The label bits that user space knows of, see [`joined_labels`].
    pub labels: u64,
    /// The mark that user space knows of.
    pub mark: u32,
    /// The status bits that user space knows of; only [`SHOWN_STATUS`] counts.
    pub status: u32,
    /// One of [`VisitVerdict`]; written by the program, set to 0 by user space before.
    pub verdict: u32,
    /// Tells the flow's tuple of the original direction; only user space looks at it.
    pub fingerprint: u32,
}

/// Bits of `enum ip_conntrack_status` that a record shows, so that a change of them alone is worth one: expected, reply
/// seen, assured, both kinds of NAT, both kinds of offload.
pub const SHOWN_STATUS: u32 = 1 | 1 << 1 | 1 << 2 | 1 << 4 | 1 << 5 | 1 << 14 | 1 << 15;

/// How the runs of a program that user space runs went: the single value of the map `SWEEPS`.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[cfg_attr(
    feature = "user",
    derive(zerocopy::FromBytes, zerocopy::IntoBytes, zerocopy::Immutable, zerocopy::KnownLayout)
)]
pub struct Runs {
    /// Runs so far.
    pub runs: u64,
    /// Nanoseconds of the longest.
    pub longest_ns: u64,
    /// Nanoseconds of all.
    pub spent_ns: u64,
}

/// Both words of the label bits in one that changes when either does. A sum would not do: a bit that goes from one word
/// to the other has to show.
#[inline(always)]
#[must_use]
pub const fn joined_labels(low: u64, high: u64) -> u64 {
    low.wrapping_mul(0x9E37_79B9_7F4A_7C15) ^ high
}

/// Values of [`Visit::verdict`].
pub struct VisitVerdict;

impl VisitVerdict {
    /// Not looked at: the time of this run was up.
    pub const LEFT: u32 = 0;
    /// Something changed: the element of the map `SIGHTS` with the same index is an event that tells it.
    pub const CHANGED: u32 = 1;
    /// Nothing that a record shows has changed.
    pub const UNCHANGED: u32 = 2;
    /// The slot is free or another flow's, or the entry is not in the kernel's table any more: an end is under way.
    pub const GONE: u32 = 3;
    /// The flow spoke meanwhile and is not due.
    pub const NOT_DUE: u32 = 4;
}

const _: () = assert!(size_of::<Visit>() == 48);
