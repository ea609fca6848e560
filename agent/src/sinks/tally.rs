//! What a sink did so far, counted where its task and its owner both see it: also when one of them is stuck.

use std::io;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use crate::model::{Record, RecordKind, Sum, Waiting};

/// What the sink did in its life.
#[derive(Debug, Default)]
pub struct SinkReport {
    /// Records written.
    pub written: u64,
    /// Records dropped because the queue was full, less `dropped_ends`: later records of their flows hold the totals.
    pub dropped: u64,
    /// Last records of flows, dropped because the queue was full.
    pub dropped_ends: u64,
    /// Records that should have been written and were not: because the reader has gone, because of `error`, or because
    /// nobody waited any longer.
    pub unwritten: u64,
    /// What the deltas of all dropped records add up to; flows are last records.
    pub dropped_sum: Sum,
    /// The same of unwritten records.
    pub unwritten_sum: Sum,
    /// The reader of the output went away: nobody wants more.
    pub broken_pipe: bool,
    /// Why writing failed otherwise.
    pub error: Option<io::Error>,
    /// What each configured sink has lost, where there are any; that is in none of the figures above.
    pub sinks: Vec<SinkLosses>,
}

/// What a configured sink has lost: the reason, which names the sink, how many records, and what their deltas add up to;
/// and what it has not delivered yet.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SinkLosses {
    /// What the sink is called.
    pub sink: &'static str,
    /// For certain.
    pub lost: Vec<(&'static str, u64, Sum)>,
    /// If nobody waits any longer.
    pub unwritten: Vec<(&'static str, u64, Sum)>,
    /// What has no fate yet, `unwritten` included.
    pub waiting: Waiting,
    /// Records on disk, which the next agent delivers.
    pub spooled: u64,
    /// What of that an earlier agent had counted as its own.
    pub inherited: Sum,
    /// What makes the amount uncertain, and how often it happened.
    pub doubts: Vec<(&'static str, u64)>,
    /// Records that were sent to where nobody says what arrived; with the reason by which the audit doubts them.
    pub unacknowledged: Option<(&'static str, u64)>,
}

/// The counters of a running sink.
#[derive(Debug, Default)]
pub struct Tally {
    taken: AtomicU64,
    written: AtomicU64,
    dropped: AtomicU64,
    dropped_ends: AtomicU64,
    taken_sum: AtomicSum,
    written_sum: AtomicSum,
    dropped_sum: AtomicSum,
    reader_left: AtomicBool,
    /// When the batch came that is being written.
    writing_since: Mutex<Option<Instant>>,
}

/// A sum that several threads see. Its figures are read one after the other.
#[derive(Debug, Default)]
struct AtomicSum {
    flows: AtomicU64,
    packets: AtomicU64,
    bytes: AtomicU64,
}

impl AtomicSum {
    fn add(&self, sum: Sum) {
        self.flows.fetch_add(sum.flows, Relaxed);
        self.packets.fetch_add(sum.packets, Relaxed);
        self.bytes.fetch_add(sum.bytes, Relaxed);
    }

    fn read(&self) -> Sum {
        Sum {
            flows: self.flows.load(Relaxed),
            packets: self.packets.load(Relaxed),
            bytes: self.bytes.load(Relaxed),
        }
    }
}

impl Tally {
    /// What was done until now. What is in the queue still is `unwritten`.
    #[must_use]
    pub fn report(&self) -> SinkReport {
        // In this order: what is written was taken before.
        let written = self.written.load(Relaxed);
        let unwritten = self.taken.load(Relaxed).saturating_sub(written);
        let written_sum = self.written_sum.read();
        let unwritten_sum = self.taken_sum.read().beyond(written_sum);
        let broken_pipe = self.reader_left.load(Relaxed);
        SinkReport {
            written,
            dropped: self.dropped.load(Relaxed),
            dropped_ends: self.dropped_ends.load(Relaxed),
            unwritten,
            dropped_sum: self.dropped_sum.read(),
            unwritten_sum,
            broken_pipe,
            error: None,
            sinks: Vec::new(),
        }
    }

    pub(super) fn count_taken(&self, records: &[Record]) {
        self.taken.fetch_add(records.len() as u64, Relaxed);
        self.taken_sum.add(deltas(records));
    }

    pub(super) fn count_written(&self, records: &[Record]) {
        self.written_sum.add(deltas(records));
        self.written.fetch_add(records.len() as u64, Relaxed);
    }

    /// Counts what is missing in `kept`.
    pub fn count_dropped(&self, offered: &[Record], kept: &[Record]) {
        let ends = ends(offered).saturating_sub(ends(kept));
        let others = offered.len().saturating_sub(kept.len()).saturating_sub(ends);
        self.dropped_ends.fetch_add(ends as u64, Relaxed);
        self.dropped.fetch_add(others as u64, Relaxed);
        self.dropped_sum.add(deltas(offered).beyond(deltas(kept)));
    }

    /// Notes when the batch came that is being written now, if any.
    pub(super) fn note_writing(&self, since: Option<Instant>) {
        *self.writing_since.lock().unwrap_or_else(PoisonError::into_inner) = since;
    }

    /// For how long the oldest waits that is to be written.
    #[must_use]
    pub fn oldest(&self) -> Duration {
        let since = *self.writing_since.lock().unwrap_or_else(PoisonError::into_inner);
        since.map_or(Duration::ZERO, |since| since.elapsed())
    }

    pub(super) fn note_error(&self, error: &io::Error) {
        self.reader_left.store(error.kind() == io::ErrorKind::BrokenPipe, Relaxed);
    }
}

/// How many of the records are the last of their flows.
pub(super) fn ends(records: &[Record]) -> usize {
    records.iter().filter(|record| record.kind == RecordKind::End).count()
}

/// What the deltas add up to; flows are last records.
#[must_use]
pub fn deltas(records: &[Record]) -> Sum {
    let one = |record: &Record| Sum {
        flows: u64::from(record.kind == RecordKind::End),
        ..Sum::moved(&record.delta)
    };
    records.iter().map(one).fold(Sum::default(), |sum, one| sum + one)
}
