//! Notices that the module `nf_conntrack` was unloaded and loaded again.

use std::time::{Duration, Instant};

use crate::kernel::module;

/// How long the first try that follows a failed one waits, and every later one at most.
const FIRST_PAUSE: Duration = Duration::from_secs(1);
const LONGEST_PAUSE: Duration = Duration::from_secs(60);

/// Remembers which load of the module was seen last, and whether it was attached to.
#[derive(Debug)]
pub(super) struct ModuleWatch {
    seen: Option<u64>,
    is_attached: bool,
    reloads: u64,
    pause: Duration,
    next_try: Instant,
}

impl ModuleWatch {
    /// To be called when the load that is there was attached to.
    pub(super) fn start() -> Self {
        Self::attached_to(module::incarnation())
    }

    fn attached_to(seen: Option<u64>) -> Self {
        Self { seen, is_attached: true, reloads: 0, pause: FIRST_PAUSE, next_try: Instant::now() }
    }

    /// Whether a load of the module is there that was not attached to, and it is time to try. Absence changes nothing
    /// yet: without the module there is nothing to attach to.
    pub(super) fn wants_attaching(&mut self) -> bool {
        self.look(module::incarnation(), Instant::now())
    }

    /// Notes that the load that was seen last is attached to.
    pub(super) const fn attached(&mut self) {
        self.is_attached = true;
    }

    /// Notes that it cannot be attached to; returns how long the next try waits.
    pub(super) fn failed(&mut self) -> Duration {
        let pause = self.pause;
        self.next_try = Instant::now() + pause;
        self.pause = (2 * pause).min(LONGEST_PAUSE);
        pause
    }

    /// How often it was loaded again: counted when it is noticed, whatever comes of attaching.
    pub(super) const fn reloads(&self) -> u64 {
        self.reloads
    }

    fn look(&mut self, found: Option<u64>, now: Instant) -> bool {
        if found.is_some() && found != self.seen {
            (self.seen, self.is_attached) = (found, false);
            (self.pause, self.next_try) = (FIRST_PAUSE, now);
            self.reloads += 1;
        }
        found.is_some() && !self.is_attached && now >= self.next_try
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn another_load_wants_attaching_until_it_is_attached_to_and_counts_once() {
        let mut watch = ModuleWatch::attached_to(Some(7));
        let now = Instant::now() + LONGEST_PAUSE;
        assert!(!watch.look(Some(7), now));
        assert!(!watch.look(None, now));
        assert_eq!(watch.reloads(), 0);
        for _ in 0..3 {
            assert!(watch.look(Some(9), now), "attaching fails and is tried again");
            assert_eq!(watch.reloads(), 1);
        }
        assert!(!watch.look(None, now), "there is nothing to attach to");
        assert!(watch.look(Some(11), now), "loaded again before it was attached to");
        watch.attached();
        assert!(!watch.look(Some(11), now));
        assert_eq!(watch.reloads(), 2);
    }

    #[test]
    fn tries_that_fail_come_ever_less_often_until_there_is_another_load() {
        let mut watch = ModuleWatch::attached_to(Some(7));
        assert!(watch.look(Some(9), Instant::now()));
        let pauses: Vec<_> = (0..8).map(|_| watch.failed().as_secs()).collect();
        assert_eq!(pauses, [1, 2, 4, 8, 16, 32, 60, 60]);
        assert!(!watch.look(Some(9), Instant::now()));
        assert!(watch.look(Some(11), Instant::now()));
    }
}
