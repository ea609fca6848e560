//! The configuration as its user meets it: shipped files, the annotated defaults, and what a mistake is told.
#![expect(clippy::unwrap_used, reason = "a test that cannot be set up has failed")]

use conntally::config::{
    ANNOTATED, Config, DeliveryConfig, Document, Fsync, OutputFormat, Problems, QueueConfig, RecordEvent,
    SinkConfig, SinkKind, SpoolConfig, WhenFull, json_schema, validate,
};
use conntally::sinks::influxdb::Target;
use proptest::prelude::*;
use std::path::{Path, PathBuf};
use std::sync::LazyLock;
use std::time::Duration;

fn check(text: &str) -> Result<Config, Problems> {
    validate(&Document::parse(text, Path::new("conntally.toml"))?)
}

fn problems(text: &str) -> Vec<String> {
    check(text).unwrap_err().0.iter().map(ToString::to_string).collect()
}

/// The annotated file with every option switched on: `#key = …` loses its `#`, prose (`# …`) stays.
fn uncommented() -> String {
    let option =
        |line: &&str| line.strip_prefix('#').is_some_and(|rest| rest.starts_with(char::is_alphabetic));
    ANNOTATED
        .lines()
        .map(|line| if option(&line) { line.trim_start_matches('#') } else { line })
        .collect::<Vec<_>>()
        .join("\n")
}

fn shipped_files() -> Vec<PathBuf> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../configs");
    let mut pending = vec![root];
    let mut files = Vec::new();
    while let Some(dir) = pending.pop() {
        for entry in std::fs::read_dir(&dir).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                pending.push(path);
            } else if path.extension().is_some_and(|extension| extension == "toml") {
                files.push(path);
            }
        }
    }
    files
}

#[test]
fn every_shipped_file_is_valid() {
    let files = shipped_files();
    assert!(files.iter().any(|file| file.ends_with("conntally.toml")), "{files:?}");
    for file in files {
        let text = std::fs::read_to_string(&file).unwrap();
        let document = Document::parse(&text, &file).unwrap();
        validate(&document).unwrap_or_else(|problems| panic!("{problems}"));
    }
}

/// Whether the schema takes a file, and what it finds wrong.
fn by_schema(text: &str) -> Result<(), String> {
    static SCHEMA: LazyLock<jsonschema::Validator> =
        LazyLock::new(|| jsonschema::draft202012::new(&json_schema()).unwrap());
    let value = serde_json::to_value(toml::from_str::<toml::Table>(text).unwrap()).unwrap();
    SCHEMA.validate(&value).map_err(|error| format!("{}: {error}", error.instance_path()))
}

#[test]
fn the_schema_itself_is_one() {
    assert!(jsonschema::draft202012::meta::is_valid(&json_schema()));
}

#[test]
fn every_shipped_file_is_as_the_schema_says() {
    for file in shipped_files() {
        let text = std::fs::read_to_string(&file).unwrap();
        by_schema(&text).unwrap_or_else(|error| panic!("{}: {error}", file.display()));
    }
    for text in [&uncommented(), LIVE] {
        by_schema(text).unwrap_or_else(|error| panic!("{error}\n{text}"));
    }
}

#[test]
fn the_schema_refuses_what_the_agent_refuses_key_by_key() {
    let wrong = [
        "sorce = 1",
        "[source]\nhook = \"kprob\"",
        "[source]\nring_bytes = \"16MB\"",
        "[source]\nslots = 12",
        "[source]\nrate_curve = [{ age = \"0s\" }]",
        "[source]\nrate_curve = [{ age = \"0s\", every = \"5\" }]",
        "[flow]\nmax_flows = \"many\"",
        "[output]\nevents = [\"end\", \"end\"]",
        "[networks]\na = { prefix = \"10.0.0.0/8\" }",
        "[networks]\na = 5",
        "[sinks.a]\nqueue_records = 5_000",
        "[sinks.A]\ntype = \"null\"",
        "[sinks.a]\ntype = \"nul\"",
        "[sinks.a]\ntype = \"null\"\nurl = \"http://x\"",
        "[sinks.a]\ntype = \"elasticsearch\"",
        "[sinks.a]\ntype = \"influxdb\"\nurl = \"http://x\"\norg = \"o\"\nbuket = \"b\"\ntoken = \"t\"",
    ];
    for text in wrong {
        assert!(check(text).is_err(), "the agent takes {text}");
        assert!(by_schema(text).is_err(), "the schema takes {text}");
    }
}

#[test]
fn a_state_directory_needs_first_records() {
    let said = problems("state_dir = \"/var/lib/conntally\"\n[output]\nevents = [\"end\"]\n");
    assert!(
        matches!(&said[..], [one] if one.contains("state_dir") && one.contains("output.events")),
        "{said:?}"
    );
}

