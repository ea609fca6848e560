//! The configuration as its user meets it: shipped files, the annotated defaults, and what a mistake is told.
#![expect(clippy::unwrap_used, reason = "a test that cannot be set up has failed")]

mod sinks;

use conntally::config::{ANNOTATED, Config, Document, Problems, RecordEvent, json_schema, validate};
use proptest::prelude::*;
use std::path::{Path, PathBuf};
use std::sync::LazyLock;

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
    for text in [&uncommented(), sinks::LIVE] {
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
        sink("stderr"),
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
    conntally.toml:16: output.format: must be one of auto, table, json, logfmt, line_protocol, null, but is a list
    "#);
}

#[test]
fn an_empty_step_of_the_rate_curve_lacks_both_its_keys() {
    assert_eq!(
        problems("[source]\nrate_curve = [{}]\n"),
        ["age", "every"].map(|key| format!(
            "conntally.toml:2: source.rate_curve[0].{key}: is missing; a step is {{ age = \"1m\", every = \"20s\" }}"
        ))
    );
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

/// Every option, behind the least that its table cannot do without.
fn options() -> Vec<(String, String)> {
    let schema = json_schema();
    let tables = schema.pointer("/properties").unwrap().as_object().unwrap();
    let mut options: Vec<_> = tables.keys().map(|key| (String::new(), key.clone())).collect();
    for (name, table) in tables {
        options.extend(keys_of(table).map(|key| (format!("[{name}]\n"), key.clone())));
    }
    let sinks = schema.pointer("/properties/sinks/additionalProperties/oneOf").unwrap();
    for sink in sinks.as_array().unwrap() {
        let needed = match sink.pointer("/properties/type/enum/0").unwrap().as_str().unwrap() {
            "influxdb" => {
                "type = \"influxdb\"\nurl = \"http://x\"\norg = \"o\"\nbucket = \"b\"\ntoken = \"t\"\n"
            }
            "elasticsearch" => "type = \"elasticsearch\"\nurls = [\"http://x\"]\n",
            other => &format!("type = \"{other}\"\n"),
        };
        let before = format!("state_dir = \"/\"\n[sinks.a]\n{needed}");
        assert!(check(&before).is_ok(), "{before}");
        let keys = keys_of(sink).filter(|key| !before.contains(&format!("\n{key} =")));
        options.extend(keys.map(|key| (before.clone(), key.clone())));
    }
    options
}

fn keys_of(table: &serde_json::Value) -> impl Iterator<Item = &String> {
    let properties = table.pointer("/properties").and_then(serde_json::Value::as_object);
    properties.into_iter().flat_map(|properties| properties.keys())
}

#[test]
fn any_value_of_any_key_is_refused_or_as_the_schema_says() {
    let values = [
        "0",
        "1",
        "-1",
        "4294967296",
        "9223372036854775808",
        "0x10",
        "1.5",
        "nan",
        "true",
        "\"\"",
        "\"5s\"",
        "\"16MiB\"",
        "\"auto\"",
        "\"end\"",
        "\"/\"",
        "[]",
        "[[]]",
        "[\"\"]",
        "[\"end\"]",
        "[\"end\", \"end\"]",
        "{}",
        "[{}]",
        "[{}, 1]",
        "[{ age = 1 }]",
        "[{ age = \"0s\" }]",
        "1979-05-27",
        "\"\\u0000\"",
    ];
    let options = options();
    assert!(options.len() > 60, "{options:?}");
    for (before, key) in options {
        for value in values {
            let text = format!("{before}{key} = {value}\n");
            if check(&text).is_ok() {
                by_schema(&text).unwrap_or_else(|error| panic!("{error}\n{text}"));
            }
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
fn a_state_directory_has_first_records_kept_that_no_sink_wants() {
    let text = "state_dir = \"/var/lib/conntally\"\n[sinks.a]\ntype = \"null\"\nevents = [\"end\"]\n";
    let config = check(text).unwrap();
    assert!(config.wants(RecordEvent::New) && !config.wants(RecordEvent::Update));
    let config = check(&text.replace("state_dir", "run_dir")).unwrap();
    assert!(!config.wants(RecordEvent::New));
}
