//! Adds up records by group and interval.

use std::sync::Arc;
use std::time::Duration;

use super::grouping::Grouping;
use super::interval::Interval;
use super::key::Keys;
use super::open_flows::{Moves, OpenFlows, Seat};
use super::point::{Point, Sums};
use super::saved;
use super::series::{AllSeries, OTHER};
use crate::model::Record;
use crate::pipeline::filter::NetnsName;
use crate::pipeline::networks::Networks;

/// How records are added up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AggregateConfig {
    /// By what.
    pub grouping: Grouping,
    /// Over which time.
    pub interval: Duration,
    /// Distinct series that are written within `series_window` at most.
    pub max_series: u32,
    /// For how long a series counts after its last point.
    pub series_window: Duration,
}

impl AggregateConfig {
    /// What holds when nothing is said.
    #[must_use]
    pub const fn default_for(has_networks: bool) -> Self {
        Self {
            grouping: Grouping::default_for(has_networks),
            interval: Duration::from_secs(2),
            max_series: 10_000,
            series_window: Duration::from_secs(86_400),
        }
    }
}

/// Adds up records. What it takes in comes out in points, each record in exactly one.
///
/// A record belongs to the interval in which it is taken in: one that comes late counts then.
pub struct Aggregator {
    keys: Keys,
    fingerprint: u64,
    interval: Interval,
    length: i64,
    series: AllSeries,
    flows: OpenFlows,
    /// The latest time that was told.
    now: i64,
}

impl std::fmt::Debug for Aggregator {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Aggregator").field("interval", &self.interval).finish_non_exhaustive()
    }
}

impl Aggregator {
    /// Begins at `now_ns` of the wall clock. Flows beyond `max_flows` are in no gauge of open flows.
    #[must_use]
    pub fn new(
        config: &AggregateConfig,
        networks: Arc<Networks>,
        netns_name: NetnsName,
        max_flows: usize,
        now_ns: i64,
    ) -> Self {
        let length = nanoseconds(config.interval);
        let window = nanoseconds(config.series_window);
        let tags = config.grouping.tags();
        Self {
            keys: Keys::new(config.grouping, networks, netns_name),
            fingerprint: config.grouping.fingerprint(),
            interval: Interval::new(length, now_ns),
            length,
            series: AllSeries::new(config.max_series as usize, window, &tags),
            flows: OpenFlows::new(max_flows),
            now: now_ns,
        }
    }

    /// Adds records to the present interval. Points come out only where a sum has no room for more.
    pub fn take(&mut self, records: &[Record], out: &mut Vec<Point>) {
        for record in records {
            self.add(record, out);
        }
    }

    /// Has a flow that lives already counted among those that are open, by a record that brings nothing.
    pub fn meet(&mut self, living: &Record) {
        let position = self.position(living);
        self.seat(living, position);
    }

    /// Tells the time by the wall clock; to be called often, also when nothing comes. When the interval is over its
    /// points come out.
    pub fn advance(&mut self, now_ns: i64, out: &mut Vec<Point>) {
        self.now = now_ns;
        if self.interval.is_over(now_ns) {
            self.close(out);
        }
    }

    /// What the present interval has until now, as the last points.
    pub fn finish(mut self, now_ns: i64, out: &mut Vec<Point>) {
        self.now = now_ns;
        self.close(out);
    }

    /// The series that count against the limit, to be kept in a file before the points that came with it are delivered.
    pub fn all_series(&mut self) -> Vec<u8> {
        saved::encode(self.fingerprint, &self.series.take_all(self.interval.start()))
    }

    /// What changed since they were asked for, to be appended to that file, and empty if nothing did; `None` when that
    /// is not known, and the file has to be written anew.
    pub fn series_changes(&mut self) -> Option<Vec<u8>> {
        let changes = self.series.take_changes(self.interval.start())?;
        Some(if changes.is_empty() { Vec::new() } else { saved::encode_changes(&changes) })
    }

    /// Takes in the file of an earlier process; to be called before the first record. Which groups were kept are kept
    /// again.
    ///
    /// # Errors
    /// It is damaged from the begin, or of an unknown version.
    pub fn restore_series(&mut self, bytes: &[u8]) -> Result<saved::Restored, saved::SavedError> {
        let (series, restored) = saved::decode(bytes, self.fingerprint, self.now)?;
        self.series.restore(series, self.now);
        Ok(restored)
    }

    /// Series that count against the limit, that of all others included.
    #[must_use]
    pub fn charged(&self) -> usize {
        self.series.charged() + 1
    }

    fn add(&mut self, record: &Record, out: &mut Vec<Point>) {
        let position = self.position(record);
        let one = Sums::of(record);
        let sum = self.series.get_mut(position).and_then(|series| series.sums.checked_add(one));
        match (sum, self.series.get_mut(position)) {
            (Some(sum), Some(series)) => series.sums = sum,
            // What there is goes out, and a new interval begins at once: this one record fits in any case.
            _ => {
                self.close(out);
                return self.add_alone(record, one);
            }
        }
        self.seat(record, position);
    }

    fn add_alone(&mut self, record: &Record, sums: Sums) {
        let position = self.position(record);
        if let Some(series) = self.series.get_mut(position) {
            series.sums = sums;
        }
        self.seat(record, position);
    }

    /// Counts the flow of a record where it is open.
    fn seat(&mut self, record: &Record, position: u32) {
        let seat = self.series.seat_of(position);
        let moves = self.flows.record(record, seat);
        self.count_flows(moves);
    }

    /// The series of a record.
    fn position(&mut self, record: &Record) -> u32 {
        let Some(key) = self.keys.key(record) else { return OTHER };
        let bytes = record.delta.original.bytes.saturating_add(record.delta.reply.bytes);
        let known = self.series.find(&key);
        let position = known.or_else(|| self.keep(key, record)).unwrap_or(OTHER);
        self.series.weigh(key, position, bytes);
        position
    }

    fn keep(&mut self, key: super::key::Key, record: &Record) -> Option<u32> {
        if !self.series.has_room(&key) {
            return None;
        }
        let tags = self.keys.tags(record);
        // A namespace may get its name at any time: the tags must be those of the key.
        let is_same = self.keys.key(record) == Some(key);
        is_same.then(|| self.series.keep(key, tags, self.interval.start()))
    }

    fn count_flows(&mut self, moves: Moves) {
        let mut change = |seat: Option<Seat>, by: fn(u64) -> u64| {
            if let Some(series) = seat.and_then(|seat| self.series.at(seat)) {
                series.open_flows = by(series.open_flows);
            }
        };
        change(moves.leaves, |flows| flows.saturating_sub(1));
        change(moves.enters, |flows| flows + 1);
    }

    /// Ends the interval, and goes on to the next one.
    fn close(&mut self, out: &mut Vec<Point>) {
        let (start_ns, end_ns) = (self.interval.start(), self.interval.end(self.now));
        for series in self.series.iter_mut() {
            if series.sums.is_empty() && series.open_flows == 0 {
                continue;
            }
            series.write(start_ns);
            let sums = std::mem::take(&mut series.sums);
            let group = Arc::clone(&series.group);
            out.push(Point { group, start_ns, end_ns, sums, open_flows: series.open_flows });
        }
        self.interval.advance(self.now);
        self.series.settle(self.interval.start(), self.length);
    }
}

fn nanoseconds(duration: Duration) -> i64 {
    i64::try_from(duration.as_nanos()).unwrap_or(i64::MAX)
}
