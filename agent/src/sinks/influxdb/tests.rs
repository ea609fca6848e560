//! Lines, and what the answers of a server mean.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, UNIX_EPOCH};

use influxdb_line_protocol::{FieldValue, ParsedLine, parse_lines};
use proptest::prelude::*;

use super::{Series, ToLine};
use crate::model::{Record, RecordKind};
use crate::pipeline::{Group, Point, Sums, TagName};
use crate::sinks::samples::{SECOND, TEN_O_CLOCK, any_record, end_of_tcp, ping};

pub(super) const INTERVAL: i64 = 10 * SECOND;

fn series() -> Series {
    born("flows", "gw 1", TEN_O_CLOCK + 3)
}

pub(super) fn born(measurement: &str, host: &str, unix_ns: i64) -> Series {
    let born = UNIX_EPOCH + Duration::from_nanos(unix_ns.unsigned_abs());
    Series::new(measurement, host, Duration::from_nanos(INTERVAL.unsigned_abs()), born)
}

fn line(item: &impl ToLine) -> String {
    let mut out = b"x ".to_vec();
    item.to_line(&series(), &mut out);
    String::from_utf8(out).unwrap().strip_prefix("x ").unwrap().to_owned()
}

pub(super) fn point(tags: Vec<(TagName, Box<str>)>, sums: Sums, start_ns: i64) -> Point {
    let group = Group { series: 1, tags: tags.into(), is_other: false };
    Point { group: Arc::new(group), start_ns, end_ns: start_ns.saturating_add(INTERVAL), sums, open_flows: 3 }
}

#[test]
fn a_point_has_the_tags_of_its_group_and_the_host_in_order() {
    let tags = vec![
        (TagName::Dst, "team 7".into()),
        (TagName::Port, "https".into()),
        (TagName::Proto, "".into()),
        (TagName::Src, "10.0.0.0/24".into()),
    ];
    let sums = Sums { records: 9, source_bytes: 1, flows_started: 2, ..Sums::default() };
    insta::assert_snapshot!(line(&point(tags, sums, TEN_O_CLOCK)), @r"flows,dst=team\ 7,host=gw\ 1,port=https,src=10.0.0.0/24 destination_bytes=0i,destination_packets=0i,source_bytes=1i,source_packets=0i,flows_ended=0i,flows_started=2i,connection_time_ns=0i,open_flows=3i 1795168800000000003");
}

#[test]
fn the_host_stands_between_the_names_around_its_own() {
    let tags = [TagName::Direction, TagName::Dst, TagName::Local, TagName::Mark];
    let tags = tags.into_iter().map(|name| (name, name.name().into())).collect();
    let text = line(&point(tags, Sums::default(), TEN_O_CLOCK));
    assert!(
        text.starts_with(r"flows,direction=direction,dst=dst,host=gw\ 1,local=local,mark=mark "),
        "{text}"
    );
}

#[test]
fn a_record_has_the_tags_of_its_flow() {
    insta::assert_snapshot!(line(&end_of_tcp()), @r"flows,dst=198.51.100.7,dst_port=443,flow_id=00000000000000000000000000000f3c,host=gw\ 1,proto=tcp,src=10.0.0.2,src_port=40312 destination_bytes=0i,destination_packets=0i,source_bytes=60i,source_packets=1i,flows_ended=1i,flows_started=0i,connection_time_ns=5099999999i 1795168805100000002");
    insta::assert_snapshot!(line(&ping()), @r"flows,dst=2001:db8::2,flow_id=00000000000000000000000000000f3c,host=gw\ 1,proto=ipv6-icmp,src=2001:db8::1 destination_bytes=0i,destination_packets=0i,source_bytes=60i,source_packets=1i,flows_ended=0i,flows_started=0i,connection_time_ns=0i 1795168805100000001");
}

#[test]
fn what_the_kernel_does_not_count_is_not_said_to_be_zero() {
    let mut record = end_of_tcp();
    record.flags.no_counters = true;
    let text = line(&record);
    assert!(!text.contains("bytes") && text.contains(" flows_ended=1i,"), "{text}");
}

#[test]
fn the_moments_of_a_flow_never_overwrite_each_other() {
    let times: Vec<_> = [RecordKind::New, RecordKind::Update, RecordKind::End]
        .into_iter()
        .map(|kind| line(&Record { kind, ..end_of_tcp() }).rsplit(' ').next().unwrap().to_owned())
        .collect();
    assert!(times.is_sorted_by(|a, b| a < b), "{times:?}");
}

