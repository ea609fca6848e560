//! Wall clock derived from boot time, unharmed by suspend and by clock steps.
//!
//! The kernel stamps a flow's start by the wall clock and everything else is stamped by the boot clock. Both run
//! at the same rate (NTP slews them together) and their difference changes only when the wall clock is stepped.
//! So each step begins a new *period* with its own difference, and a stamp is converted by the period in which
//! it was taken.

use std::collections::VecDeque;

use crate::model::Anchor;

/// Differences smaller than this are noise of reading two clocks one after the other, not a step.
const STEP_NS: i64 = 1_000_000;

/// Periods that are remembered; a machine whose clock is stepped more often keeps the newest.
const MAX_PERIODS: usize = 64;

/// Readings of which the tightest is taken.
const READINGS: usize = 4;

impl Anchor {
    /// Reads both clocks.
    ///
    /// # Errors
    /// When the kernel has no such clock.
    pub fn now() -> std::io::Result<Self> {
        let mut best = read_once()?;
        for _ in 1..READINGS {
            best = std::cmp::min_by_key(best, read_once()?, |&(_, spread)| spread);
        }
        Ok(best.0)
    }
}

/// The wall clock between two boot clock readings, and how far those are apart.
fn read_once() -> std::io::Result<(Anchor, u64)> {
    use nix::time::{ClockId, clock_gettime};
    let nanoseconds = |clock| {
        let time = clock_gettime(clock).map_err(std::io::Error::from)?;
        Ok::<i64, std::io::Error>(time.tv_sec().saturating_mul(1_000_000_000).saturating_add(time.tv_nsec()))
    };
    let before = nanoseconds(ClockId::CLOCK_BOOTTIME)?.unsigned_abs();
    let real_ns = nanoseconds(ClockId::CLOCK_REALTIME)?;
    let spread = nanoseconds(ClockId::CLOCK_BOOTTIME)?.unsigned_abs().saturating_sub(before);
    Ok((Anchor { real_ns, boot_ns: before + spread / 2 }, spread))
}

/// A stretch of time without a step of the wall clock.
#[derive(Clone, Copy, Debug)]
struct Period {
    /// Wall clock minus boot clock.
    offset: i64,
    /// Boot time of the last look before the step: the period may have begun right after it.
    earliest: u64,
    /// Boot time at which the step was noticed.
    noticed: u64,
}

/// Converts between boot time and wall clock.
#[derive(Clone, Debug)]
pub struct WallClock {
    current: Period,
    /// Older periods, newest first.
    past: VecDeque<Period>,
    last_look: u64,
}

impl WallClock {
    /// A clock that knows one moment; the time before it counts to the same period.
    #[must_use]
    pub fn anchor(anchor: Anchor) -> Self {
        Self {
            current: Period { offset: anchor.offset(), earliest: 0, noticed: 0 },
            past: VecDeque::new(),
            last_look: anchor.boot_ns,
        }
    }

    /// Looks again. Returns by how many nanoseconds the wall clock was stepped since the last look, if it was.
    pub fn re_anchor(&mut self, anchor: Anchor) -> Option<i64> {
        let step = anchor.offset().saturating_sub(self.current.offset);
        let earliest = std::mem::replace(&mut self.last_look, anchor.boot_ns);
        if step.unsigned_abs() < STEP_NS.unsigned_abs() {
            return None;
        }
        self.past.truncate(MAX_PERIODS - 2);
        self.past.push_front(self.current);
        self.current = Period { offset: anchor.offset(), earliest, noticed: anchor.boot_ns };
        Some(step)
    }

    /// Wall clock at the given boot time, nanoseconds since the Unix epoch.
    #[must_use]
    #[inline]
    pub fn to_wall(&self, boot_ns: u64) -> i64 {
        let is_past = boot_ns < self.current.noticed;
        let period = if is_past { self.past_period(boot_ns) } else { &self.current };
        period.offset.saturating_add_unsigned(boot_ns)
    }

    #[cold]
    fn past_period(&self, boot_ns: u64) -> &Period {
        self.past.iter().find(|period| boot_ns >= period.noticed).unwrap_or(&self.current)
    }

    /// Boot time of a wall clock stamp that the kernel took no later than the boot time `observed_ns`; `None` if
    /// no clock that is known to have run showed it.
    ///
    /// Where a backward step makes the stamp ambiguous, the latest moment possible is meant.
    #[must_use]
    pub fn to_boot(&self, real_ns: u64, observed_ns: u64) -> Option<u64> {
        let real = i64::try_from(real_ns).ok()?;
        let mut end = observed_ns.saturating_add(STEP_NS.unsigned_abs());
        for period in self.periods() {
            let boot = u64::try_from(real.saturating_sub(period.offset)).unwrap_or(0);
            if (period.earliest..=end).contains(&boot) {
                return Some(boot.min(observed_ns));
            }
            end = end.min(period.noticed);
        }
        None
    }

