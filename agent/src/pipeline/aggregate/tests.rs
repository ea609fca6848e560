//! Series, sums and intervals of groups, one case each, and the sum of all by random churn.

use super::*;
use crate::model::{Counter, FlowId, Record, RecordKind, Totals, protocol};
use crate::pipeline::filter::NetnsName;
use crate::pipeline::networks::{NetworkDefinition, Networks};
use crate::sinks::samples::end_of_tcp;
use proptest::prelude::*;
use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

const SECOND: i64 = 1_000_000_000;
const HOUR: i64 = 3_600 * SECOND;
/// On the grid of all intervals of these tests.
const BEGIN: i64 = 1_795_168_800 * SECOND;

fn no_names() -> NetnsName {
    Arc::new(|_| None)
}

fn by_source() -> Grouping {
    Grouping { ends: Ends::Opened { src: Some(AddressBy::ADDRESS), dst: None }, ..Grouping::default() }
}

fn config(max_series: u32, interval: Duration) -> AggregateConfig {
    AggregateConfig { grouping: by_source(), interval, max_series, ..AggregateConfig::default_for(false) }
}

fn aggregator(config: &AggregateConfig, now: i64) -> Aggregator {
    Aggregator::new(config, Arc::default(), no_names(), 1_000, now)
}

fn record(source: u16, flow: u128, kind: RecordKind, bytes: u64) -> Record {
    let [high, low] = source.to_be_bytes();
    let mut record = Record { flow_id: FlowId(flow), kind, ..end_of_tcp() };
    record.original.src[..4].copy_from_slice(&[10, 0, high, low]);
    record.delta = Totals { original: Counter { packets: 1, bytes }, reply: Counter::default() };
    record
}

fn update(source: u16, bytes: u64) -> Record {
    record(source, u128::from(source), RecordKind::Update, bytes)
}

fn tags(point: &Point) -> String {
    let tags: Vec<_> =
        point.group.tags.iter().map(|(tag, value)| format!("{}={value}", tag.name())).collect();
    tags.join(",")
}

fn bytes_by_tags(points: &[Point]) -> Vec<(String, u64)> {
    let mut found: Vec<_> = points
        .iter()
        .filter(|point| point.sums.records > 0)
        .map(|point| (tags(point), point.sums.source_bytes))
        .collect();
    found.sort();
    found
}

fn texts(pairs: &[(&str, u64)]) -> Vec<(String, u64)> {
    pairs.iter().map(|(tags, bytes)| ((*tags).to_owned(), *bytes)).collect()
}

#[test]
fn records_are_added_up_by_group_and_interval() {
    let mut all = aggregator(&config(100, Duration::from_secs(10)), BEGIN + SECOND);
    let mut points = Vec::new();
    all.take(&[update(1, 5), update(2, 7), update(1, 6)], &mut points);
    all.advance(BEGIN + 9 * SECOND, &mut points);
    assert_eq!(points, []);
    all.advance(BEGIN + 10 * SECOND, &mut points);
    assert_eq!(bytes_by_tags(&points), texts(&[("src=10.0.0.1", 11), ("src=10.0.0.2", 7)]));
    assert!(
        points.iter().all(|point| (point.start_ns, point.end_ns) == (BEGIN + SECOND, BEGIN + 10 * SECOND))
    );
    points.clear();
    all.take(&[update(1, 1)], &mut points);
    all.finish(BEGIN + 13 * SECOND, &mut points);
    assert_eq!(bytes_by_tags(&points), texts(&[("src=10.0.0.1", 1)]));
    assert!(
        points
            .iter()
            .all(|point| (point.start_ns, point.end_ns) == (BEGIN + 10 * SECOND, BEGIN + 13 * SECOND))
    );
}

