//! What is shipped beside the program: examples are run, the unit is held against the agent.
#![expect(clippy::unwrap_used, reason = "a test that cannot be set up has failed")]

#[path = "../http/mod.rs"]
mod http;
#[path = "../sights/mod.rs"]
mod sights;

mod server;

use std::net::IpAddr;
use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::time::Duration;

use conntally::config::{Document, WhenFull, validate};
use conntally::flow::Anchor;
use conntally::model::{Counter, Observation, ObservationKind, Totals, Tuple, protocol};
use conntally::source::Batch;
use conntally::source::replay::RecordingWriter;
use conntally::source::replay::format::Header;
use serde_json::{Value, json};
use server::Server;

const SINCE: Anchor = Anchor { real_ns: 1_700_000_000_000_000_000, boot_ns: 1_000_000_000 };

/// Packets of each flow, 100 bytes each.
const PACKETS: u64 = 7;

fn configs() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../configs")
}

/// A finished flow that a client opened to a service.
fn flow(number: u64, client: [u8; 4], service: u16) -> [Observation; 2] {
    let [src, dst] = [client, [198, 51, 100, 7]].map(|[a, b, c, d]| {
        let mut address = [0; 16];
        address[..4].copy_from_slice(&[a, b, c, d]);
        address
    });
    let port = 40_000 + u16::try_from(number).unwrap();
    let original =
        Tuple { src, dst, protocol: protocol::TCP, src_port: port, dst_port: service, ..Tuple::default() };
    [(ObservationKind::New, 1, 1), (ObservationKind::End, 9, PACKETS)].map(|(kind, after, packets)| {
        let moved = Counter { packets, bytes: packets * 100 };
        Observation {
            conntrack: 0xA0 + number,
            born_ns: SINCE.boot_ns + 1,
            start_ns: SINCE.real_ns.unsigned_abs() + number,
            totals: Totals { original: moved, reply: Counter::default() },
            ..sights::sight(kind, original, SINCE.boot_ns + after)
        }
    })
}

/// One flow of each of these clients.
fn recording(folder: &Path, clients: &[[u8; 4]]) -> PathBuf {
    let header = Header { boot_id: [7; 16], accounting_since: SINCE };
    let mut writer = RecordingWriter::new(Vec::new(), &header).unwrap();
    for (number, client) in (0..).zip(clients) {
        let observations = flow(number, *client, 443).to_vec();
        writer.write(&Batch { observations, settled: true, look: None }, SINCE).unwrap();
    }
    let file = folder.join("flows.rec");
    std::fs::write(&file, writer.finish().unwrap()).unwrap();
    file
}

/// Replays flows of these clients with an example whose servers are all at this address.
fn replayed(example: &str, server: &Server, clients: &[[u8; 4]]) -> Output {
    let folder = tempfile::tempdir().unwrap();
    for (name, secret) in
        [("conntally.influxdb", "token-of-influxdb"), ("conntally.elasticsearch", "aWQ6a2V5")]
    {
        std::fs::write(folder.path().join(name), format!("{secret}\n")).unwrap();
    }
    let state = folder.path().join("state");
    std::fs::create_dir(&state).unwrap();
    let url = format!("http://{}", server.address);
    Command::new(env!("CARGO_BIN_EXE_conntally"))
        .arg("replay")
        .arg(recording(folder.path(), clients))
        .arg("--config")
        .arg(configs().join("examples").join(example))
        .env("CREDENTIALS_DIRECTORY", folder.path())
        .env("CONNTALLY_RUN_DIR", folder.path().join("run"))
        .env("CONNTALLY_STATE_DIR", state)
        .env("CONNTALLY_SINKS__LIVE__URL", &url)
        .env("CONNTALLY_SINKS__LIVE__COMPRESS", "false")
        .env("CONNTALLY_SINKS__ARCHIVE__URLS", format!("[\"{url}\"]"))
        .env("CONNTALLY_SINKS__ARCHIVE__COMPRESS", "false")
        .output()
        .unwrap()
}

/// The integer field of every line, summed.
fn sum(lines: &str, field: &str) -> u64 {
    let value = |line: &str| {
        let rest = line.split_once(&format!("{field}="))?.1;
        rest.split_once('i')?.0.parse::<u64>().ok()
    };
    lines.lines().filter_map(value).sum()
}

/// Of one client the flows are wanted, of the other not; a tag tells the example's grouping.
fn an_example_works(example: &str, wanted: [u8; 4], unwanted: [u8; 4], tag: &str) {
    let server = Server::start().unwrap();
    let output = replayed(example, &server, &[wanted, unwanted]);
    let log = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "{log}");

    let writes = server.asked("/api/v2/write");
    let lines: String = writes.iter().map(|asked| asked.body.as_str()).collect();
    assert!(lines.contains(tag), "{lines}");
    assert_eq!(sum(&lines, "source_bytes"), PACKETS * 100, "{lines}");
    assert_eq!(sum(&lines, "flows_ended"), 1, "{lines}");
    assert!(writes.iter().all(|asked| asked.authorization == "Token token-of-influxdb"), "{writes:?}");

    let bulks = server.asked("/logs-conntally.flow-");
    assert!(bulks.iter().all(|asked| asked.authorization == "ApiKey aWQ6a2V5"), "{bulks:?}");
    let documents: Vec<Value> = bulks
        .iter()
        .flat_map(|asked| asked.body.lines().skip(1).step_by(2).collect::<Vec<_>>())
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    let source = |field: &str| -> Vec<_> {
        documents.iter().map(|document| document.pointer(&format!("/source/{field}")).cloned()).collect()
    };
    assert_eq!(source("ip"), [Some(json!(IpAddr::from(wanted)))], "{log}");
    assert_eq!(source("bytes"), [Some(json!(PACKETS * 100))], "{log}");
}

