//! When to look at all living flows.

use std::time::{Duration, Instant};

/// Two looks that are to agree that a flow is gone begin at least so long after each other.
const APART: Duration = Duration::from_secs(2);

/// Losses that go on all the time lead to looks no more often than this.
const SUSPICION_EVERY: Duration = Duration::from_secs(10);

/// The times of looks to come.
pub(super) struct Plan {
    every: Duration,
    next: Instant,
    /// Looks that are to follow each other because ends may have been missed.
    wanted: u8,
    owing: bool,
    /// Whether the look under way began after the last suspicion, so that it is one of them.
    counts: bool,
    suspicious_from: Instant,
}

impl Plan {
    /// The first look is due at once.
    pub(super) const fn new(every: Duration, now: Instant) -> Self {
        Self { every, next: now, wanted: 0, owing: false, counts: false, suspicious_from: now }
    }

    pub(super) fn is_due(&self, now: Instant) -> bool {
        now >= self.next
    }

    /// A look begins, or begins anew.
    pub(super) const fn began(&mut self) {
        self.counts = true;
    }

    /// A look is over, or `is_whole` says that it saw a part only.
    pub(super) fn ended(&mut self, now: Instant, is_whole: bool) {
        if is_whole && self.counts {
            self.wanted = self.wanted.saturating_sub(1);
        }
        self.next = now
            + match (self.wanted > 0, is_whole) {
                (true, true) => APART,
                (true, false) => SUSPICION_EVERY,
                (false, _) => self.every,
            };
        self.owing &= self.wanted > 0;
    }

    /// Whether looks are still to tell which flows are gone.
    pub(super) const fn owes_looks(&self) -> bool {
        self.owing
    }

    /// One look that begins later, and not too soon after another; false where such are to come already.
    pub(super) fn want(&mut self, now: Instant) -> bool {
        if self.wanted > 0 {
            return false;
        }
        self.next = self.next.min(now.max(self.suspicious_from));
        self.wanted = 1;
        self.counts = false;
        self.suspicious_from = now + SUSPICION_EVERY;
        true
    }

    /// Ends may have been missed until now: two looks that begin later tell which flows are gone.
    pub(super) fn suspect(&mut self, now: Instant) {
        self.next = self.next.min(now.max(self.suspicious_from));
        self.wanted = 2;
        self.owing = true;
        self.counts = false;
        self.suspicious_from = now + SUSPICION_EVERY;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const EVERY: Duration = Duration::from_secs(300);

    fn plan() -> (Plan, impl Fn(u64) -> Instant) {
        let start = Instant::now();
        (Plan::new(EVERY, start), move |milliseconds| start + Duration::from_millis(milliseconds))
    }

    fn look(plan: &mut Plan, now: Instant) {
        assert!(plan.is_due(now));
        plan.began();
        plan.ended(now, true);
    }

    #[test]
    fn the_first_look_comes_at_once_and_the_others_in_their_time() {
        let (mut plan, at) = plan();
        look(&mut plan, at(0));
        assert!(!plan.is_due(at(299_999)));
        look(&mut plan, at(300_000));
        assert!(!plan.is_due(at(599_999)));
    }

    #[test]
    fn a_loss_is_followed_by_two_looks() {
        let (mut plan, at) = plan();
        look(&mut plan, at(0));
        plan.suspect(at(50_000));
        look(&mut plan, at(50_000));
        assert!(!plan.is_due(at(51_999)) && plan.owes_looks());
        look(&mut plan, at(52_000));
        assert!(!plan.owes_looks());
        assert!(!plan.is_due(at(351_999)));
    }

    #[test]
    fn a_lost_update_is_followed_by_one_look_that_owes_nothing() {
        let (mut plan, at) = plan();
        plan.began();
        assert!(plan.want(at(10)) && !plan.want(at(15)));
        plan.ended(at(20), true);
        assert!(!plan.is_due(at(2_019)) && !plan.owes_looks(), "one began before");
        look(&mut plan, at(2_020));
        assert!(!plan.is_due(at(300_000)));
        assert!(plan.want(at(3_000)));
        assert!(!plan.is_due(at(10_009)) && plan.is_due(at(10_010)));
    }

    #[test]
    fn a_loss_during_a_look_is_followed_by_two_more() {
        let (mut plan, at) = plan();
        plan.began();
        plan.suspect(at(10));
        plan.ended(at(20), true);
        look(&mut plan, at(2_020));
        look(&mut plan, at(4_020));
        assert!(!plan.is_due(at(100_000)));
    }

    #[test]
    fn a_look_that_began_anew_or_saw_a_part_only_is_not_one_of_the_two() {
        let (mut plan, at) = plan();
        plan.suspect(at(0));
        plan.began();
        look(&mut plan, at(0));
        plan.began();
        plan.ended(at(2_000), false);
        assert!(plan.owes_looks() && !plan.is_due(at(11_999)));
        look(&mut plan, at(12_000));
        assert!(!plan.owes_looks());
    }

    #[test]
    fn losses_that_go_on_do_not_make_looks_follow_without_pause() {
        let (mut plan, at) = plan();
        look(&mut plan, at(0));
        plan.suspect(at(1_000));
        look(&mut plan, at(1_000));
        look(&mut plan, at(3_000));
        plan.suspect(at(3_500));
        assert!(!plan.is_due(at(10_999)));
        look(&mut plan, at(11_000));
    }
}
