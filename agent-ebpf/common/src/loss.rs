//! Why the kernel side could not say something: the index into its per-CPU counters.

/// Index of a reason in the map `LOSSES`.
pub struct LossReason;

impl LossReason {
    /// The ring of updates was full; the flow says its totals again later.
    pub const UPDATE_RING_FULL: u32 = 0;
    /// The ring of ends and the queue behind it were full: an end is lost. Its totals are in the map `ENDS_LOST`.
    pub const END_LOST: u32 = 1;
    /// No free slot for a flow: it has no updates, only its end. Every sight of such a flow counts.
    pub const NO_SLOT: u32 = 2;
    /// The kernel's memory could not be read where the layout says; an update or new flow was dropped.
    pub const READ_FAILED: u32 = 3;
    /// The same for an end.
    pub const END_READ_FAILED: u32 = 4;
}

/// How many reasons there are.
pub const LOSS_REASONS: u32 = 5;