#[test]
fn open_flows_are_those_between_the_first_record_and_the_end() {
    let mut all = aggregator(&config(100, Duration::from_secs(10)), BEGIN);
    let mut open = |records: &[Record], now: i64| {
        let mut points = Vec::new();
        all.take(records, &mut points);
        all.advance(BEGIN + now * SECOND, &mut points);
        points.iter().map(|point| (point.sums.records, point.open_flows)).collect::<Vec<_>>()
    };
    assert_eq!(open(&[record(1, 1, RecordKind::New, 1), record(1, 2, RecordKind::New, 1)], 10), [(2, 2)]);
    assert_eq!(open(&[], 20), [(0, 2)], "an open flow shows although nothing moves");
    assert_eq!(open(&[record(1, 1, RecordKind::End, 1)], 30), [(1, 1)]);
    assert_eq!(open(&[record(1, 2, RecordKind::End, 1)], 40), [(1, 0)]);
    assert_eq!(open(&[], 50), []);
}

#[test]
fn a_flow_that_lived_before_is_open_from_the_begin_and_brings_nothing() {
    let mut all = aggregator(&config(100, Duration::from_secs(10)), BEGIN);
    for flow in [1, 2] {
        all.meet(&record(1, flow, RecordKind::Update, 0));
    }
    let mut points = Vec::new();
    all.advance(BEGIN + 10 * SECOND, &mut points);
    all.take(&[record(1, 1, RecordKind::Update, 5), record(1, 2, RecordKind::End, 1)], &mut points);
    all.advance(BEGIN + 20 * SECOND, &mut points);
    let told: Vec<_> = points.iter().map(|point| (point.sums.records, point.open_flows)).collect();
    assert_eq!(told, [(0, 2), (2, 1)]);
}

#[test]
fn what_has_no_room_is_summed_up_in_other() {
    let mut all = aggregator(&config(3, Duration::from_secs(10)), BEGIN);
    let mut points = Vec::new();
    all.take(&[update(1, 1), update(2, 2), update(3, 4), update(4, 8)], &mut points);
    all.advance(BEGIN + 10 * SECOND, &mut points);
    assert_eq!(bytes_by_tags(&points), texts(&[("src=10.0.0.1", 1), ("src=10.0.0.2", 2), ("src=other", 12)]));
    assert_eq!(all.charged(), 3);
}

#[test]
fn a_newcomer_that_outgrows_another_takes_its_place_and_the_closed_series_still_counts() {
    // 18 for who comes first, 1 in reserve, 1 for other.
    let mut all = aggregator(&config(20, Duration::from_secs(10)), BEGIN);
    let mut points = Vec::new();
    for source in 1..=18 {
        all.take(&[update(source, 1_000)], &mut points);
    }
    all.take(&[update(7, 500), update(100, 100_000)], &mut points);
    all.advance(BEGIN + 10 * SECOND, &mut points);
    assert!(bytes_by_tags(&points).contains(&("src=other".to_owned(), 100_000)));
    points.clear();
    all.take(&[update(100, 3), update(1, 5), update(2, 5)], &mut points);
    all.advance(BEGIN + 20 * SECOND, &mut points);
    let found = bytes_by_tags(&points);
    assert!(found.contains(&("src=10.0.0.100".to_owned(), 3)), "{found:?}");
    assert_eq!(all.charged(), 20);
    // The reserve is spent: the next one waits, however large.
    for interval in 3..10 {
        points.clear();
        all.take(&[update(200, 1 << 40)], &mut points);
        all.advance(BEGIN + 10 * interval * SECOND, &mut points);
        assert_eq!(bytes_by_tags(&points), texts(&[("src=other", 1 << 40)]));
    }
    // When the window is over there is room again.
    all.advance(BEGIN + 25 * HOUR, &mut points);
    points.clear();
    all.take(&[update(200, 9)], &mut points);
    all.advance(BEGIN + 26 * HOUR, &mut points);
    assert_eq!(bytes_by_tags(&points), texts(&[("src=10.0.0.200", 9)]));
}

