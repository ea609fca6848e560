//! What a sink did so far, counted where its task and its owner both see it: also when one of them is stuck.

use std::io;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};

use crate::model::{Record, RecordKind};

/// What the sink did in its life.
#[derive(Debug, Default)]
pub struct SinkReport {
    /// Records written.
    pub written: u64,
    /// Records dropped because the queue was full, less `dropped_ends`: later records of their flows hold the totals.
    pub dropped: u64,
    /// Last records of flows, dropped because the queue was full.
    pub dropped_ends: u64,
    /// Records that should have been written and were not, because of `error` or because nobody waited any longer.
    pub unwritten: u64,
    /// The reader of the output went away: nobody wants more.
    pub broken_pipe: bool,
    /// Why writing failed otherwise.
    pub error: Option<io::Error>,
}

/// The counters of a running sink.
#[derive(Debug, Default)]
pub struct Tally {
    taken: AtomicU64,
    written: AtomicU64,
    dropped: AtomicU64,
    dropped_ends: AtomicU64,
    reader_left: AtomicBool,
}

impl Tally {
    /// What was done until now. What is in the queue still is `unwritten`.
    #[must_use]
    pub fn report(&self) -> SinkReport {
        // In this order: what is written was taken before.
        let written = self.written.load(Relaxed);
        let unwritten = self.taken.load(Relaxed).saturating_sub(written);
        let broken_pipe = self.reader_left.load(Relaxed);
        SinkReport {
            written,
            dropped: self.dropped.load(Relaxed),
            dropped_ends: self.dropped_ends.load(Relaxed),
            unwritten: if broken_pipe { 0 } else { unwritten },
            broken_pipe,
            error: None,
        }
    }

    pub(super) fn count_taken(&self, records: usize) {
        self.taken.fetch_add(records as u64, Relaxed);
    }

    pub(super) fn count_written(&self, records: usize) {
        self.written.fetch_add(records as u64, Relaxed);
    }

    /// Counts what is missing in `kept`.
    pub(super) fn count_dropped(&self, offered: &[Record], kept: &[Record]) {
        let ends = ends(offered).saturating_sub(ends(kept));
        let others = offered.len().saturating_sub(kept.len()).saturating_sub(ends);
        self.dropped_ends.fetch_add(ends as u64, Relaxed);
        self.dropped.fetch_add(others as u64, Relaxed);
    }

    pub(super) fn note_error(&self, error: &io::Error) {
        self.reader_left.store(error.kind() == io::ErrorKind::BrokenPipe, Relaxed);
    }
}

/// How many of the records are the last of their flows.
pub(super) fn ends(records: &[Record]) -> usize {
    records.iter().filter(|record| record.kind == RecordKind::End).count()
}
