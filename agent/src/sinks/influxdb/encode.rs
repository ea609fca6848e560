//! Points and records as lines.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use crate::model::{Record, RecordKind};
use crate::pipeline::{Item, Point, Sums, TagName};

use super::super::draft::{Line, Said};
use super::super::names::protocol_name;
use super::line::{Key, append, escape};

/// What all lines of a sink have in common.
#[derive(Clone, Debug)]
pub struct Series {
    /// The measurement, escaped.
    measurement: Said,
    /// The tag `host` with its comma.
    pub(super) host: Said,
    /// How far behind the start of its interval a point stands.
    offset_ns: i64,
}

impl Series {
    /// The series of one run of the agent, which was born at that moment. `interval` is the length of its points'
    /// intervals.
    ///
    /// A point stands in the first tenth of its interval, at the same place in all intervals of a run. Another run, even
    /// one within the same interval or after the clock was set back, has another place, so it overwrites no point of
    /// an earlier one: where the place is tells the nanosecond in which the run began. Another agent has another host.
    #[must_use]
    pub fn new(measurement: &str, host: &str, interval: Duration, born: SystemTime) -> Self {
        let born = born.duration_since(UNIX_EPOCH).unwrap_or_default().as_nanos();
        let tenth = (interval / 10).as_nanos().max(1);
        let host = if host.is_empty() { "unknown" } else { host };
        Self {
            measurement: Said::new(escape(measurement).as_bytes()),
            host: Said::new(format!(",host={}", escape(host)).as_bytes()),
            offset_ns: i64::try_from(born % tenth).unwrap_or_default(),
        }
    }
}

/// What can be a line.
pub trait ToLine: Item {
    /// Appends its line.
    fn to_line(&self, series: &Series, out: &mut Vec<u8>);
}

impl ToLine for Point {
    fn to_line(&self, series: &Series, out: &mut Vec<u8>) {
        append(out, |line| {
            line.said(&series.measurement);
            // In the order of their names, as the database wants it for speed.
            let before_host = self.group.tags.partition_point(|(name, _)| *name < AFTER_HOST);
            let (before, after) = self.group.tags.split_at(before_host);
            before.iter().for_each(|(name, value)| line.tag(key(*name), value));
            line.said(&series.host);
            after.iter().for_each(|(name, value)| line.tag(key(*name), value));
            moved(line, &self.sums, " destination_bytes=");
            lived(line, &self.sums, ",flows_ended=");
            line.field(",open_flows=", self.open_flows);
            line.timestamp(self.start_ns.saturating_add(series.offset_ns));
        });
    }
}

impl ToLine for Record {
    /// A series for each flow. The last two bits of the timestamp tell which moment of the flow's life it is, so that
    /// a flow that begins and ends at once has two points.
    fn to_line(&self, series: &Series, out: &mut Vec<u8>) {
        append(out, |line| {
            line.said(&series.measurement);
            tags_of_flow(line, self, series);
            let sums = Sums::of(self);
            if self.flags.no_counters {
                lived(line, &sums, " flows_ended=");
            } else {
                moved(line, &sums, " destination_bytes=");
                lived(line, &sums, ",flows_ended=");
            }
            let moment = match self.kind {
                RecordKind::New => 0,
                RecordKind::Update => 1,
                RecordKind::End => 2,
            };
            line.timestamp(self.observed_ns & !3 | moment);
        });
    }
}

/// The first tag behind `host`.
const AFTER_HOST: TagName = TagName::Local;

const fn key(name: TagName) -> Key {
    match name {
        TagName::Direction => const { Key::new(",direction=") },
        TagName::Dst => const { Key::new(",dst=") },
        TagName::Local => const { Key::new(",local=") },
        TagName::Mark => const { Key::new(",mark=") },
        TagName::Netns => const { Key::new(",netns=") },
        TagName::Port => const { Key::new(",port=") },
        TagName::Proto => const { Key::new(",proto=") },
        TagName::Remote => const { Key::new(",remote=") },
        TagName::Src => const { Key::new(",src=") },
        TagName::Zone => const { Key::new(",zone=") },
    }
}

#[inline(always)]
fn tags_of_flow(line: &mut Line<'_>, record: &Record, series: &Series) {
    let tuple = &record.original;
    line.raw(",dst=");
    line.address(tuple.destination());
    if tuple.has_ports() {
        line.number(",dst_port=", u64::from(tuple.dst_port));
    }
    line.raw(",flow_id=");
    line.hex(record.flow_id.0);
    line.said(&series.host);
    if record.mark != 0 {
        line.number(",mark=", u64::from(record.mark));
    }
    match protocol_name(tuple.protocol) {
        Some(name) => {
            line.raw(",proto=");
            line.text(name.as_bytes());
        }
        None => line.number(",proto=", u64::from(tuple.protocol)),
    }
    line.raw(",src=");
    line.address(tuple.source());
    if tuple.has_ports() {
        line.number(",src_port=", u64::from(tuple.src_port));
    }
    if record.zone != 0 {
        line.number(",zone=", u64::from(record.zone));
    }
}

/// Bytes and packets.
#[inline(always)]
fn moved(line: &mut Line<'_>, sums: &Sums, first: &'static str) {
    line.field(first, sums.destination_bytes);
    line.field(",destination_packets=", sums.destination_packets);
    line.field(",source_bytes=", sums.source_bytes);
    line.field(",source_packets=", sums.source_packets);
}

/// Flows, and how long they lived.
#[inline(always)]
fn lived(line: &mut Line<'_>, sums: &Sums, first: &'static str) {
    line.field(first, sums.flows_ended);
    line.field(",flows_started=", sums.flows_started);
    line.field(",connection_time_ns=", sums.connection_time_ns);
}
