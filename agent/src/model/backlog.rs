//! Batches of records on their way to an output.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::Record;

/// Records that several hold. A vector, so that the last one who does can use its memory again.
pub type Records = Arc<Vec<Record>>;

/// A batch and its number.
pub type NumberedBatch = (u64, Records);

/// The batches that were handed to an output and are not written yet, in their order.
#[derive(Debug, Default)]
pub struct Backlog {
    batches: Mutex<VecDeque<NumberedBatch>>,
}

impl Backlog {
    /// Notes a batch that is handed over.
    pub fn push(&self, number: u64, records: Records) {
        self.lock().push_back((number, records));
    }

    /// Notes that the oldest batch is written.
    pub fn pop(&self) {
        self.lock().pop_front();
    }

    /// Notes that all is written that is older than `oldest`, or simply all. Returns how many records that were.
    pub fn settle(&self, oldest: Option<u64>) -> usize {
        let mut batches = self.lock();
        let is_written = |number: u64| oldest.is_none_or(|oldest| number < oldest);
        let mut records = 0;
        while batches.front().is_some_and(|(number, _)| is_written(*number)) {
            records += batches.pop_front().map_or(0, |(_, batch)| batch.len());
        }
        records
    }

    /// The number of the oldest one.
    #[must_use]
    pub fn oldest(&self) -> Option<u64> {
        self.lock().front().map(|(number, _)| *number)
    }

    /// All of them.
    #[must_use]
    pub fn batches(&self) -> Vec<NumberedBatch> {
        self.lock().iter().cloned().collect()
    }

    fn lock(&self) -> MutexGuard<'_, VecDeque<NumberedBatch>> {
        self.batches.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
