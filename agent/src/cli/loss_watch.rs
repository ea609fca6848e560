//! Says while the agent runs that something is being lost, without saying it all the time.

use crate::source::Losses;
use std::collections::HashMap;
use std::time::{Duration, Instant};

/// Counters are read so often: some live in the kernel.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// Time between two reports.
const REPORT_EVERY: Duration = Duration::from_secs(10);

/// Losses after which no total is missing: later records make good for them, or only the reason of an end is lost.
/// What a configured sink has lost is not among them, as it may write nothing but deltas.
const MENDED: [&str; 8] = [
    "output_queue_full",
    "update_ring_full",
    "read_failed",
    "no_slot",
    "netlink_dump_failed",
    "end_after_missed",
    "announce_failed",
    "end_reason_unknown",
];

/// What was reported of each counter.
#[derive(Debug, Default)]
pub(super) struct LossWatch {
    reported: HashMap<&'static str, u64>,
    next: Option<Instant>,
}

impl LossWatch {
    /// Reports the counters that moved since the last report, if it is time. To be called often.
    pub(super) fn look(&mut self, losses: impl FnOnce() -> Losses) {
        let moved = self.moved(Instant::now(), losses);
        if moved.is_empty() {
            return;
        }
        let list = list(&moved);
        if are_mended(&moved) {
            tracing::warn!("lost since the last report: {list}; no total is missing in the end");
        } else {
            tracing::error!("lost since the last report: {list}");
        }
    }

    fn moved(&mut self, now: Instant, losses: impl FnOnce() -> Losses) -> Losses {
        if self.next.is_some_and(|next| now < next) {
            return Losses::new();
        }
        let mut moved = losses();
        for (reason, count) in &mut moved {
            let reported = self.reported.entry(reason).or_default();
            (*reported, *count) = (*count, count.saturating_sub(*reported));
        }
        moved.retain(|(_, count)| *count > 0);
        self.next = now.checked_add(if moved.is_empty() { LOOK_EVERY } else { REPORT_EVERY });
        moved
    }
}

fn are_mended(losses: &Losses) -> bool {
    losses.iter().all(|(reason, _)| MENDED.contains(reason))
}

/// Losses as a person reads them.
pub(super) fn list(losses: &Losses) -> String {
    let list: Vec<_> = losses.iter().map(|(reason, count)| format!("{reason} {count}")).collect();
    list.join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_loss_is_told_at_once_and_what_follows_ten_seconds_later_in_one_report() {
        let mut watch = LossWatch::default();
        let start = Instant::now();
        let mut at = |milliseconds, count| {
            watch.moved(start + Duration::from_millis(milliseconds), || vec![("a", count), ("b", 0)])
        };
        assert_eq!(at(0, 0), []);
        assert_eq!(at(1000, 5), [("a", 5)]);
        assert_eq!(at(2000, 6), []);
        assert_eq!(at(11_000, 9), [("a", 4)]);
        assert_eq!(at(21_000, 9), []);
        assert_eq!(at(22_000, 10), [("a", 1)]);
    }

    #[test]
    fn a_lost_reason_and_a_late_record_are_no_lost_amount() {
        let mended = vec![("end_reason_unknown", 3), ("announce_failed", 1), ("read_failed", 2)];
        assert!(are_mended(&mended));
        assert!(!are_mended(&[mended, vec![("hook_skipped", 1)]].concat()));
    }

    #[test]
    fn the_counters_are_not_read_for_every_batch() {
        let mut watch = LossWatch::default();
        let start = Instant::now();
        assert_eq!(watch.moved(start, Losses::new), []);
        watch.moved(start + Duration::from_millis(999), || panic!("read too soon"));
    }
}
