//! What the netlink source could not tell, by reason.

use std::sync::atomic::{AtomicU64, Ordering};

/// Counted by the worker, read by anyone.
#[derive(Debug, Default)]
pub(super) struct LossCounters {
    /// An event socket overflowed; the kernel does not say how many events that were. Destroy events are repeated
    /// by the kernel, new flows are found by the dump that follows.
    pub(super) overflow: AtomicU64,
    /// Messages that made no sense.
    pub(super) malformed: AtomicU64,
    /// Flows seen in dumps and not reported because `max_flows` are known already.
    pub(super) table_full: AtomicU64,
    /// Dumps that failed; the next one makes good for it.
    pub(super) dump_failed: AtomicU64,
    /// Namespaces that could not be entered or listened to.
    pub(super) namespace_refused: AtomicU64,
    /// Namespaces in which the kernel tells of no flow that begins or ends: only dumps show them.
    pub(super) events_off: AtomicU64,
}

impl LossCounters {
    pub(super) fn totals(&self) -> Vec<(&'static str, u64)> {
        [
            ("netlink_overflow", &self.overflow),
            ("netlink_malformed", &self.malformed),
            ("netlink_table_full", &self.table_full),
            ("netlink_dump_failed", &self.dump_failed),
            ("netlink_namespace_refused", &self.namespace_refused),
            ("netlink_events_off", &self.events_off),
        ]
        .map(|(reason, counter)| (reason, counter.load(Ordering::Relaxed)))
        .to_vec()
    }
}

/// Counts one.
pub(super) fn count(counter: &AtomicU64) {
    counter.fetch_add(1, Ordering::Relaxed);
}
