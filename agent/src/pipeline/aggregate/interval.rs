//! Intervals of the wall clock, no two of which begin at the same time, whatever the clock does.

/// The first interval of a process begins at least so far behind the beginning of an aligned one, so that it begins
/// when none of an earlier process and none after a step of the clock does.
const FIRST_OFFSET_NS: i64 = 1_000_000;

/// The present interval. All times in nanoseconds of the wall clock.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Interval {
    length: i64,
    start: i64,
    end: i64,
    /// The latest time at which one has begun.
    latest: i64,
    /// How far behind the aligned time intervals begin: one nanosecond for each time that the clock went back, so
    /// that those that come once more begin when none did.
    skew: i64,
}

impl Interval {
    /// The first one: from now on to where the next aligned one begins.
    pub(super) fn new(length: i64, now: i64) -> Self {
        let length = length.max(2 * FIRST_OFFSET_NS);
        let aligned = aligned(now, length);
        let start = now.max(aligned.saturating_add(FIRST_OFFSET_NS));
        Self { length, start, end: aligned.saturating_add(length), latest: start, skew: 0 }
    }

    pub(super) const fn start(&self) -> i64 {
        self.start
    }

    /// Whether it is over; so it is, too, when the clock was set back by more than its length.
    pub(super) const fn is_over(&self, now: i64) -> bool {
        now >= self.end || now < self.start.saturating_sub(self.length)
    }

    /// When it ends if it ends now.
    pub(super) const fn end(&self, now: i64) -> i64 {
        if now > self.start && now < self.end { now } else { self.end }
    }

    /// Goes on to the interval that `now` is in.
    pub(super) fn advance(&mut self, now: i64) {
        let aligned = aligned(now, self.length);
        if aligned.saturating_add(self.skew) <= self.latest {
            self.skew = (self.skew + 1) % FIRST_OFFSET_NS;
        }
        self.start = aligned.saturating_add(self.skew);
        self.end = aligned.saturating_add(self.length);
        self.latest = self.latest.max(self.start);
    }
}

const fn aligned(now: i64, length: i64) -> i64 {
    now.saturating_sub(now.rem_euclid(length))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::HashSet;

    const SECOND: i64 = 1_000_000_000;

    #[test]
    fn intervals_are_aligned_to_the_wall_clock_but_for_the_first() {
        let mut interval = Interval::new(10 * SECOND, 103 * SECOND);
        assert_eq!((interval.start(), interval.end(200 * SECOND)), (103 * SECOND, 110 * SECOND));
        assert!(!interval.is_over(110 * SECOND - 1) && interval.is_over(110 * SECOND));
        interval.advance(111 * SECOND);
        assert_eq!((interval.start(), interval.end(120 * SECOND)), (110 * SECOND, 120 * SECOND));
        assert_eq!(interval.end(115 * SECOND), 115 * SECOND);
    }

    #[test]
    fn a_small_step_back_changes_nothing_and_a_large_one_begins_anew() {
        let mut interval = Interval::new(10 * SECOND, 103 * SECOND);
        interval.advance(110 * SECOND);
        assert!(!interval.is_over(100 * SECOND) && interval.is_over(99 * SECOND));
        interval.advance(99 * SECOND);
        assert_eq!(interval.start(), 90 * SECOND + 1);
        interval.advance(115 * SECOND);
        assert_eq!(interval.start(), 110 * SECOND + 1, "not once more at the same time");
    }

    proptest! {
        #[test]
        fn no_two_begin_at_the_same_time(
            first in 0..100 * SECOND,
            steps in prop::collection::vec(-30 * SECOND..60 * SECOND, 0..60),
        ) {
            let mut now = 1_000 * SECOND + first;
            let mut interval = Interval::new(10 * SECOND, now);
            let mut starts = HashSet::from([interval.start()]);
            for step in steps {
                now += step;
                let end = interval.end(now);
                prop_assert!(end > interval.start());
                interval.advance(now);
                prop_assert!(starts.insert(interval.start()));
            }
        }

        #[test]
        fn no_clock_makes_it_panic(length in any::<i64>(), times in prop::collection::vec(any::<i64>(), 1..9)) {
            let mut interval = Interval::new(length, times[0]);
            for now in times {
                interval.is_over(now);
                interval.end(now);
                interval.advance(now);
            }
        }
    }
}