#[test]
fn the_example_of_a_router_works() {
    an_example_works("router.toml", [192, 168, 100, 9], [127, 0, 0, 1], "src=guests");
}

#[test]
fn the_example_of_a_vpn_gateway_works() {
    an_example_works("vpn-gateway.toml", [10, 8, 3, 9], [10, 9, 0, 1], "src=10.8.3.9");
}

#[test]
fn the_example_of_a_container_host_works() {
    an_example_works("container-host.toml", [172, 18, 0, 2], [127, 0, 0, 1], "src=containers");
}

#[test]
fn an_outage_of_the_archive_costs_an_example_no_flow_while_its_disk_has_room() {
    for example in ["router.toml", "vpn-gateway.toml", "container-host.toml"] {
        let file = configs().join("examples").join(example);
        let document = Document::parse(&std::fs::read_to_string(&file).unwrap(), &file).unwrap();
        let sinks = validate(&document).unwrap().sinks;
        let archive = sinks.iter().find(|sink| sink.name == "archive").unwrap();
        assert_eq!(archive.queue.when_full, WhenFull::Spool, "{example}");
        let spool = archive.spool.as_ref().unwrap();
        assert_eq!(spool.dir, Path::new("/var/lib/conntally/spool/archive"), "{example}");
        assert!(spool.max_bytes >= 1 << 30, "{example}");
    }
}

/// `conntally` that can say something to a service manager, and what it said.
fn told(prepare: impl FnOnce(&mut Command, &Path)) -> (Output, Vec<String>) {
    let folder = tempfile::tempdir().unwrap();
    let socket = UnixDatagram::bind(folder.path().join("notify")).unwrap();
    socket.set_read_timeout(Some(Duration::from_millis(50))).unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_conntally"));
    command.env("NOTIFY_SOCKET", folder.path().join("notify"));
    prepare(&mut command, folder.path());
    let output = command.output().unwrap();
    let mut told = Vec::new();
    let mut buffer = [0; 4096];
    while let Ok(length) = socket.recv(&mut buffer) {
        told.push(String::from_utf8_lossy(buffer.get(..length).unwrap()).trim_end().to_owned());
    }
    (output, told)
}

#[test]
fn a_service_manager_is_told_that_it_is_ready_and_that_it_stops() {
    let (output, told) = told(|command, folder| {
        let file = recording(folder, &[[10, 0, 0, 1]]);
        command.args(["replay", "--output", "null"]).arg(file);
    });
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    assert_eq!(told, ["READY=1", "STOPPING=1"]);
}

#[test]
fn an_agent_that_cannot_start_is_never_ready() {
    let (output, told) = told(|command, folder| {
        command.args(["replay"]).arg(folder.join("no such recording"));
    });
    assert!(!output.status.success());
    assert_eq!(told, Vec::<String>::new());
}

/// What the unit says under a name, each time it does.
fn unit(name: &str) -> Vec<String> {
    let text = std::fs::read_to_string(configs().join("conntally.service")).unwrap();
    let value = |line: &str| Some(line.split_once('=').filter(|(key, _)| *key == name)?.1.to_owned());
    text.lines().filter_map(value).collect()
}

#[test]
fn the_unit_hands_over_what_the_examples_name() {
    let credentials = unit("LoadCredential");
    for example in ["router.toml", "vpn-gateway.toml", "container-host.toml"] {
        let text = std::fs::read_to_string(configs().join("examples").join(example)).unwrap();
        let named: Vec<_> = text.split("\"$CREDENTIALS_DIRECTORY/").skip(1).collect();
        assert_eq!(named.len(), 2, "{example}");
        for name in named {
            let name = name.split('"').next().unwrap();
            assert!(
                credentials.iter().any(|known| known == name),
                "{example}: {name} is not in {credentials:?}"
            );
        }
        let state = format!("state_dir = \"/var/lib/{}\"", unit("StateDirectory").concat());
        assert!(text.contains(&state), "{example}");
    }
}

#[test]
fn the_unit_starts_a_command_that_there_is() {
    let [start] = unit("ExecStart").try_into().unwrap();
    let mut words = start.split(' ');
    assert_eq!(words.next(), Some("/usr/bin/conntally"));
    let output = Command::new(env!("CARGO_BIN_EXE_conntally")).args(words).arg("--help").output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

#[test]
fn outside_of_a_service_an_example_is_valid_but_cannot_run() {
    let example = configs().join("examples/router.toml");
    let conntally = |arguments: &[&str]| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_conntally"));
        command.args(arguments).arg(&example).env_remove("CREDENTIALS_DIRECTORY").output().unwrap()
    };
    let valid = conntally(&["config", "validate"]);
    assert!(valid.status.success(), "{}", String::from_utf8_lossy(&valid.stderr));
    let run = conntally(&["run", "--config"]);
    let log = String::from_utf8_lossy(&run.stderr).into_owned();
    assert!(!run.status.success() && log.contains("LoadCredential="), "{log}");
}
