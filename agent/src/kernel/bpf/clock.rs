//! Finds out how long a jiffy is on the running kernel.
//!
//! `CONFIG_HZ` is written nowhere that can be relied on, and `_SC_CLK_TCK` is another unit. So both clocks are read
//! at two ticks and compared.

use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use aya::maps::Array;
use conntally_common::Clock;

use super::{
    abi::Plain,
    loader::{LoadedObject, Runnable},
};

/// Long enough that a tick which comes late does not matter.
const SPAN: Duration = Duration::from_millis(100);

/// What kernels are built with. A measurement within 5 % means one of them: a tick may be noticed late.
const USUAL: [u32; 4] = [100, 250, 300, 1000];

/// Ticks must come within this time even at 24 Hz.
const PATIENCE: Duration = Duration::from_millis(500);

/// The moment of a tick; [`Watch::ticks_per_second`] compares it with a later one.
#[derive(Clone, Copy)]
pub(super) struct Tick(Clock);

/// The program that reads both clocks.
pub(super) struct Watch(Runnable);

impl Watch {
    /// Loads it.
    pub(super) fn load(object: &LoadedObject) -> anyhow::Result<Self> {
        Runnable::load(object, "clock").map(Self).context("the clock program cannot be loaded")
    }

    /// Waits for the next tick.
    pub(super) fn next_tick(&self, object: &LoadedObject) -> anyhow::Result<Tick> {
        let first = self.read(object)?;
        let started = Instant::now();
        while started.elapsed() < PATIENCE {
            let now = self.read(object)?;
            if now.jiffies != first.jiffies {
                return Ok(Tick(now));
            }
        }
        bail!("the kernel's tick did not move for {PATIENCE:?}")
    }

    /// Jiffies per second, from a tick taken a while ago and one taken now.
    pub(super) fn ticks_per_second(&self, object: &LoadedObject, earlier: Tick) -> anyhow::Result<u32> {
        let now = self.read(object)?;
        let passed = Duration::from_nanos(now.boot_ns.saturating_sub(earlier.0.boot_ns));
        std::thread::sleep(SPAN.saturating_sub(passed));
        rate(earlier.0, self.next_tick(object)?.0).context("the kernel's tick rate makes no sense")
    }

    fn read(&self, object: &LoadedObject) -> anyhow::Result<Clock> {
        self.0.run().context("the clock program cannot be run")?;
        let clock: Plain<Clock> = Array::try_from(object.maps.get("CLOCK")?)?.get(&0, 0)?;
        Ok(clock.0)
    }
}

fn rate(earlier: Clock, later: Clock) -> Option<u32> {
    let ticks = later.jiffies.checked_sub(earlier.jiffies)?;
    let nanos = later.boot_ns.checked_sub(earlier.boot_ns).filter(|nanos| *nanos > 0)?;
    let rate = (u128::from(ticks) * 1_000_000_000 + u128::from(nanos) / 2) / u128::from(nanos);
    let rate = u32::try_from(rate).ok().filter(|rate| (10..=10_000).contains(rate))?;
    Some(USUAL.into_iter().find(|usual| usual.abs_diff(rate) * 20 <= *usual).unwrap_or(rate))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_ticks_give_the_rate() {
        let at = |jiffies, boot_ns| Clock { jiffies, boot_ns };
        assert_eq!(rate(at(100, 1_000), at(105, 20_010_000)), Some(250));
        assert_eq!(rate(at(100, 0), at(106, 20_000_000)), Some(300));
        assert_eq!(rate(at(100, 0), at(105, 19_600_000)), Some(250));
        assert_eq!(rate(at(100, 0), at(105, 25_000_000)), Some(200));
        assert_eq!(rate(at(5, 10), at(5, 10)), None);
        assert_eq!(rate(at(5, 10), at(4, 30)), None);
    }
}
