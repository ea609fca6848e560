//! Points and records as lines.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use crate::model::{Record, RecordKind};
use crate::pipeline::{Item, Point, Sums, TagName};

use super::super::names::protocol_name;
use super::line::{Line, escape};

/// What all lines of a sink have in common.
#[derive(Clone, Debug)]
pub struct Series {
    /// The measurement, escaped.
    measurement: Box<[u8]>,
    /// The tag `host` with its comma.
    pub(super) host: Box<[u8]>,
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
            measurement: escape(measurement).into_bytes().into(),
            host: format!(",host={}", escape(host)).into_bytes().into(),
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
        let mut line = Line::new(out);
        line.raw(&series.measurement);
        // In the order of their names, as the database wants it for speed.
        let before_host = self.group.tags.partition_point(|(name, _)| name.name() < "host");
        let (before, after) = self.group.tags.split_at(before_host);
        before.iter().for_each(|(name, value)| line.tag(key(*name), value));
        line.raw(&series.host);
        after.iter().for_each(|(name, value)| line.tag(key(*name), value));
        moved(&mut line, &self.sums, b" destination_bytes=");
        lived(&mut line, &self.sums, b",flows_ended=");
        line.field(b",open_flows=", self.open_flows);
        line.finish(self.start_ns.saturating_add(series.offset_ns));
    }
}

impl ToLine for Record {
    /// A series for each flow. The last two bits of the timestamp tell which moment of the flow's life it is, so that
    /// a flow that begins and ends at once has two points.
    fn to_line(&self, series: &Series, out: &mut Vec<u8>) {
        let mut line = Line::new(out);
        line.raw(&series.measurement);
        tags_of_flow(&mut line, self, series);
        let sums = Sums::of(self);
        if self.flags.no_counters {
            lived(&mut line, &sums, b" flows_ended=");
        } else {
            moved(&mut line, &sums, b" destination_bytes=");
            lived(&mut line, &sums, b",flows_ended=");
        }
        let moment = match self.kind {
            RecordKind::New => 0,
            RecordKind::Update => 1,
            RecordKind::End => 2,
        };
        line.finish(self.observed_ns & !3 | moment);
    }
}

const fn key(name: TagName) -> &'static [u8] {
    match name {
        TagName::Direction => b",direction=",
        TagName::Dst => b",dst=",
        TagName::Local => b",local=",
        TagName::Mark => b",mark=",
        TagName::Netns => b",netns=",
        TagName::Port => b",port=",
        TagName::Proto => b",proto=",
        TagName::Remote => b",remote=",
        TagName::Src => b",src=",
        TagName::Zone => b",zone=",
    }
}

fn tags_of_flow(line: &mut Line<'_>, record: &Record, series: &Series) {
    let tuple = &record.original;
    line.address_tag(b",dst=", tuple.destination());
    if tuple.has_ports() {
        line.number_tag(b",dst_port=", u32::from(tuple.dst_port));
    }
    line.hex_tag(b",flow_id=", record.flow_id.0);
    line.raw(&series.host);
    if record.mark != 0 {
        line.number_tag(b",mark=", record.mark);
    }
    match protocol_name(tuple.protocol) {
        Some(name) => {
            line.raw(b",proto=");
            line.raw(name.as_bytes());
        }
        None => line.number_tag(b",proto=", u32::from(tuple.protocol)),
    }
    line.address_tag(b",src=", tuple.source());
    if tuple.has_ports() {
        line.number_tag(b",src_port=", u32::from(tuple.src_port));
    }
    if record.zone != 0 {
        line.number_tag(b",zone=", u32::from(record.zone));
    }
}

/// Bytes and packets.
#[inline(always)]
fn moved(line: &mut Line<'_>, sums: &Sums, first: &[u8]) {
    line.field(first, sums.destination_bytes);
    line.field(b",destination_packets=", sums.destination_packets);
    line.field(b",source_bytes=", sums.source_bytes);
    line.field(b",source_packets=", sums.source_packets);
}

/// Flows, and how long they lived.
#[inline(always)]
fn lived(line: &mut Line<'_>, sums: &Sums, first: &[u8]) {
    line.field(first, sums.flows_ended);
    line.field(b",flows_started=", sums.flows_started);
    line.field(b",connection_time_ns=", sums.connection_time_ns);
}