    /// All periods, newest first.
    fn periods(&self) -> impl Iterator<Item = &Period> {
        std::iter::once(&self.current).chain(&self.past)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: u64 = 1_000_000_000;
    const EPOCH: i64 = 1_700_000_000 * SECOND as i64;
    const HOUR: i64 = 3600 * SECOND as i64;

    /// The wall clock shows `EPOCH + shift` when the machine has run for no time at all.
    fn look(shift: i64, boot_s: u64) -> Anchor {
        Anchor { real_ns: EPOCH + shift + (boot_s * SECOND) as i64, boot_ns: boot_s * SECOND }
    }

    #[test]
    fn boot_time_and_wall_clock_convert_both_ways() {
        let clock = WallClock::anchor(look(0, 100));
        assert_eq!(clock.to_wall(90 * SECOND), EPOCH + 90 * SECOND as i64);
        assert_eq!(clock.to_boot((EPOCH + 90 * SECOND as i64) as u64, 95 * SECOND), Some(90 * SECOND));
    }

    #[test]
    fn jitter_of_reading_is_no_step_however_often_it_is_read() {
        let mut clock = WallClock::anchor(look(0, 100));
        for boot in 101..10_000 {
            assert_eq!(clock.re_anchor(look((boot as i64 % 7) * 1000, boot)), None);
        }
        assert_eq!(clock.to_wall(9_000 * SECOND), EPOCH + 9_000 * SECOND as i64);
    }

    #[test]
    fn clocks_as_far_apart_as_numbers_can_be_are_a_step() {
        let mut clock = WallClock::anchor(Anchor { real_ns: 1, boot_ns: 0 });
        assert_eq!(clock.re_anchor(Anchor { real_ns: i64::MIN, boot_ns: 0 }), Some(i64::MIN));
    }

    #[test]
    fn a_step_changes_what_comes_after_and_not_what_was_before() {
        for step in [HOUR, -HOUR] {
            let mut clock = WallClock::anchor(look(0, 100));
            assert_eq!(clock.re_anchor(look(step, 200)), Some(step));
            assert_eq!(clock.to_wall(150 * SECOND), EPOCH + 150 * SECOND as i64);
            assert_eq!(clock.to_wall(250 * SECOND), EPOCH + step + 250 * SECOND as i64);
        }
    }

    #[test]
    fn a_start_before_a_step_keeps_its_boot_time() {
        let start = (EPOCH + 150 * SECOND as i64) as u64;
        for step in [HOUR, -HOUR] {
            let mut clock = WallClock::anchor(look(0, 100));
            clock.re_anchor(look(step, 200));
            assert_eq!(clock.to_boot(start, 300 * SECOND), Some(150 * SECOND));
        }
    }

    #[test]
    fn a_start_between_a_step_and_its_discovery_is_told_by_the_new_clock() {
        for step in [HOUR, -HOUR] {
            let mut clock = WallClock::anchor(look(0, 100));
            clock.re_anchor(look(0, 199));
            clock.re_anchor(look(step, 200));
            let start = EPOCH + step + 199 * SECOND as i64 + 500_000_000;
            assert_eq!(clock.to_boot(start as u64, 201 * SECOND), Some(199 * SECOND + 500_000_000));
        }
    }

    #[test]
    fn a_start_that_no_known_clock_showed_is_unknown() {
        let clock = WallClock::anchor(look(0, 100));
        assert_eq!(clock.to_boot((EPOCH + HOUR) as u64, 101 * SECOND), None);
        assert_eq!(clock.to_boot(u64::MAX, 101 * SECOND), None);
    }

    #[test]
    fn a_start_before_the_machine_ran_is_its_boot_and_jitter_does_no_harm() {
        let clock = WallClock::anchor(look(0, 100));
        assert_eq!(clock.to_boot(1, 101 * SECOND), Some(0));
        assert_eq!(
            clock.to_boot((EPOCH + 101 * SECOND as i64 + 1000) as u64, 101 * SECOND),
            Some(101 * SECOND)
        );
    }

    #[test]
    fn suspend_moves_both_clocks_alike() {
        let mut clock = WallClock::anchor(look(0, 100));
        assert_eq!(clock.re_anchor(look(0, 100 + 8 * 3600)), None);
    }

    #[test]
    fn endless_steps_take_no_endless_memory() {
        let mut clock = WallClock::anchor(look(0, 100));
        for boot in 101..1000 {
            clock.re_anchor(look((boot as i64 % 2) * HOUR, boot));
        }
        assert!(clock.past.len() < MAX_PERIODS);
    }

    #[test]
    fn the_real_clocks_agree_with_the_standard_library() {
        let anchor = Anchor::now().unwrap();
        let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
        assert!(anchor.real_ns.abs_diff(now.as_nanos() as i64) < 10 * SECOND);
        assert!(anchor.boot_ns > 0);
    }
}
