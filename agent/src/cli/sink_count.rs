//! What one sink has done, and what was lost there.

use crate::audit::READER_GONE;
use crate::model::{Backlog, Record, Waiting};
use crate::pipeline::{self, Inlet, Item, Weight};
use crate::sinks::stdio::SinkHandle;
use crate::sinks::tally::{SinkLosses, SinkReport, Tally};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// What one sink did, which outlives the way to it.
#[derive(Clone, Debug)]
pub(super) struct Count {
    reasons: Reasons,
    source: CountSource,
}

#[derive(Clone, Debug)]
enum CountSource {
    Stdio { tally: Arc<Tally>, backlog: Arc<Backlog>, missed: Arc<Mutex<Missed>> },
    Driven(Arc<dyn Inlet>, Acknowledged),
}

/// Whether the server says what it has stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Acknowledged {
    Yes,
    /// What was sent counts as delivered, and may have been lost.
    No,
}

/// What came after nothing could be written any more.
#[derive(Clone, Copy, Debug, Default)]
struct Missed {
    has_closed: bool,
    weight: Weight,
}

/// What a sink's losses are called: as `archive.queue_full`.
#[derive(Clone, Copy, Debug)]
struct Reasons {
    sink: &'static str,
    queue_full: &'static str,
    queue_full_ends: &'static str,
    given_up: &'static str,
    unwritten: &'static str,
    reader_gone: &'static str,
    spool_damaged: &'static str,
    spool_missing: &'static str,
    unacknowledged: &'static str,
}

impl Count {
    /// Of a sink that is a standard stream.
    pub(super) fn of_stdio(name: &str, handle: &SinkHandle) -> Self {
        let (tally, backlog) = (handle.tally(), handle.backlog());
        Self {
            reasons: Reasons::of(name),
            source: CountSource::Stdio { tally, backlog, missed: Arc::default() },
        }
    }

    /// Of a sink with a driver.
    pub(super) fn of_driver(name: &str, inlet: Arc<dyn Inlet>, acknowledged: Acknowledged) -> Self {
        Self { reasons: Reasons::of(name), source: CountSource::Driven(inlet, acknowledged) }
    }

    /// Notes that a standard stream takes nothing any more, and says so.
    pub(super) fn close(&self, name: &str) {
        let CountSource::Stdio { tally, missed, .. } = &self.source else { return };
        lock(missed).has_closed = true;
        if tally.report().broken_pipe {
            tracing::info!("sink {name}: its reader has gone");
        } else {
            tracing::error!("sink {name}: nothing can be written any more");
        }
    }

    /// The number of the oldest batch of which something is to be delivered still.
    pub(super) fn oldest(&self) -> Option<u64> {
        match &self.source {
            // It will never write what it has.
            CountSource::Stdio { missed, .. } if lock(missed).has_closed => None,
            CountSource::Stdio { backlog, .. } => backlog.oldest(),
            CountSource::Driven(handle, _) => handle.oldest(),
        }
    }

    /// Counts records that come after nothing could be written any more; `false` as long as it can.
    pub(super) fn miss(&self, records: &[Record]) -> bool {
        let CountSource::Stdio { missed, .. } = &self.source else { return false };
        let mut missed = lock(missed);
        if missed.has_closed {
            records.iter().for_each(|record| missed.weight += record.weight());
        }
        missed.has_closed
    }

    /// Records delivered, whether the reader has gone, and what was lost.
    pub(super) fn report(&self) -> (u64, bool, SinkLosses) {
        match &self.source {
            CountSource::Stdio { tally, missed, .. } => {
                let report = tally.report();
                let Missed { has_closed, weight: missed } = *lock(missed);
                let mut losses = self.losses_of_stdio(&report, missed);
                // What will never be written does not wait.
                if !has_closed {
                    let (records, moved) = (report.unwritten, report.unwritten_sum);
                    losses.waiting = Waiting { records, moved, oldest: tally.oldest() };
                }
                (report.written, report.broken_pipe, losses)
            }
            CountSource::Driven(handle, acknowledged) => {
                let (report, waiting) = (handle.report(), handle.waiting());
                let losses = self.losses_of_driver(&report, *acknowledged);
                (report.delivered.records, false, SinkLosses { waiting, ..losses })
            }
        }
    }

    fn losses_of_stdio(&self, report: &SinkReport, missed: Weight) -> SinkLosses {
        let Reasons { sink, queue_full, queue_full_ends, unwritten, reader_gone, .. } = self.reasons;
        let lost = vec![
            (queue_full, report.dropped, report.dropped_sum),
            (queue_full_ends, report.dropped_ends, crate::model::Sum::default()),
        ];
        let sum = report.unwritten_sum + missed.moved;
        let reason = if report.broken_pipe { reader_gone } else { unwritten };
        let unwritten = vec![(reason, report.unwritten + missed.records, sum)];
        SinkLosses { sink, lost, unwritten, ..SinkLosses::default() }
    }

    fn losses_of_driver(&self, report: &pipeline::Report, acknowledged: Acknowledged) -> SinkLosses {
        let Reasons { sink, queue_full, queue_full_ends, given_up, unwritten, .. } = self.reasons;
        let Reasons { spool_damaged, spool_missing, unacknowledged, .. } = self.reasons;
        let pipeline::Report { dropped, given_up: refused, damaged, .. } = report;
        let left = report.unwritten();
        let lost = vec![
            (queue_full, dropped.records.saturating_sub(dropped.ends), dropped.moved),
            (queue_full_ends, dropped.ends, crate::model::Sum::default()),
            (given_up, refused.records, refused.moved),
            (spool_damaged, damaged.records, damaged.moved),
        ];
        let doubts = vec![(spool_missing, report.missing)];
        let is_unacknowledged = acknowledged == Acknowledged::No;
        let unacknowledged = is_unacknowledged.then_some((unacknowledged, report.delivered.records));
        let unwritten = vec![(unwritten, left.records, left.moved)];
        let (spooled, inherited) = (report.spooled.records, report.inherited.moved);
        let waiting = Waiting::default();
        SinkLosses { sink, lost, unwritten, waiting, spooled, inherited, doubts, unacknowledged }
    }
}

impl Reasons {
    fn of(name: &str) -> Self {
        Self {
            sink: Box::leak(name.to_owned().into_boxed_str()),
            queue_full: reason(name, "queue_full"),
            queue_full_ends: reason(name, "queue_full_ends"),
            given_up: reason(name, "given_up"),
            unwritten: reason(name, "unwritten"),
            reader_gone: reason(name, READER_GONE),
            spool_damaged: reason(name, "spool_damaged"),
            spool_missing: reason(name, "spool_missing"),
            unacknowledged: reason(name, "unacknowledged"),
        }
    }
}

/// Names and reasons are known for as long as the process lives, and there are eight reasons for each sink.
fn reason(sink: &str, what: &str) -> &'static str {
    Box::leak(format!("{sink}.{what}").into_boxed_str())
}

fn lock(missed: &Mutex<Missed>) -> MutexGuard<'_, Missed> {
    missed.lock().unwrap_or_else(PoisonError::into_inner)
}
