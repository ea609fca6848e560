//! One moment by both clocks.

/// What the wall clock and the boot clock showed at the same moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Anchor {
    /// `CLOCK_REALTIME`, nanoseconds since the Unix epoch.
    pub real_ns: i64,
    /// `CLOCK_BOOTTIME`, nanoseconds.
    pub boot_ns: u64,
}

impl Anchor {
    /// Wall clock minus boot clock.
    pub(crate) const fn offset(self) -> i64 {
        self.real_ns.saturating_sub_unsigned(self.boot_ns)
    }
}
