//! `[sinks.NAME]`: what each type has, and all that can be wrong with it.

use super::{check, problems};
use conntally::config::{
    DeliveryConfig, Fsync, OutputFormat, QueueConfig, RecordEvent, SinkConfig, SinkKind, SpoolConfig, Stream,
    WhenFull,
};
use conntally::sinks::influxdb::Target;
use std::time::Duration;

#[test]
fn a_sink_has_what_all_have_and_what_its_type_has() {
    let text = r#"
[sinks.measure]
type = "null"
events = ["end"]
when_full = "drop_newest"
queue_records = 2048
batch_records = 10
batch_bytes = "64KiB"
batch_age = "2s"
timeout = "5s"
concurrency = 4
retry_max = "10s"
[sinks.screen]
type = "stdout"
format = "json"
"#;
    let sinks = check(text).unwrap().sinks;
    let [measure, screen] = sinks.as_slice() else { panic!("{sinks:?}") };
    assert_eq!((measure.name.as_str(), &measure.kind), ("measure", &SinkKind::Null));
    assert_eq!(measure.events, [RecordEvent::End]);
    assert_eq!(measure.queue, QueueConfig { records: 2_048, when_full: WhenFull::DropNewest });
    let delivery = DeliveryConfig {
        batch_records: 10,
        batch_bytes: 64 << 10,
        batch_age: Duration::from_secs(2),
        timeout: Duration::from_secs(5),
        concurrency: 4,
        retry_max: Duration::from_secs(10),
    };
    assert_eq!(measure.delivery, delivery);
    assert_eq!(
        (screen.name.as_str(), &screen.kind),
        ("screen", &SinkKind::Stdio(Stream::Stdout, OutputFormat::Json))
    );
    assert_eq!(screen.events.len(), 3);
}

#[test]
fn a_spool_lies_below_the_state_directory_unless_it_is_told_where() {
    let text = r#"
state_dir = "/var/lib/conntally"
[sinks.a]
type = "null"
when_full = "spool"
[sinks.b]
type = "null"
when_full = "spool"
spool = { dir = "/spool", max_bytes = "2GiB", segment_bytes = "16MiB", fsync = "always" }
[sinks.c]
type = "null"
"#;
    let spools: Vec<_> = check(text).unwrap().sinks.into_iter().map(|sink| sink.spool).collect();
    let b = SpoolConfig {
        dir: "/spool".into(),
        max_bytes: 2 << 30,
        segment_bytes: 16 << 20,
        fsync: Fsync::Always,
    };
    assert_eq!(spools, [Some(SpoolConfig::in_dir("/var/lib/conntally/spool/a".into())), Some(b), None]);
}

