//! What a group moved in an interval.

use std::sync::Arc;

use super::super::{Item, Weight};
use crate::model::{Record, RecordKind, Sum};

/// What a group can be told apart by; the names are those of tags.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum TagName {
    /// Who opened, as seen from the internal networks.
    Direction,
    /// The destination of the opener's packets.
    Dst,
    /// The end within the internal networks; the opener where both or none are.
    Local,
    /// The connection mark.
    Mark,
    /// The network namespace.
    Netns,
    /// The destination port, by number or service.
    Port,
    /// The IP protocol.
    Proto,
    /// The other end than [`TagName::Local`].
    Remote,
    /// The opener.
    Src,
    /// The conntrack zone.
    Zone,
}

impl TagName {
    /// The name of the tag.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Direction => "direction",
            Self::Dst => "dst",
            Self::Local => "local",
            Self::Mark => "mark",
            Self::Netns => "netns",
            Self::Port => "port",
            Self::Proto => "proto",
            Self::Remote => "remote",
            Self::Src => "src",
            Self::Zone => "zone",
        }
    }
}

/// A group of flows: what its series is called.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Group {
    /// Different for each series of this process, also where the same group comes back.
    pub series: u64,
    /// By ascending name of the tag. A tag that means nothing to a group, like the port of a ping, is absent. All are
    /// `other` in the group of all that has no series of its own.
    pub tags: Box<[(TagName, Box<str>)]>,
    /// It holds all groups that have no series of their own.
    pub is_other: bool,
}

/// Sums over the records of a group. Adding is checked: nothing wraps around.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Sums {
    /// Records that were added up.
    pub records: u64,
    /// Bytes from the openers.
    pub source_bytes: u64,
    /// Packets from the openers.
    pub source_packets: u64,
    /// Bytes towards the openers.
    pub destination_bytes: u64,
    /// Packets towards the openers.
    pub destination_packets: u64,
    /// Flows whose first record this was; not those that the agent met in the middle of their life.
    pub flows_started: u64,
    /// Flows that ended.
    pub flows_ended: u64,
    /// How long the flows that ended had lived, nanoseconds.
    pub connection_time_ns: u64,
}

impl Sums {
    /// Those of one record.
    #[must_use]
    pub const fn of(record: &Record) -> Self {
        let ended = matches!(record.kind, RecordKind::End);
        let started = matches!(record.kind, RecordKind::New) && !record.flags.first_seen_midlife;
        let delta = &record.delta;
        Self {
            records: 1,
            source_bytes: delta.original.bytes,
            source_packets: delta.original.packets,
            destination_bytes: delta.reply.bytes,
            destination_packets: delta.reply.packets,
            flows_started: started as u64,
            flows_ended: ended as u64,
            connection_time_ns: if ended { record.duration_ns } else { 0 },
        }
    }

    /// Both together; `None` where a figure does not fit.
    #[must_use]
    pub fn checked_add(self, other: Self) -> Option<Self> {
        Some(Self {
            records: self.records.checked_add(other.records)?,
            source_bytes: self.source_bytes.checked_add(other.source_bytes)?,
            source_packets: self.source_packets.checked_add(other.source_packets)?,
            destination_bytes: self.destination_bytes.checked_add(other.destination_bytes)?,
            destination_packets: self.destination_packets.checked_add(other.destination_packets)?,
            flows_started: self.flows_started.checked_add(other.flows_started)?,
            flows_ended: self.flows_ended.checked_add(other.flows_ended)?,
            connection_time_ns: self.connection_time_ns.checked_add(other.connection_time_ns)?,
        })
    }

    /// Whether no record was added.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.records == 0
    }
}

/// What a group moved in an interval. No two points of a series begin at the same time.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Point {
    /// The group.
    pub group: Arc<Group>,
    /// When the interval begins: wall clock, nanoseconds since the Unix epoch.
    pub start_ns: i64,
    /// When it ends, likewise; after `start_ns`.
    pub end_ns: i64,
    /// What was added up in it.
    pub sums: Sums,
    /// Flows of the group that were open at its end.
    pub open_flows: u64,
}

impl Item for Point {
    type Key = u64;

    fn key(&self) -> u64 {
        self.group.series
    }

    /// The interval grows to hold both; the later point knows how many flows are open.
    fn merge(&mut self, later: &Self) -> bool {
        let Some(sums) = self.sums.checked_add(later.sums) else { return false };
        self.sums = sums;
        self.open_flows = later.open_flows;
        self.start_ns = self.start_ns.min(later.start_ns);
        self.end_ns = self.end_ns.max(later.end_ns);
        true
    }

    /// Every point has sums that come in no other one: none has more right to the room that is kept for ends.
    fn is_last(&self) -> bool {
        false
    }

    fn weight(&self) -> Weight {
        let Sums { records, flows_ended, .. } = self.sums;
        let packets = self.sums.source_packets.wrapping_add(self.sums.destination_packets);
        let bytes = self.sums.source_bytes.wrapping_add(self.sums.destination_bytes);
        Weight { records, ends: flows_ended, moved: Sum { flows: flows_ended, packets, bytes } }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Totals;
    use crate::sinks::samples::{counter, end_of_tcp};

    fn point(start_ns: i64, bytes: u64, open_flows: u64) -> Point {
        let tags = Box::new([(TagName::Src, "10.0.0.0/24".into())]);
        Point {
            group: Arc::new(Group { series: 7, tags, is_other: false }),
            start_ns,
            end_ns: start_ns + 10,
            sums: Sums { records: 1, source_bytes: bytes, flows_ended: 2, ..Sums::default() },
            open_flows,
        }
    }

    #[test]
    fn points_of_a_series_merge_to_one_that_spans_both() {
        let mut merged = point(100, 5, 3);
        assert!(merged.merge(&point(110, 7, 1)));
        assert_eq!((merged.start_ns, merged.end_ns, merged.open_flows), (100, 120, 1));
        assert_eq!((merged.sums.source_bytes, merged.weight().ends, merged.weight().records), (12, 4, 2));
    }

    #[test]
    fn a_sum_that_does_not_fit_changes_nothing() {
        let mut full = point(100, u64::MAX, 3);
        assert!(!full.merge(&point(110, 1, 1)));
        assert_eq!(full, point(100, u64::MAX, 3));
    }

    #[test]
    fn a_point_weighs_what_its_records_weigh() {
        let mut end = end_of_tcp();
        end.delta = Totals { original: counter(3, 300), reply: counter(4, 500) };
        let sums = Sums::of(&end);
        assert_eq!(Point { sums, ..point(0, 0, 0) }.weight(), end.weight());
        assert_eq!((sums.flows_started, sums.flows_ended, sums.connection_time_ns), (0, 1, end.duration_ns));
    }

    #[test]
    fn a_flow_that_was_running_before_was_not_started() {
        let mut record = Record { kind: RecordKind::New, ..end_of_tcp() };
        assert_eq!(Sums::of(&record).flows_started, 1);
        record.flags.first_seen_midlife = true;
        assert_eq!(Sums::of(&record).flows_started, 0);
    }

    #[test]
    fn tags_are_ordered_by_name() {
        use TagName::{Direction, Dst, Local, Mark, Netns, Port, Proto, Remote, Src, Zone};
        let mut all = [Zone, Src, Remote, Proto, Port, Netns, Mark, Local, Direction, Dst];
        all.sort();
        assert!(all.is_sorted_by_key(|tag| tag.name()), "{all:?}");
    }
}