#[test]
fn the_annotated_file_changes_nothing() {
    assert_eq!(check(ANNOTATED).unwrap(), Config::default());
}

#[test]
fn the_annotated_file_with_every_option_switched_on_is_the_default() {
    let text = uncommented();
    assert_eq!(check(&text).unwrap_or_else(|problems| panic!("{problems}")), Config::default());
}

#[test]
fn the_annotated_file_names_every_option() {
    // An option that is not asked for by any file is told in the list of keys of its table.
    let text = uncommented();
    let sink = |kind| format!("[sinks.a]\ntype = \"{kind}\"\n");
    let headers = [
        String::new(),
        "[source]\n".into(),
        "[flow]\n".into(),
        "[filter]\n".into(),
        "[output]\n".into(),
        "[log]\n".into(),
        sink("stdout"),
        sink("null"),
        sink("influxdb"),
        format!("{}version = 1\n", sink("influxdb")),
        format!("{}version = 1\nurl = \"udp://x:1\"\n", sink("influxdb")),
        sink("elasticsearch"),
    ];
    for table in headers {
        let all = problems(&format!("{table}qqqqqqqqqqqq = 1\n"));
        let keys = all.iter().find_map(|message| message.split_once("the keys here are ")).unwrap().1;
        for key in keys.split(", ") {
            let is_table = text.contains(&format!("[{key}]")) || text.contains(&format!("[{key}."));
            let is_option =
                text.lines().any(|line| line.trim_start_matches("## ").starts_with(&format!("{key} = ")));
            assert!(is_table || is_option, "{table}.{key} is not explained in configs/conntally.toml");
        }
    }
}

#[test]
fn a_misspelt_key_is_told_its_line_and_the_right_name() {
    let found = problems("[source]\nkind = \"bpf\"\nmanage_sysctl = false\nrate_curv = []\n");
    assert_eq!(
        found,
        [
            "conntally.toml:3: source.manage_sysctl: unknown key; did you mean \"manage_sysctls\"?",
            "conntally.toml:4: source.rate_curv: unknown key; did you mean \"rate_curve\"?",
        ]
    );
}

#[test]
fn a_misspelt_table_is_told_the_right_name() {
    assert_eq!(problems("[sorce]\n"), ["conntally.toml:1: sorce: unknown key; did you mean \"source\"?"]);
}

