//! What a sink has and nobody knows to be delivered yet.

use std::time::Duration;

use super::Sum;

/// What a sink took in and has neither delivered nor given up: in memory, under way or in its spool.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Waiting {
    /// Records.
    pub records: u64,
    /// What their deltas add up to; flows are last records.
    pub moved: Sum,
    /// For how long the oldest of it has waited; nothing where nothing waits.
    pub oldest: Duration,
}

impl Waiting {
    /// For how long the oldest of it has waited, in whole milliseconds.
    #[must_use]
    pub fn oldest_ms(&self) -> u64 {
        u64::try_from(self.oldest.as_millis()).unwrap_or(u64::MAX)
    }

    /// What of it is somewhere else than in a part of it.
    #[must_use]
    pub fn beyond(self, records: u64, moved: Sum) -> Self {
        let records = self.records.saturating_sub(records);
        let oldest = if records == 0 { Duration::ZERO } else { self.oldest };
        Self { records, moved: self.moved.beyond(moved), oldest }
    }
}
