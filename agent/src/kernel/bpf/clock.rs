//! Finds out how long a jiffy is on the running kernel.
//!
//! `CONFIG_HZ` is written nowhere that can be relied on, and `_SC_CLK_TCK` is another unit. So both clocks are read
//! at two ticks and compared.

use std::time::Duration;

use anyhow::{Context, ensure};
use conntally_common::Clock;

use super::{
    loader::{LoadedObject, Runnable},
    shared::Shared,
};

/// Long enough that a tick which comes late does not matter.
const SPAN: Duration = Duration::from_millis(100);

/// What kernels are built with. A measurement within 5 % means one of them: a tick may be noticed late.
const USUAL: [u32; 4] = [100, 250, 300, 1000];

/// A tick must come while the clocks were watched for this long, even at 24 Hz.
const PATIENCE_NS: u64 = 500_000_000;

/// Longer than this between two looks nobody watched, and a tick seen then may be long past: on a busy machine whoever
/// looks is interrupted.
const SHARP_NS: u64 = 1_000_000;

/// Ticks that are waited for until one is seen at once.
const TRIES: u32 = 20;

/// The moment of a tick; [`Watch::ticks_per_second`] compares it with a later one.
#[derive(Clone, Copy)]
pub(super) struct Tick(Clock);

/// The program that reads both clocks, with its answer.
pub(super) struct Watch {
    program: Runnable,
    answer: Shared<Clock>,
}

impl Watch {
    /// Loads it.
    pub(super) fn load(object: &LoadedObject) -> anyhow::Result<Self> {
        let program = Runnable::load(object, "clock").context("the clock program cannot be loaded")?;
        Ok(Self { program, answer: object.maps.shared("CLOCK")? })
    }

    /// Waits for the next tick that is seen when it comes.
    pub(super) fn next_tick(&self) -> anyhow::Result<Tick> {
        let mut wait = Wait::since(self.read()?);
        loop {
            if let Some(tick) = wait.look(self.read()?)? {
                return Ok(Tick(tick));
            }
        }
    }

    /// Jiffies per second, from a tick taken a while ago and one taken now.
    pub(super) fn ticks_per_second(&self, earlier: Tick) -> anyhow::Result<u32> {
        let now = self.read()?;
        let passed = Duration::from_nanos(now.boot_ns.saturating_sub(earlier.0.boot_ns));
        std::thread::sleep(SPAN.saturating_sub(passed));
        rate(earlier.0, self.next_tick()?.0).context("the kernel's tick rate makes no sense")
    }

    fn read(&self) -> anyhow::Result<Clock> {
        self.program.run().context("the clock program cannot be run")?;
        self.answer.get(0).context("the clock program gave no answer")
    }
}

/// Looks at the clocks until a tick is seen.
struct Wait {
    before: Clock,
    watched_ns: u64,
    ticks: u32,
    /// The tick that was seen soonest after it came, and within which time.
    sharpest: Option<(u64, Clock)>,
}

impl Wait {
    const fn since(before: Clock) -> Self {
        Self { before, watched_ns: 0, ticks: 0, sharpest: None }
    }

    fn look(&mut self, now: Clock) -> anyhow::Result<Option<Clock>> {
        let before = std::mem::replace(&mut self.before, now);
        let apart = now.boot_ns.saturating_sub(before.boot_ns);
        if now.jiffies == before.jiffies {
            self.watched_ns += apart.min(SHARP_NS);
            ensure!(self.watched_ns < PATIENCE_NS, "the kernel's tick does not move");
            return Ok(None);
        }
        self.ticks += 1;
        if self.sharpest.is_none_or(|(within, _)| apart < within) {
            self.sharpest = Some((apart, now));
        }
        let enough = self.ticks >= TRIES;
        Ok(self.sharpest.filter(|(within, _)| enough || *within <= SHARP_NS).map(|(_, tick)| tick))
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

    const MS: u64 = 1_000_000;

    const fn at(jiffies: u64, boot_ns: u64) -> Clock {
        Clock { jiffies, boot_ns }
    }

    /// The tick that is taken after these looks, if any.
    fn waited(first: Clock, looks: impl IntoIterator<Item = Clock>) -> anyhow::Result<Option<Clock>> {
        let mut wait = Wait::since(first);
        for look in looks {
            if let Some(tick) = wait.look(look)? {
                return Ok(Some(tick));
            }
        }
        Ok(None)
    }

    #[test]
    fn a_tick_that_is_seen_late_is_passed_over() {
        let looks = [at(7, 0), at(9, 30 * MS), at(9, 31 * MS), at(10, 32 * MS), at(11, 60 * MS)];
        assert_eq!(waited(at(7, 0), looks).unwrap(), Some(at(10, 32 * MS)));
    }

    #[test]
    fn of_ticks_that_are_all_seen_late_the_sharpest_is_taken() {
        let late =
            (1..=u64::from(TRIES)).map(|tick| at(tick, tick * 10 * MS + if tick == 3 { MS } else { 0 }));
        assert_eq!(waited(at(0, 0), late).unwrap(), Some(at(4, 40 * MS)));
    }

    #[test]
    fn the_tick_has_stopped_only_where_somebody_watched() {
        assert!(waited(at(7, 0), [at(7, 60_000 * MS), at(7, 120_000 * MS)]).unwrap().is_none());
        assert!(waited(at(7, 0), (1..).map(|step| at(7, step * MS / 2))).is_err());
    }

    #[test]
    fn two_ticks_give_the_rate() {
        assert_eq!(rate(at(100, 1_000), at(105, 20_010_000)), Some(250));
        assert_eq!(rate(at(100, 0), at(106, 20_000_000)), Some(300));
        assert_eq!(rate(at(100, 0), at(105, 19_600_000)), Some(250));
        assert_eq!(rate(at(100, 0), at(105, 25_000_000)), Some(200));
        assert_eq!(rate(at(5, 10), at(5, 10)), None);
        assert_eq!(rate(at(5, 10), at(4, 30)), None);
    }
}