#[test]
fn series_still_count_after_a_restart_and_their_groups_come_back() {
    let config = config(4, Duration::from_secs(10));
    let mut before = aggregator(&config, BEGIN);
    let mut points = Vec::new();
    before.take(&[update(1, 1), update(2, 1), update(3, 1)], &mut points);
    assert_eq!(before.series_changes(), None, "nobody asked yet");
    let saved = before.all_series();
    assert_eq!(before.series_changes(), Some(Vec::new()), "nothing changed");
    let restart = |config: &AggregateConfig, now: i64, source: u16| {
        let mut after = aggregator(config, now);
        assert_eq!(after.restore_series(&saved), Ok(Restored::All));
        let mut points = Vec::new();
        after.take(&[update(source, 1)], &mut points);
        after.finish(now + SECOND, &mut points);
        tags(&points[0])
    };
    assert_eq!(restart(&config, BEGIN + 15 * SECOND, 2), "src=10.0.0.2");
    assert_eq!(restart(&config, BEGIN + 15 * SECOND, 9), "src=other");
    let other = AggregateConfig { grouping: Grouping { proto: true, ..by_source() }, ..config };
    assert_eq!(restart(&other, BEGIN + 15 * SECOND, 2), "proto=other,src=other");
}

/// A list and what was appended to it while groups came, were replaced and went; for each whole frame where it ends, and
/// how many series counted then.
fn list_of_series() -> (AggregateConfig, Vec<u8>, Vec<(usize, usize)>) {
    let config = config(20, Duration::from_secs(1_800));
    let (mut all, mut points) = (aggregator(&config, BEGIN), Vec::new());
    let mut list = all.all_series();
    let mut ends = vec![(list.len(), all.charged())];
    for hour in 0..60 {
        let over = |source: u16| record(source, source.into(), RecordKind::End, 1 << hour);
        all.take(&[over(hour), over(hour / 9)], &mut points);
        all.advance(BEGIN + i64::from(hour + 1) * HOUR, &mut points);
        let changes = all.series_changes().unwrap();
        if !changes.is_empty() {
            list.extend(changes);
            ends.push((list.len(), all.charged()));
        }
    }
    (config, list, ends)
}

#[test]
fn a_list_of_series_that_is_cut_off_anywhere_has_what_its_whole_frames_say() {
    let (config, list, ends) = list_of_series();
    assert!(ends.len() > 40 && ends.iter().any(|(_, charged)| *charged == 20), "{ends:?}");
    for length in 0..=list.len() {
        let mut after = aggregator(&config, BEGIN);
        let restored = after.restore_series(&list[..length]);
        match ends.iter().rfind(|(end, _)| *end <= length) {
            Some((_, charged)) => {
                assert_eq!((restored, after.charged()), (Ok(Restored::All), *charged), "{length}")
            }
            None => assert!(restored.is_err(), "{length}"),
        }
    }
}

#[test]
fn of_a_list_of_series_that_is_damaged_anywhere_what_stands_before_is_used() {
    let (config, list, ends) = list_of_series();
    for position in 0..list.len() {
        let mut flipped = list.clone();
        flipped[position] ^= 1;
        let mut after = aggregator(&config, BEGIN);
        let restored = after.restore_series(&flipped);
        match ends.iter().rfind(|(end, _)| *end <= position) {
            Some((_, charged)) => {
                assert_eq!((restored, after.charged()), (Ok(Restored::Part), *charged), "{position}")
            }
            None => assert!(restored.is_err(), "{position}"),
        }
    }
}

#[test]
fn a_sum_that_is_full_is_told_at_once_and_begins_anew() {
    let mut all = aggregator(&config(4, Duration::from_secs(10)), BEGIN);
    let mut points = Vec::new();
    all.take(&[update(1, u64::MAX), update(1, 7)], &mut points);
    assert_eq!(bytes_by_tags(&points), texts(&[("src=10.0.0.1", u64::MAX)]));
    all.advance(BEGIN + 10 * SECOND, &mut points);
    assert_eq!(points[1].sums.source_bytes, 7);
    assert_ne!(points[0].start_ns, points[1].start_ns);
}

