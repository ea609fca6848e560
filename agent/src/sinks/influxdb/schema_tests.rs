//! What the encoders write has the names of the schema, and no others.

use std::collections::BTreeSet;
use std::time::Duration;

use influxdb_line_protocol::parse_lines;

use super::ToLine;
use super::schema::{
    DELTAS, GAUGES, HOST, LOSS, LOSS_FIELDS, MEASUREMENT, REASON, SINK, STATUS, STATUS_FIELDS, TAGS, WAITING,
    WAITING_FIELDS,
};
use super::tests::{born, point};
use crate::model::{Sum, Waiting};
use crate::pipeline::aggregate::Grouping;
use crate::pipeline::{Stated, Status, Sums, TagName, Whole};
use crate::sinks::samples::TEN_O_CLOCK;

/// Measurement, tags, fields.
fn names(item: &impl ToLine) -> (String, Vec<String>, BTreeSet<String>) {
    let mut out = Vec::new();
    item.to_line(&born(MEASUREMENT, "gw1", TEN_O_CLOCK), &mut out);
    let text = String::from_utf8(out).unwrap();
    let line = parse_lines(&text).next().unwrap().unwrap();
    let tags = line.series.tag_set.iter().flatten().map(|(key, _)| key.to_string());
    let fields = line.field_set.iter().map(|(key, _)| key.to_string()).collect();
    (line.series.measurement.to_string(), tags.collect(), fields)
}

fn set(lists: &[&[&str]]) -> BTreeSet<String> {
    lists.concat().into_iter().map(str::to_owned).collect()
}

fn status(stated: Stated) -> Status {
    Status { real_ns: TEN_O_CLOCK, stated }
}

#[test]
fn a_point_of_the_usual_groups_has_the_names_of_the_list() {
    let tags = Grouping::default_for(true).tags().into_iter().map(|tag: TagName| (tag, "x".into())).collect();
    let (measurement, tags, fields) = names(&point(tags, Sums::default(), TEN_O_CLOCK));
    assert_eq!((measurement.as_str(), tags), (MEASUREMENT, TAGS.map(str::to_owned).to_vec()));
    assert_eq!(fields, set(&[&DELTAS, &GAUGES]));
}

#[test]
fn a_status_has_the_names_of_the_list() {
    let (measurement, tags, fields) = names(&status(Stated::Whole(Whole::default())));
    assert_eq!((measurement.as_str(), tags), (STATUS, vec![HOST.to_owned()]));
    assert_eq!(fields, set(&[&STATUS_FIELDS]));
}

#[test]
fn a_loss_has_the_names_of_the_list_and_tells_its_reason() {
    let lost = Sum { flows: 1, packets: 2, bytes: 3 };
    let loss = status(Stated::Loss { reason: "archive.queue_full", lost, unknown: 4 });
    let (measurement, tags, fields) = names(&loss);
    assert_eq!((measurement.as_str(), tags), (LOSS, vec![HOST.to_owned(), REASON.to_owned()]));
    assert_eq!(fields, set(&[&LOSS_FIELDS]));
    let mut out = Vec::new();
    loss.to_line(&born(MEASUREMENT, "gw1", TEN_O_CLOCK), &mut out);
    insta::assert_snapshot!(String::from_utf8(out).unwrap().trim(), @"conntally_loss,host=gw1,reason=archive.queue_full lost_bytes=3i,lost_flows=1i,lost_packets=2i,unknown=4i 1795168800000000000");
}

#[test]
fn what_waits_has_the_names_of_the_list_and_tells_its_sink() {
    let moved = Sum { flows: 1, packets: 2, bytes: 3 };
    let waiting = Waiting { records: 4, moved, oldest: Duration::from_millis(61_002) };
    let told = status(Stated::Waiting { sink: "archive", waiting });
    let (measurement, tags, fields) = names(&told);
    assert_eq!((measurement.as_str(), tags), (WAITING, vec![HOST.to_owned(), SINK.to_owned()]));
    assert_eq!(fields, set(&[&WAITING_FIELDS]));
    let mut out = Vec::new();
    told.to_line(&born(MEASUREMENT, "gw1", TEN_O_CLOCK), &mut out);
    insta::assert_snapshot!(String::from_utf8(out).unwrap().trim(), @"conntally_waiting,host=gw1,sink=archive oldest_ms=61002i,waiting_bytes=3i,waiting_flows=1i,waiting_packets=2i,waiting_records=4i 1795168800000000000");
}
