//! What the kernel side counts: what ended, and why something could not be said.

/// Index of a reason in [`Tally::losses`].
pub struct LossReason;

impl LossReason {
    /// The ring of updates was full, or the queue of flows that are to be announced; the flow says its totals again later.
    pub const UPDATE_RING_FULL: usize = 0;
    /// The ring of ends and the one behind it were full: an end is lost. Its totals are in [`Tally::ends_lost`].
    pub const END_LOST: usize = 1;
    /// No free slot for a flow: it has no updates, only its end. Every sight of such a flow counts.
    pub const NO_SLOT: usize = 2;
    /// The kernel's memory could not be read where the layout says; an update or new flow was dropped.
    pub const READ_FAILED: usize = 3;
    /// The same for an end.
    pub const END_READ_FAILED: usize = 4;
}

/// How many reasons there are.
pub const LOSS_REASONS: usize = 5;

/// What flows moved.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[cfg_attr(
    feature = "user",
    derive(zerocopy::FromBytes, zerocopy::IntoBytes, zerocopy::Immutable, zerocopy::KnownLayout)
)]
pub struct Sum {
    /// Flows.
    pub flows: u64,
    /// Packets of both directions.
    pub packets: u64,
    /// Bytes of both directions.
    pub bytes: u64,
}

/// What the programs counted on one CPU since they were loaded: a value of the map `TALLIES`, which has one for each
/// CPU. Two cache lines, so that no CPU writes another's.
///
/// The map is no per-CPU map, because user space cannot share the memory of those, and while it asks the kernel for a
/// value of a map the kernel skips all probes on that CPU, for a whole time slice where the asking thread loses its CPU
/// just then.
///
/// <https://github.com/torvalds/linux/blob/v6.12/include/linux/bpf.h>, `bpf_disable_instrumentation`
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[cfg_attr(
    feature = "user",
    derive(zerocopy::FromBytes, zerocopy::IntoBytes, zerocopy::Immutable, zerocopy::KnownLayout)
)]
pub struct Tally {
    /// What all flows moved that ended, delivered or not.
    pub ended: Sum,
    /// What those of them moved whose end had no room in either ring.
    pub ends_lost: Sum,
    /// How often each [`LossReason`] happened.
    pub losses: [u64; LOSS_REASONS],
    /// Zero.
    pub padding: [u64; 5],
}

const _: () = {
    assert!(size_of::<Sum>() == 24);
    assert!(size_of::<Tally>() == 128);
};