#[test]
fn another_run_within_the_same_interval_overwrites_nothing() {
    let stamp = |moment| {
        let mut out = Vec::new();
        point(Vec::new(), Sums::default(), TEN_O_CLOCK).to_line(&born("m", "h", moment), &mut out);
        let text = String::from_utf8(out).unwrap();
        text.trim().rsplit(' ').next().unwrap().parse::<i64>().unwrap()
    };
    let stamps: Vec<_> = (0..4).map(|run| stamp(TEN_O_CLOCK + run * SECOND / 5 + 7)).collect();
    for (at, stamp) in stamps.iter().enumerate() {
        assert!((TEN_O_CLOCK..TEN_O_CLOCK + INTERVAL / 10).contains(stamp), "{stamps:?}");
        assert!(!stamps[..at].contains(stamp), "{stamps:?}");
    }
}

/// What InfluxData's own parser reads.
fn read(text: &str) -> ParsedLine<'_> {
    let mut lines = parse_lines(text);
    let line = lines.next().unwrap().unwrap_or_else(|error| panic!("{text}: {error}"));
    assert!(lines.next().is_none(), "more than a line: {text}");
    line
}

fn tags(line: &ParsedLine<'_>) -> BTreeMap<String, String> {
    let set = line.series.tag_set.iter().flatten();
    set.map(|(key, value)| (key.to_string(), value.to_string())).collect()
}

fn fields(line: &ParsedLine<'_>) -> BTreeMap<String, i64> {
    let fields = line.field_set.iter();
    fields
        .map(|(key, value)| match value {
            FieldValue::I64(value) => (key.to_string(), *value),
            other => panic!("{key} is no integer: {other:?}"),
        })
        .collect()
}

fn clamped(value: u64) -> i64 {
    i64::try_from(value).unwrap_or(i64::MAX)
}

/// What a reader sees of a value: line protocol cannot hold all.
fn seen(value: &str) -> String {
    let escaped = super::line::escape(value);
    escaped.replace("\\,", ",").replace("\\=", "=").replace("\\ ", " ")
}

fn any_sums() -> impl Strategy<Value = Sums> {
    any::<[u64; 7]>().prop_map(|[a, b, c, d, e, f, g]| Sums {
        records: 1,
        source_bytes: a,
        source_packets: b,
        destination_bytes: c,
        destination_packets: d,
        flows_started: e,
        flows_ended: f,
        connection_time_ns: g,
    })
}

fn any_text() -> impl Strategy<Value = String> {
    prop_oneof!["[a-z0-9./:-]{0,12}", "[a,= \\\\\n\r\t\"#üß]{0,8}", "\\PC{0,8}", any::<String>()]
}

proptest! {
    #[test]
    fn any_point_is_read_as_it_was_meant(
        values in prop::collection::vec(any_text(), 3), sums in any_sums(), start: i64
    ) {
        let names = [TagName::Direction, TagName::Port, TagName::Src];
        let group = names.into_iter().zip(values.iter().map(|value| value.as_str().into())).collect();
        let text = line(&point(group, sums, start));
        let read = read(&text);
        let mut expected: BTreeMap<_, _> = names.iter().zip(&values).filter(|(_, value)| !value.is_empty())
            .map(|(name, value)| (name.name().to_owned(), seen(value))).collect();
        expected.insert("host".into(), "gw 1".into());
        prop_assert_eq!(read.series.measurement.to_string(), "flows");
        prop_assert_eq!(tags(&read), expected);
        prop_assert_eq!(read.timestamp, Some(start.saturating_add(3)));
        let fields = fields(&read);
        prop_assert_eq!(fields["source_bytes"], clamped(sums.source_bytes));
        prop_assert_eq!(fields["destination_packets"], clamped(sums.destination_packets));
        prop_assert_eq!(fields["flows_ended"], clamped(sums.flows_ended));
        prop_assert_eq!(fields["connection_time_ns"], clamped(sums.connection_time_ns));
        prop_assert_eq!((fields["open_flows"], fields.len()), (3, 8));
    }

    #[test]
    fn any_record_is_read_as_it_was_meant(record in any_record()) {
        let text = line(&record);
        let read = read(&text);
        let tags = tags(&read);
        prop_assert_eq!(&tags["flow_id"], &record.flow_id.to_string());
        prop_assert_eq!(&tags["src"], &record.original.source().to_string());
        prop_assert_eq!(&tags["dst"], &record.original.destination().to_string());
        prop_assert_eq!(&tags["host"], "gw 1");
        let port = record.original.has_ports().then(|| record.original.src_port.to_string());
        prop_assert_eq!(tags.get("src_port").cloned(), port);
        prop_assert_eq!(read.timestamp.unwrap() >> 2, record.observed_ns >> 2);
        let fields = fields(&read);
        let bytes = (!record.flags.no_counters).then(|| clamped(record.delta.original.bytes));
        prop_assert_eq!(fields.get("source_bytes").copied(), bytes);
        prop_assert_eq!(fields["flows_ended"], i64::from(record.kind == RecordKind::End));
    }
}