#[test]
fn without_anything_to_group_by_there_is_one_series() {
    let config = AggregateConfig { grouping: Grouping::default(), ..config(4, Duration::from_secs(10)) };
    let mut all = aggregator(&config, BEGIN);
    let mut points = Vec::new();
    all.take(&[update(1, 1), update(2, 2)], &mut points);
    all.advance(BEGIN + 10 * SECOND, &mut points);
    assert_eq!(bytes_by_tags(&points), texts(&[("", 3)]));
}

/// The tags of the first point of one record.
fn tags_of(grouping: Grouping, record: &Record) -> String {
    let define = |name: &str, prefix: &str, internal| NetworkDefinition {
        name: name.into(),
        prefixes: vec![prefix.parse().unwrap()],
        internal: Some(internal),
    };
    let networks = [define("site", "10.0.0.0/8", true), define("cloud", "198.51.100.0/24", false)];
    let networks = Arc::new(Networks::new(&networks).unwrap());
    let names: NetnsName = Arc::new(|inode| (inode == 5).then(|| "blue".into()));
    let config = AggregateConfig { grouping, ..AggregateConfig::default_for(true) };
    let mut all = Aggregator::new(&config, networks, names, 10, BEGIN);
    let mut points = Vec::new();
    all.take(std::slice::from_ref(record), &mut points);
    all.finish(BEGIN + SECOND, &mut points);
    tags(&points[0])
}

#[test]
fn each_tag_has_the_value_of_its_record() {
    let everything = Grouping {
        ends: Ends::Opened { src: Some(AddressBy::Prefix { v4: 24, v6: 64 }), dst: Some(AddressBy::Network) },
        port: Some(PortBy::Number),
        proto: true,
        direction: true,
        mark: true,
        zone: true,
        netns: true,
    };
    let record = Record { mark: 0x20, zone: 3, netns: 5, ..end_of_tcp() };
    assert_eq!(
        tags_of(everything, &record),
        "direction=outbound,dst=cloud,mark=0x20,netns=blue,port=443,proto=tcp,src=10.0.0.0/24,zone=3"
    );
    let mut ping = Record { netns: 77, ..end_of_tcp() };
    ping.original.protocol = protocol::ICMP;
    ping.original.dst[0] = 1;
    assert_eq!(
        tags_of(Grouping { mark: false, zone: false, ..everything }, &ping),
        "direction=outbound,dst=none,netns=77,proto=icmp,src=10.0.0.0/24"
    );
}

#[test]
fn ports_are_named_by_service_dynamic_or_their_number() {
    let grouping = Grouping { port: Some(PortBy::Service), ..Grouping::default() };
    let port = |port| {
        let mut record = end_of_tcp();
        record.original.dst_port = port;
        tags_of(grouping, &record)
    };
    assert_eq!(
        [443, 514, 8_081, 50_000].map(port),
        ["port=https", "port=shell", "port=8081", "port=dynamic"]
    );
}

#[test]
fn the_internal_end_is_local_whoever_opened_and_behind_translation() {
    let by = Some(AddressBy::ADDRESS);
    let grouping = Grouping { ends: Ends::Internal { local: by, remote: by }, ..Grouping::default() };
    let outbound = end_of_tcp();
    assert_eq!(tags_of(grouping, &outbound), "local=10.0.0.2,remote=198.51.100.7");
    let mut inbound = Record { nat: crate::model::NatKind::Destination, ..end_of_tcp() };
    inbound.original.src[..4].copy_from_slice(&[203, 0, 113, 9]);
    inbound.reply.src[..4].copy_from_slice(&[10, 0, 0, 80]);
    assert_eq!(tags_of(grouping, &inbound), "local=10.0.0.80,remote=203.0.113.9");
}

/// What happens in one interval of some minutes: which sources move how much, and flows that begin and end.
fn churn() -> impl Strategy<Value = Vec<Vec<(u16, u8, u8, u32)>>> {
    // A few large groups that stay, and a crowd that changes.
    let source = prop_oneof![3 => 0u16..10, 5 => 0u16..400];
    let record = (source, 0u8..3, 0u8..3, prop_oneof![1 => 0u32..2_000, 1 => 0u32..20]);
    prop::collection::vec(prop::collection::vec(record, 0..24), 40..160)
}