#[test]
fn all_problems_of_a_file_are_reported_at_once_in_its_order() {
    let text = r#"run_dir = "run"
[source]
kind = "bfp"
manage_sysctls = "yes"
ring_bytes = "3MiB"
netlink_buffer = "8MB"
slots = 12
rate_curve = [
    { age = "1m", every = "5" },
    { every = "1s", evry = "1s" },
    7,
]
[flow]
max_flows = 1.5
[output]
format = ["json"]
"#;
    insta::assert_snapshot!(problems(text).join("\n"), @r#"
    conntally.toml:1: run_dir: "run" is not absolute; begin it with /
    conntally.toml:3: source.kind: "bfp" is not one of auto, bpf, netlink, replay; did you mean "bpf"?
    conntally.toml:4: source.manage_sysctls: must be true or false, but is "yes"
    conntally.toml:5: source.ring_bytes: is no power of two; 2048KiB and 4096KiB are the nearest
    conntally.toml:6: source.netlink_buffer: unknown unit "MB" in "8MB"; use one of B, KiB, MiB, GiB, TiB
    conntally.toml:7: source.slots: 12 is not within 1024 and 16777216
    conntally.toml:9: source.rate_curve[0].every: "5" lacks a unit; write 5s or another of d, h, m, s, ms
    conntally.toml:10: source.rate_curve[1].age: is missing; a step is { age = "1m", every = "20s" }
    conntally.toml:10: source.rate_curve[1].evry: unknown key; did you mean "every"?
    conntally.toml:11: source.rate_curve[2]: must be a table, but is a number
    conntally.toml:14: flow.max_flows: must be a number without quotes, but is a fraction
    conntally.toml:16: output.format: must be one of auto, table, json, null, but is a list
    "#);
}

#[test]
fn the_rate_curve_begins_at_zero_ascends_and_has_at_most_eight_steps() {
    let curve = |ages: &[&str]| {
        let steps: Vec<_> = ages.iter().map(|age| format!("{{ age = \"{age}\", every = \"1s\" }}")).collect();
        check(&format!("[source]\nrate_curve = [{}]\n", steps.join(", ")))
    };
    assert!(curve(&["0s", "1s", "2s"]).is_ok());
    assert!(curve(&[]).is_err());
    assert!(curve(&["1s"]).is_err());
    assert!(curve(&["0s", "2s", "1s"]).is_err());
    assert!(curve(&["0s", "1s", "1s"]).is_err());
    assert!(curve(&["0s", "1s", "2s", "3s", "4s", "5s", "6s", "7s"]).is_ok());
    assert!(curve(&["0s", "1s", "2s", "3s", "4s", "5s", "6s", "7s", "8s"]).is_err());
}

#[test]
fn a_replay_without_a_recording_is_refused() {
    let found = problems("[source]\nkind = \"replay\"\n");
    assert_eq!(found.len(), 1);
    assert!(found[0].contains("source.replay: is missing"), "{found:?}");
}

proptest! {
    #[test]
    fn any_value_of_any_key_is_accepted_or_refused_without_a_panic(
        table in prop::sample::select(vec!["source", "flow", "output", "log"]),
        key in prop::sample::select(vec!["kind", "rate_curve", "slots", "ring_bytes", "max_flows", "level", "replay"]),
        value in prop::sample::select(vec![
            "0", "-1", "4294967296", "9223372036854775808", "0x10", "1.5", "true", "\"\"", "\"5s\"", "\"16MiB\"",
            "[]", "[[]]", "{}", "[{}]", "[{ age = 1 }]", "1979-05-27", "\"\\u0000\"",
        ]),
    ) {
        let text = format!("[{table}]\n{key} = {value}\n");
        if check(&text).is_ok() {
            prop_assert_eq!(by_schema(&text), Ok(()));
        }
    }
}

#[test]
fn records_that_are_wanted_are_named_each_once_and_ends_among_them() {
    assert_eq!(
        problems("[output]\nevents = [\"new\", \"new\", 7]\n"),
        [
            "conntally.toml:2: output.events: \"new\" is not one of new, update, end, each once",
            "conntally.toml:2: output.events: 7 is not one of new, update, end, each once",
        ]
    );
    assert_eq!(
        problems("[output]\nevents = [\"new\"]\n"),
        ["conntally.toml:2: output.events: lacks \"end\", without which no flow is accounted to its end"]
    );
}

#[test]
fn filters_and_networks_are_read_in_their_forms() {
    let config = check(
        "[filter]\ninclude = \"src in site\"\nexclude = [\"port = 53\", \"direction = inbound\"]\n[networks]\n\
         site = { prefixes = [\"10.0.0.0/8\", \"2001:db8::/32\"], internal = true }\n\"team 7\" = [\"10.7.0.0/16\"]\n\
         one = \"192.0.2.0/24\"\n[sinks.a]\ntype = \"null\"\nexclude = \"dst in site\"\n",
    )
    .unwrap_or_else(|problems| panic!("{problems}"));
    assert_eq!((config.filter.include.len(), config.filter.exclude.len()), (1, 2));
    assert_eq!((config.sinks[0].filter.include.len(), config.sinks[0].filter.exclude.len()), (0, 1));
    let networks: Vec<_> =
        config.networks.iter().map(|one| (one.name.as_str(), one.prefixes.len(), one.internal)).collect();
    assert_eq!(networks, [("one", 1, None), ("site", 2, Some(true)), ("team 7", 1, None)]);
}

#[test]
fn what_is_wrong_with_filters_and_networks_is_told_at_once_with_line_and_column() {
    let text = r#"[filter]
include = ["src in 10.0.0.0/33", "scr = 10.0.0.1", "zone = 7", 7]
exclude = [
    "port = 53 and dst in team7",
    "direction = inbound",
]
[networks]
"team-7" = ["10.7.0.0/16"]
"#;
    insta::assert_snapshot!(problems(text).join("\n"), @r#"
    conntally.toml:2: filter.include: must be a filter in quotes, or a list of such, but is 7
    conntally.toml:2: filter.include: column 8: "10.0.0.0/33" is neither an address nor a prefix like 10.0.0.0/8 or 2001:db8::/32
        src in 10.0.0.0/33
               ^
    conntally.toml:2: filter.include: column 1: no field is called "scr"; did you mean "src"?
        scr = 10.0.0.1
        ^
    conntally.toml:4: filter.exclude: column 22: "team7" is neither an address nor a name in [networks]; did you mean "team-7"?
        port = 53 and dst in team7
                             ^
    conntally.toml:5: filter.exclude: column 1: no flow has a direction, as no network is internal: say internal = true in [networks]
        direction = inbound
        ^
    "#);
    let text = r#"[filter]
include = "src in nowhere"
[networks]
a = ["10.7.0.0/16", "10.0.0.0/8"]
b = { prefixes = ["10.7.0.1/16", "x", "10.0.0.0/8"], internal = "yes", other = 1 }
c = {}
d = 5
other = ["::/0"]
"#;
    insta::assert_snapshot!(problems(text).join("\n"), @r#"
    conntally.toml:5: networks.b.prefixes: "10.7.0.1/16" has bits set behind its length; is 10.7.0.0/16 meant?
    conntally.toml:5: networks.b.prefixes: "x" is no prefix; write one like 10.0.0.0/8 or 2001:db8::/32
    conntally.toml:5: networks.b.internal: must be true or false, but is "yes"
    conntally.toml:5: networks.b.other: unknown key; the keys here are prefixes, internal
    conntally.toml:5: networks.b: 10.0.0.0/8 stands under "a", too; keep one of them
    conntally.toml:6: networks.c: names no prefix; write prefixes = ["10.0.0.0/8"]
    conntally.toml:7: networks.d.prefixes: must be a prefix in quotes, or a list of such, but is 5
    conntally.toml:8: networks.other: is a word of its own in groups; choose another name
    "#);
}

proptest! {
    #[test]
    fn any_filter_is_accepted_or_refused_without_a_panic(text in "\\PC{0,40}", name in "\\PC{0,8}") {
        let quoted = toml::Value::String(text).to_string();
        let name = toml::Value::String(name).to_string();
        let _ = check(&format!("[filter]\ninclude = {quoted}\n[networks]\n{name} = [{quoted}]\n"));
    }
}

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
    assert_eq!((screen.name.as_str(), &screen.kind), ("screen", &SinkKind::Stdout(OutputFormat::Json)));
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
    conntally.toml:8: sinks.b.spool.max_bytes: "1MiB" is not within 2MiB and 16777216MiB
    conntally.toml:8: sinks.b.spool.fsynk: unknown key; did you mean "fsync"?
    conntally.toml:11: sinks.c.spool: means nothing without when_full = "spool"
    conntally.toml:15: sinks.d.spool.max_bytes: must hold two segments; raise it, or lower segment_bytes
    conntally.toml:15: sinks.d.spool.fsync: "often" is not one of never, interval, always
    conntally.toml:19: sinks.e.spool: has the directory of sinks.d; give it its own
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
[sinks.output]
type = "null"
"#;
    insta::assert_snapshot!(problems(text).join("\n"), @r#"
    conntally.toml:2: sinks.Live: has no usable name; use up to 32 of a-z, 0-9, - and _ (no two _ in a row), but not "output"
    conntally.toml:4: sinks.Live.batch_age: "2h" is too long; the most is 60s
    conntally.toml:5: sinks.a.type: is missing; it is one of stdout, influxdb, elasticsearch, null
    conntally.toml:8: sinks.b.type: "nul" is not one of stdout, influxdb, elasticsearch, null; did you mean "null"?
    conntally.toml:12: sinks.c.batch_records: unknown key; the keys here are type, events, include, exclude, format, queue_records
    conntally.toml:13: sinks.c.events: lacks "end", without which no flow is accounted to its end
    conntally.toml:14: sinks.d.type: sinks.c writes to standard output already
    conntally.toml:18: sinks.e.when_full: "block" is not one of coalesce, drop_newest, spool
    conntally.toml:19: sinks.e.retry_max: is too short; the least is 1s
    conntally.toml:20: sinks.output: has no usable name; use up to 32 of a-z, 0-9, - and _ (no two _ in a row), but not "output"
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

#[test]
fn a_state_directory_has_first_records_kept_that_no_sink_wants() {
    let text = "state_dir = \"/var/lib/conntally\"\n[sinks.a]\ntype = \"null\"\nevents = [\"end\"]\n";
    let config = check(text).unwrap();
    assert!(config.wants(RecordEvent::New) && !config.wants(RecordEvent::Update));
    let config = check(&text.replace("state_dir", "run_dir")).unwrap();
    assert!(!config.wants(RecordEvent::New));
}

const LIVE: &str = r#"
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
    conntally.toml:12: sinks.b.database: unknown key; the keys here are type, events, include, exclude, queue_records, when_full, spool, batch_records, batch_bytes, batch_age, timeout, concurrency, retry_max, version, url, udp_payload, measurement, per_flow, group_by, interval, series_window, max_series, status
    conntally.toml:15: sinks.c.version: 3 is not within 1 and 2
    conntally.toml:16: sinks.c.url: begins with influx.example://; http:// and https:// are known here
    conntally.toml:19: sinks.c.token: must be a text in quotes that is not empty
    conntally.toml:20: sinks.c.client_key_file: is of no use without client_cert_file
    conntally.toml:21: sinks.d.url: is missing; write it like http://influx.example:8086 or udp://influx.example:8089
    conntally.toml:21: sinks.d.database: is missing; where points are written to
    conntally.toml:21: sinks.d.user: is missing; a password is that of a user
    "#);
}
