//! What time it is, by the two clocks that matter.

use nix::{
    sys::time::TimeSpec,
    time::{ClockId, clock_gettime},
};

/// One moment, in nanoseconds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Moment {
    /// `CLOCK_BOOTTIME`
    pub(super) boot_ns: u64,
    /// `CLOCK_REALTIME`, the clock of the kernel's start timestamps.
    pub(super) real_ns: u64,
}

impl Moment {
    pub(super) fn now() -> Self {
        Self { boot_ns: read(ClockId::CLOCK_BOOTTIME), real_ns: read(ClockId::CLOCK_REALTIME) }
    }
}

/// Both clocks exist on every kernel since 2.6.39, so that reading them cannot fail.
fn read(clock: ClockId) -> u64 {
    clock_gettime(clock).map(nanoseconds).unwrap_or_default()
}

fn nanoseconds(time: TimeSpec) -> u64 {
    u64::try_from(time.tv_sec()).unwrap_or_default() * 1_000_000_000
        + u64::try_from(time.tv_nsec()).unwrap_or_default()
}
