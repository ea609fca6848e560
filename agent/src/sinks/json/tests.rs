//! The encoder against the documented example and against any record.

use proptest::prelude::*;
use serde_json::{Value, json};

use super::super::samples::{any_record, end_of_tcp, ping};
use super::*;
use crate::pipeline::networks::NetworkDefinition;

fn context(host: &str) -> EncodeContext {
    EncodeContext {
        host: host.to_owned(),
        netns_name: Box::new(|inode| (inode == 4_026_531_840).then(|| Arc::from("init"))),
        networks: Arc::default(),
    }
}

fn encode(record: &Record, host: &str, out: &mut Vec<u8>) {
    Encoder::new(context(host)).encode(std::slice::from_ref(record), out);
}

fn line(record: &Record) -> String {
    let mut out = Vec::new();
    encode(record, "gw1", &mut out);
    String::from_utf8(out).unwrap()
}

fn parsed(record: &Record) -> Value {
    serde_json::from_str(&line(record)).unwrap()
}

#[test]
fn the_documented_example_comes_out() {
    insta::assert_snapshot!(line(&end_of_tcp()));
}

#[test]
fn a_ping_has_type_code_and_id_in_place_of_ports() {
    insta::assert_snapshot!(line(&ping()));
}

#[test]
fn what_the_kernel_does_not_count_is_absent_rather_than_zero() {
    let mut record = end_of_tcp();
    record.flags.no_counters = true;
    let value = parsed(&record);
    assert_eq!(value["source"].get("bytes"), None);
    assert_eq!(value["network"].get("packets"), None);
    assert_eq!(value["conntally"].get("delta"), None);
    assert_eq!(value["conntally"]["flags"], json!(["no_counters"]));
}

#[test]
fn networks_are_named_where_there_are_any_and_tell_the_direction() {
    let network = |name: &str, prefix: &str, internal| NetworkDefinition {
        name: name.to_owned(),
        prefixes: vec![prefix.parse().unwrap()],
        internal,
    };
    let line = |definitions: &[NetworkDefinition]| {
        let networks = Arc::new(Networks::new(definitions).unwrap());
        let mut out = Vec::new();
        Encoder::new(EncodeContext { networks, ..context("gw1") }).encode(&[end_of_tcp()], &mut out);
        serde_json::from_slice::<Value>(&out).unwrap()
    };
    let (team, far) =
        (network("team \"7\"", "10.0.0.0/8", Some(true)), network("far", "198.51.100.0/24", None));
    let both = line(&[team.clone(), far.clone()]);
    assert_eq!(both["conntally"]["network"], json!({ "source": "team \"7\"", "destination": "far" }));
    assert_eq!(both["network"]["direction"], "outbound");
    let one = line(&[far]);
    assert_eq!(one["conntally"]["network"], json!({ "destination": "far" }));
    assert_eq!(one["network"].get("direction"), None, "nothing is internal");
    let none = line(&[network("other side", "192.168.0.0/16", None)]);
    assert_eq!(none["conntally"].get("network"), None);
    let line = line(&[team]);
    assert_eq!(line["conntally"]["flags"], json!([]), "what follows is where it was");
}

#[test]
fn several_records_are_several_lines() {
    let mut out = Vec::new();
    encode(&end_of_tcp(), "a", &mut out);
    encode(&ping(), "b", &mut out);
    let text = String::from_utf8(out).unwrap();
    let hosts: Vec<Value> = text
        .lines()
        .map(|line| serde_json::from_str::<Value>(line).unwrap()["host"]["name"].clone())
        .collect();
    assert_eq!(hosts, ["a", "b"]);
}

fn number(value: &Value, path: &str) -> u64 {
    value.pointer(path).and_then(Value::as_u64).unwrap_or_else(|| panic!("{path} in {value}"))
}

fn check_counters(value: &Value, record: &Record) {
    assert_eq!(number(value, "/source/bytes"), record.totals.original.bytes);
    assert_eq!(number(value, "/source/packets"), record.totals.original.packets);
    assert_eq!(number(value, "/destination/bytes"), record.totals.reply.bytes);
    assert_eq!(number(value, "/destination/packets"), record.totals.reply.packets);
    assert_eq!(number(value, "/conntally/delta/source/bytes"), record.delta.original.bytes);
    assert_eq!(number(value, "/conntally/delta/source/packets"), record.delta.original.packets);
    assert_eq!(number(value, "/conntally/delta/destination/bytes"), record.delta.reply.bytes);
    assert_eq!(number(value, "/conntally/delta/destination/packets"), record.delta.reply.packets);
}

fn check_addresses(value: &Value, record: &Record) {
    let address =
        |path: &str| value.pointer(path).and_then(Value::as_str).map(|ip| ip.parse::<IpAddr>().unwrap());
    let port = |path: &str| value.pointer(path).and_then(Value::as_u64);
    assert_eq!(address("/source/ip"), Some(record.original.source()));
    assert_eq!(address("/destination/ip"), Some(record.original.destination()));
    let ports = record.original.has_ports();
    assert_eq!(port("/source/port"), ports.then_some(record.original.src_port.into()));
    assert_eq!(port("/destination/port"), ports.then_some(record.original.dst_port.into()));
    let [source, destination] = translated(record);
    assert_eq!(address("/source/nat/ip"), source.map(|(ip, _)| ip));
    assert_eq!(address("/destination/nat/ip"), destination.map(|(ip, _)| ip));
}

#[test]
fn a_name_of_a_host_may_be_longer_than_all_else() {
    let (mut out, host) = (Vec::new(), "h".repeat(10_000));
    let record = Record { last_moved_ns: Some(end_of_tcp().observed_ns), ..end_of_tcp() };
    encode(&record, &host, &mut out);
    let value: Value = serde_json::from_slice(&out).unwrap();
    assert_eq!(value["host"]["name"], host);
    assert_eq!(value["conntally"]["last"], value["@timestamp"]);
}

proptest! {
    #[test]
    fn a_batch_is_the_lines_that_each_record_makes_alone(records in prop::collection::vec(any_record(), 0..10)) {
        let (mut batch, mut alone) = (Vec::new(), Vec::new());
        Encoder::new(context("gw1")).encode(&records, &mut batch);
        records.iter().for_each(|record| encode(record, "gw1", &mut alone));
        prop_assert_eq!(batch, alone);
    }

    #[test]
    fn any_record_and_host_name_is_one_valid_line_with_the_same_values(record in any_record(), host: String) {
        let mut out = Vec::new();
        encode(&record, &host, &mut out);
        let text = String::from_utf8(out).unwrap();
        prop_assert_eq!(text.lines().count(), 1);
        let value: Value = serde_json::from_str(&text).unwrap();
        prop_assert_eq!(value["host"]["name"].as_str(), Some(host.as_str()));
        let id = record.flow_id.to_string();
        prop_assert_eq!(value["flow"]["id"].as_str(), Some(id.as_str()));
        prop_assert_eq!(number(&value, "/event/duration"), record.duration_ns);
        prop_assert_eq!(number(&value, "/conntally/mark"), u64::from(record.mark));
        prop_assert_eq!(number(&value, "/conntally/zone"), u64::from(record.zone));
        prop_assert_eq!(number(&value, "/conntally/netns/inode"), u64::from(record.netns));
        check_addresses(&value, &record);
        if !record.flags.no_counters {
            check_counters(&value, &record);
        }
    }
}