/// What each series had in the window.
#[derive(Default)]
struct Written {
    /// By tags, when its last point began.
    last: HashMap<String, i64>,
    points: HashSet<(String, i64)>,
}

impl Written {
    /// Notes a point; returns how many distinct series the window has then.
    fn note(&mut self, point: &Point, window: i64) -> usize {
        let tags = tags(point);
        assert!(
            self.points.insert((tags.clone(), point.start_ns)),
            "{tags} overwritten at {}",
            point.start_ns
        );
        self.last.insert(tags, point.start_ns);
        self.last.values().filter(|last| **last > point.start_ns - window).count()
    }
}

fn records(interval: &[(u16, u8, u8, u32)]) -> Vec<Record> {
    let kinds = [RecordKind::New, RecordKind::Update, RecordKind::End];
    let one = |(source, flow, kind, bytes): &(u16, u8, u8, u32)| {
        let flow = u128::from(*source) * 8 + u128::from(*flow);
        record(*source, flow, kinds[usize::from(*kind)], u64::from(*bytes))
    };
    interval.iter().map(one).collect()
}

fn sum(points: &[Point]) -> Sums {
    points.iter().fold(Sums::default(), |sum, point| sum.checked_add(point.sums).unwrap())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn over_days_of_churn_each_interval_adds_up_and_series_stay_within_their_limit(
        intervals in churn(),
        max_series in 1u32..40,
        restart_every in 5usize..100,
    ) {
        let config = config(max_series, Duration::from_secs(1_800));
        let window = 24 * HOUR;
        let mut now = BEGIN;
        let mut all = aggregator(&config, now);
        let (mut written, mut open) = (Written::default(), HashSet::new());
        let (mut points, mut saved) = (Vec::new(), Vec::new());
        for (number, interval) in intervals.iter().enumerate() {
            let records = records(interval);
            let expected = records.iter().fold(Sums::default(), |sum, record| {
                sum.checked_add(Sums::of(record)).unwrap()
            });
            for record in &records {
                if record.kind == RecordKind::End {
                    open.remove(&record.flow_id);
                } else {
                    open.insert(record.flow_id);
                }
            }
            points.clear();
            all.take(&records, &mut points);
            prop_assert!(points.is_empty());
            let restarts = number % restart_every == restart_every - 1;
            now += 1_800 * SECOND;
            match all.series_changes() {
                Some(changes) => saved.extend(changes),
                None => saved = all.all_series(),
            }
            if restarts {
                all.finish(now - 700 * SECOND, &mut points);
                all = aggregator(&config, now - 600 * SECOND);
                prop_assert_eq!(all.restore_series(&saved), Ok(Restored::All));
            } else {
                all.advance(now, &mut points);
            }
            prop_assert_eq!(sum(&points), expected);
            let gauge: u64 = points.iter().map(|point| point.open_flows).sum();
            prop_assert_eq!(gauge, open.len() as u64);
            for point in &points {
                let distinct = written.note(point, window);
                prop_assert!(distinct <= max_series as usize, "{distinct} of {max_series}");
            }
            if restarts {
                open.clear();
                all.advance(now, &mut points);
            }
        }
    }

    #[test]
    fn whatever_the_clock_does_no_point_overwrites_another(
        steps in prop::collection::vec((-9_000i64..9_000, 0u16..6), 1..80),
    ) {
        let mut now = BEGIN;
        let mut all = aggregator(&config(4, Duration::from_secs(10)), now);
        let (mut written, mut points, mut taken) = (HashSet::new(), Vec::new(), 0);
        for (step, source) in steps {
            all.take(&[update(source, 1)], &mut points);
            taken += 1;
            now += step * (SECOND / 100);
            all.advance(now, &mut points);
        }
        all.finish(now, &mut points);
        prop_assert_eq!(sum(&points).records, taken);
        for point in &points {
            prop_assert!(point.end_ns > point.start_ns);
            prop_assert!(written.insert((tags(point), point.start_ns)));
        }
    }
}
