//! Since when requests wait in a spool, whose files do not say it.

use std::collections::{BTreeMap, VecDeque};

use tokio::time::Instant;

/// The moments at which the oldest item of each request came, for requests in the spool and for those that were taken out
/// of it and are not done.
///
/// A spool gives requests back in the order in which they went in, but for damaged ones, of which all that is known may be
/// how many records they held. So records are counted, and not requests.
#[derive(Debug, Default)]
pub(super) struct SpooledSince {
    /// With the number of records, oldest first.
    waiting: VecDeque<(Instant, u64)>,
    under_way: BTreeMap<Instant, usize>,
}

impl SpooledSince {
    /// A request goes in.
    pub(super) fn push(&mut self, since: Instant, records: u64) {
        self.waiting.push_back((since, records));
    }

    /// The one that went in last was not taken.
    pub(super) fn take_back(&mut self) {
        self.waiting.pop_back();
    }

    /// The oldest is taken out. Returns by what [`SpooledSince::end`] knows it.
    pub(super) fn begin(&mut self, records: u64) -> Option<Instant> {
        let (since, _) = *self.waiting.front()?;
        self.skip(records);
        *self.under_way.entry(since).or_default() += 1;
        Some(since)
    }

    /// So many of the oldest records are not there any more.
    pub(super) fn skip(&mut self, mut records: u64) {
        while let Some((_, held)) = self.waiting.front_mut() {
            if *held > records {
                *held -= records;
                return;
            }
            records -= *held;
            self.waiting.pop_front();
            if records == 0 {
                return;
            }
        }
    }

    /// A request that was taken out is done.
    pub(super) fn end(&mut self, since: Instant) {
        if let Some(count) = self.under_way.get_mut(&since) {
            *count = count.saturating_sub(1);
            if *count == 0 {
                self.under_way.remove(&since);
            }
        }
    }

    /// Since when the oldest of all that waits.
    pub(super) fn oldest(&self) -> Option<Instant> {
        let under_way = self.under_way.keys().next().copied();
        let waiting = self.waiting.front().map(|(since, _)| *since);
        [under_way, waiting].into_iter().flatten().min()
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn after(begin: Instant, seconds: u64) -> Instant {
        begin + Duration::from_secs(seconds)
    }

    #[test]
    fn the_oldest_is_the_first_that_is_not_done_in_whatever_order_they_end() {
        let (begin, mut since) = (Instant::now(), SpooledSince::default());
        (0..3).for_each(|second| since.push(after(begin, second), 10));
        let (first, second) = (since.begin(10).unwrap(), since.begin(10).unwrap());
        since.end(second);
        assert_eq!(since.oldest(), Some(begin));
        since.end(first);
        assert_eq!(since.oldest(), Some(after(begin, 2)));
        let third = since.begin(10).unwrap();
        since.end(third);
        assert_eq!(since.oldest(), None);
    }

    #[test]
    fn what_is_damaged_is_passed_over_and_what_was_not_taken_is_forgotten() {
        let (begin, mut since) = (Instant::now(), SpooledSince::default());
        // What an earlier agent has left is one thing here, whatever number of requests that is.
        since.push(begin, 25);
        since.push(after(begin, 5), 10);
        since.push(after(begin, 6), 10);
        since.take_back();
        let first = since.begin(10).unwrap();
        since.skip(15);
        since.end(first);
        assert_eq!(since.oldest(), Some(after(begin, 5)));
        assert_eq!(since.begin(10), Some(after(begin, 5)));
        assert_eq!(since.begin(1), None);
    }
}