#[test]
fn all_that_is_wrong_with_spools_is_told_at_once() {
    let text = r#"
[sinks.a]
type = "null"
when_full = "spool"
[sinks.b]
type = "null"
when_full = "spool"
spool = { dir = "there", max_bytes = "1MiB", fsynk = "always" }
[sinks.c]
type = "null"
spool = { dir = "/spool" }
[sinks.d]
type = "null"
when_full = "spool"
spool = { dir = "/d", max_bytes = "10MiB", segment_bytes = "8MiB", fsync = "often" }
[sinks.e]
type = "null"
when_full = "spool"
spool.dir = "/d"
"#;
    insta::assert_snapshot!(problems(text).join("\n"), @r#"
    conntally.toml:4: sinks.a.spool: needs a directory for requests: set spool.dir, or state_dir, below which it then lies
    conntally.toml:8: sinks.b.spool.dir: is not absolute; begin it with /
    conntally.toml:8: sinks.b.spool.max_bytes: "1MiB" is not within 2MiB and 16TiB
    conntally.toml:8: sinks.b.spool.fsynk: unknown key; did you mean "fsync"?
    conntally.toml:11: sinks.c.spool: means nothing without when_full = "spool"
    conntally.toml:15: sinks.d.spool.max_bytes: must hold two segments; raise it, or lower segment_bytes
    conntally.toml:15: sinks.d.spool.fsync: "often" is not one of never, interval, always
    conntally.toml:19: sinks.e.spool: has the directory of sinks.d; give it its own
    "#);
}

#[test]
fn settings_that_each_make_sense_and_not_together_are_told() {
    let text = r#"
state_dir = "/var/lib/conntally"
[sinks.a]
type = "null"
when_full = "spool"
spool.dir = "/var/lib/conntally"
[sinks.b]
type = "null"
when_full = "spool"
batch_bytes = "2MiB"
spool = { max_bytes = "3MiB", segment_bytes = "1MiB" }
[sinks.c]
type = "influxdb"
version = 1
url = "http://influx:8086"
database = "flows"
measurement = "conntally_status"
per_flow = true
group_by = { proto = true }
"#;
    insta::assert_snapshot!(problems(text).join("\n"), @r#"
    conntally.toml:6: sinks.a.spool: has the directory of state_dir; give it its own
    conntally.toml:11: sinks.b.spool: has to hold two requests: raise its max_bytes, or lower batch_bytes
    conntally.toml:17: sinks.c.measurement: is where the agent writes how complete the accounting is; take another
    conntally.toml:19: sinks.c.group_by: is of sums by groups, and with per_flow = true there are none; leave one of them out
    "#);
}

#[test]
fn all_that_is_wrong_with_sinks_is_told_at_once() {
    let text = r#"
[sinks.Live]
type = "null"
batch_age = "2h"
[sinks.a]
typ = "null"
[sinks.b]
type = "nul"
whatever = 1
[sinks.c]
type = "stdout"
batch_records = 5
events = ["new"]
[sinks.d]
type = "stdout"
[sinks.e]
type = "null"
when_full = "block"
retry_max = "1ms"
[sinks.f]
type = "stderr"
format = "line_protocol"
events = ["end"]
[sinks.g]
type = "stderr"
format = "logfmt"
[sinks.output]
type = "null"
"#;
    insta::assert_snapshot!(problems(text).join("\n"), @r#"
    conntally.toml:2: sinks.Live: has no usable name; use up to 32 of a-z, 0-9, - and _ (no two _ in a row), but not "output"
    conntally.toml:4: sinks.Live.batch_age: "2h" is too long; the most is 60s
    conntally.toml:5: sinks.a.type: is missing; it is one of stdout, stderr, influxdb, elasticsearch, null
    conntally.toml:8: sinks.b.type: "nul" is not one of stdout, stderr, influxdb, elasticsearch, null; did you mean "null"?
    conntally.toml:12: sinks.c.batch_records: unknown key; the keys here are type, events, include, exclude, format, queue_records
    conntally.toml:13: sinks.c.events: lacks "end", without which no flow is accounted to its end
    conntally.toml:14: sinks.d.type: sinks.c writes to standard output already
    conntally.toml:18: sinks.e.when_full: "block" is not one of coalesce, drop_newest, spool
    conntally.toml:19: sinks.e.retry_max: is too short; the least is 1s
    conntally.toml:23: sinks.f.events: must name all: points are of what moved since the flow's record before, and miss what is left out; or choose another format
    conntally.toml:24: sinks.g.type: sinks.f writes to standard error already
    conntally.toml:27: sinks.output: has no usable name; use up to 32 of a-z, 0-9, - and _ (no two _ in a row), but not "output"
    "#);
    assert_eq!(problems("sinks = 5\n").len(), 1);
    assert_eq!(problems("sinks.a = 5\n").len(), 1);
}

#[test]
fn a_cluster_is_configured_as_documented() {
    let text = r#"
[sinks.archive]
type = "elasticsearch"
urls = ["https://es1:9200", "https://es2:9200/base"]
api_key = "aWQ6a2V5"
namespace = "noc"
retention = "30d"
setup = true
"#;
    let sinks = check(text).unwrap().sinks;
    let SinkKind::Elasticsearch(options) = &sinks[0].kind else { panic!("{sinks:?}") };
    assert_eq!(options.stream.name(), "logs-conntally.flow-noc");
    assert_eq!((options.urls.len(), options.setup), (2, true));
    assert_eq!(options.retention, Some(Duration::from_secs(30 * 86_400)));
    assert_eq!(sinks[0].events, [RecordEvent::End], "whose totals may be summed");
    assert!(!format!("{sinks:?}").contains("aWQ6a2V5"));
}

#[test]
fn all_that_is_wrong_with_a_cluster_is_told_at_once() {
    let text = r#"
[sinks.a]
type = "elasticsearch"
events = ["update", "end"]
user = "ann"
namespace = "No C"
retention = "90m"
rejected_file = "here"
client_key_file = "/k"
[sinks.b]
type = "elasticsearch"
urls = ["https://ann:hunter2@es1", "ftp://es"]
api_key = "k"
user = "ann"
password = "hunter2"
counters = "delta"
"#;
    let told = problems(text).join("\n");
    assert!(!told.contains("hunter2"), "{told}");
    insta::assert_snapshot!(told, @r#"
    conntally.toml:2: sinks.a.urls: is missing; name the nodes, as in urls = ["https://es1:9200"]
    conntally.toml:2: sinks.a.password_file: is missing; a user has a password
    conntally.toml:2: sinks.a.counters: is missing; with other events than "end" choose "delta" (sums over documents are right) or "total"
    conntally.toml:6: sinks.a.namespace: must be in lower case
    conntally.toml:7: sinks.a.retention: is too short; the least is 1d
    conntally.toml:8: sinks.a.rejected_file: "here" is not absolute; begin it with /
    conntally.toml:9: sinks.a.client_key_file: is of no use without client_cert_file
    conntally.toml:10: sinks.b.api_key: goes with neither user nor password; keep one way to log in
    conntally.toml:12: sinks.b.urls: one holds a user or a password; they have keys of their own
    conntally.toml:12: sinks.b.urls: one begins with ftp://; http:// and https:// are known here
    conntally.toml:16: sinks.b.counters: is "delta", which needs events = ["new", "update", "end"]: a delta counts from the record before
    "#);
}

pub(crate) const LIVE: &str = r#"
[sinks.live]
type = "influxdb"
url = "https://influx.example:8086/base"
org = "noc"
bucket = "flows"
token = "hunter2"
[sinks.old]
type = "influxdb"
version = 1
url = "http://influx1.example:8086"
database = "flows"
[sinks.datagrams]
type = "influxdb"
version = 1
url = "udp://influx1.example:8089"
udp_payload = 1_432
"#;

#[test]
fn influxdb_is_written_to_by_either_version_or_by_datagrams() {
    let config = check(LIVE).unwrap();
    let target = |sink: &SinkConfig| match &sink.kind {
        SinkKind::Influxdb(options) => options.target.clone(),
        other => panic!("{other:?}"),
    };
    let targets: Vec<_> = config.sinks.iter().map(target).collect();
    let [
        Target::Udp { address, payload },
        Target::Two { url, create: false, .. },
        Target::One { login: None, .. },
    ] = targets.as_slice()
    else {
        panic!("{targets:?}")
    };
    assert_eq!((address.as_str(), *payload), ("influx1.example:8089", 1_432));
    assert_eq!(url.to_string(), "https://influx.example:8086/base");
    assert!(!format!("{config:?}").contains("hunter2"));
}

#[test]
fn all_that_is_wrong_with_influxdb_is_told_at_once() {
    let text = r#"
[sinks.a]
type = "influxdb"
url = "https://ann:hunter2@influx.example"
bukket = "flows"
events = ["end"]
measurement = "_flows"
[sinks.b]
type = "influxdb"
version = 1
url = "udp://influx.example"
database = "flows"
user = "ann"
[sinks.c]
type = "influxdb"
version = 3
url = "influx.example:8086"
org = "noc"
bucket = "b"
token = ""
client_key_file = "/x"
[sinks.d]
type = "influxdb"
version = 1
password = "hunter2"
[sinks.e]
type = "influxdb"
version = 1
url = "http://influx.example"
database = "flows"
user = "ann"
password = "hunter2\n"
"#;
    insta::assert_snapshot!(problems(text).join("\n"), @r#"
    conntally.toml:2: sinks.a.org: is missing; the organisation that the bucket is of
    conntally.toml:2: sinks.a.bucket: is missing; where points are written to
    conntally.toml:2: sinks.a.token_file: is missing; it names the file with a token that may write to the bucket
    conntally.toml:4: sinks.a.url: holds a user or a password; they have keys of their own
    conntally.toml:5: sinks.a.bukket: unknown key; did you mean "bucket"?
    conntally.toml:6: sinks.a.events: must name all: points are of what moved since the flow's record before, and miss what is left out
    conntally.toml:7: sinks.a.measurement: is no usable name; it begins with neither # nor _ and has no backslash and no line's end
    conntally.toml:11: sinks.b.url: is no address for datagrams; write it like udp://influx.example:8089
    conntally.toml:12: sinks.b.database: is nothing that a datagram could say: the server's receiver of datagrams has database, retention policy and user of its own ([[udp]] in influxdb.conf); leave it out
    conntally.toml:13: sinks.b.user: is nothing that a datagram could say: the server's receiver of datagrams has database, retention policy and user of its own ([[udp]] in influxdb.conf); leave it out
    conntally.toml:16: sinks.c.version: 3 is not within 1 and 2
    conntally.toml:17: sinks.c.url: begins with influx.example://; http:// and https:// are known here
    conntally.toml:20: sinks.c.token: must be a text in quotes that is not empty
    conntally.toml:21: sinks.c.client_key_file: is of no use without client_cert_file
    conntally.toml:22: sinks.d.url: is missing; write it like http://influx.example:8086 or udp://influx.example:8089
    conntally.toml:22: sinks.d.database: is missing; where points are written to
    conntally.toml:22: sinks.d.user: is missing; a password is that of a user
    conntally.toml:32: sinks.e.password: must be one line, without tabs and the like
    "#);
}
