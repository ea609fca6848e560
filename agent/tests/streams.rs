//! What stands on standard output and standard error, told by a replay through the agent's binary.
#![expect(clippy::unwrap_used, clippy::expect_used, reason = "a test that cannot be set up has failed")]

#[path = "sights/ports.rs"]
mod ports_of_flows;
mod replaying;
mod sights;

use std::io::{BufRead, BufReader, Read};
use std::process::{Command, Output, Stdio};
use std::thread;
use std::time::Duration;

use conntally::model::ObservationKind;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use ports_of_flows::sight;
use replaying::{file, recording};
use tempfile::NamedTempFile;

/// What a flow moves, a packet each way.
const FLOW_BYTES: u64 = 200;

/// So many flows, each with its begin and its end.
fn flows(count: u16) -> NamedTempFile {
    let moments = |port| [ObservationKind::New, ObservationKind::End].map(|kind| sight(kind, port, 1)).into();
    recording((1..=count).map(moments))
}

fn command(config: &NamedTempFile, recording: &NamedTempFile) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_conntally"));
    command.env("NO_COLOR", "1").arg("-c").arg(config.path()).arg("replay").arg(recording.path());
    command
}

fn replay(config: &str, arguments: &[&str]) -> (String, String) {
    let (config, recording) = (file(config.as_bytes()), flows(2));
    let output =
        command(&config, &recording).args(arguments).output().expect("the agent could not be started");
    let Output { status, stdout, stderr } = output;
    let log = String::from_utf8(stderr).unwrap();
    assert!(status.success(), "{log}");
    (String::from_utf8(stdout).unwrap(), log)
}

#[test]
fn records_stand_on_both_streams_in_the_format_of_each() {
    let (output, log) = replay(
        "[sinks.out]\ntype = \"stdout\"\nformat = \"logfmt\"\n[sinks.err]\ntype = \"stderr\"\nformat = \"json\"\n\
         [log]\nformat = \"json\"\n",
        &[],
    );
    assert_eq!(output.lines().filter(|line| line.starts_with("@timestamp=")).count(), 4, "{output}");
    let is_record = |line: &&str| {
        let line: serde_json::Value = serde_json::from_str(line).expect("each line is JSON");
        line.get("level").is_none() && line.get("ecs").is_some()
    };
    assert_eq!(log.lines().filter(is_record).count(), 4, "{log}");
    assert!(log.contains("account: nothing was lost\",\"flows\":2"), "{log}");
    assert!(!log.contains("sinks.err writes to standard error"), "{log}");
}

#[test]
fn records_among_lines_of_a_log_for_people_are_warned_of() {
    let (_, log) = replay("[sinks.err]\ntype = \"stderr\"\nformat = \"line_protocol\"\n", &[]);
    assert!(log.contains("WARN sinks.err writes to standard error, between the lines of the log"), "{log}");
    assert_eq!(log.lines().filter(|line| line.starts_with("flows,dst=")).count(), 4, "{log}");
}

#[test]
fn the_command_line_chooses_the_format() {
    for (format, begin) in
        [("logfmt", "@timestamp="), ("line_protocol", "flows,dst="), ("json", "{\"@timestamp\"")]
    {
        let (output, _) = replay("", &["--output", format]);
        assert_eq!(output.lines().filter(|line| line.starts_with(begin)).count(), 4, "{output}");
    }
}

/// The number that stands behind the last such word.
fn number(log: &str, word: &str) -> u64 {
    let behind = log.rsplit_once(word).map_or("", |(_, behind)| behind);
    behind.split(|c: char| !c.is_ascii_digit()).next().unwrap().parse().unwrap()
}

#[test]
fn a_reader_that_has_seen_enough_is_no_error_and_what_it_left_is_counted_and_not_delivered() {
    let recording = flows(20_000);
    for (config, reason) in [
        ("[output]\nformat = \"json\"\n", "output_reader_gone"),
        ("[sinks.out]\ntype = \"stdout\"\n", "out.reader_gone"),
    ] {
        let config = file(config.as_bytes());
        let mut agent = command(&config, &recording);
        let mut agent = agent.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let mut first = String::new();
        // Gone after a line.
        BufReader::new(agent.stdout.take().unwrap()).read_line(&mut first).unwrap();
        let mut log = String::new();
        agent.stderr.take().unwrap().read_to_string(&mut log).unwrap();
        assert!(agent.wait().unwrap().success(), "{log}");
        assert!(log.contains("shutting down: the reader of the output has gone"), "{log}");
        assert!(!log.contains("WARN") && !log.contains("ERROR"), "{log}");
        let account = log.lines().find(|line| line.contains("account: ")).unwrap();
        let left =
            number(account, &format!("lost is only what a reader that has gone did not take: {reason} "));
        assert!(left > 0, "{log}");
        assert_eq!(number(account, " records="), number(account, " written=") + left, "{log}");
        let audit = log.lines().rfind(|line| line.contains("audit: ")).unwrap();
        assert!(audit.contains(&format!("; lost by {reason}: ")), "{audit}");
        assert!(!audit.contains("completeness of bytes 100 %") && !audit.contains('≠'), "{audit}");
        // Each flow's begin brings all it moves.
        let bytes = audit.split("packets: ").next().unwrap();
        assert_eq!(
            number(bytes, "= delivered "),
            number(account, " written=").div_ceil(2) * FLOW_BYTES,
            "{log}"
        );
    }
}

/// Far more than a pipe holds, all of it read at once, and an agent whose shutdown may take half a second.
fn hasty(format: &str) -> (NamedTempFile, NamedTempFile) {
    let moments =
        [ObservationKind::New, ObservationKind::End].map(|kind| (1..=5_000).map(move |port| (kind, port)));
    let all = moments.into_iter().flatten().map(|(kind, port)| sight(kind, port, 1)).collect();
    (file(format!("shutdown_timeout = \"500ms\"\n{format}").as_bytes()), recording([all]))
}

#[test]
fn a_replay_waits_for_its_reader_however_long_that_takes() {
    for format in ["[output]\nformat = \"json\"\n", "[sinks.out]\ntype = \"stdout\"\n"] {
        let (config, recording) = hasty(format);
        let mut agent = command(&config, &recording);
        let mut agent = agent.stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
        thread::sleep(Duration::from_secs(2));
        let lines = BufReader::new(agent.stdout.take().unwrap()).lines().map_while(Result::ok).count();
        assert_eq!((lines, agent.wait().unwrap().code()), (10_000, Some(0)));
    }
}

#[test]
fn a_replay_that_is_asked_to_stop_waits_for_its_reader_no_longer_than_a_shutdown_may_take() {
    let (config, recording) = hasty("[output]\nformat = \"json\"\n");
    let mut agent = command(&config, &recording);
    let mut agent = agent.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let mut output = BufReader::new(agent.stdout.take().unwrap());
    output.read_line(&mut String::new()).unwrap();
    kill(Pid::from_raw(agent.id().cast_signed()), Signal::SIGTERM).unwrap();
    assert_eq!(agent.wait().unwrap().code(), Some(1));
    let log = BufReader::new(agent.stderr.take().unwrap());
    let last = log.lines().map_while(Result::ok).last().unwrap();
    assert_eq!(
        last,
        "conntally: the shutdown did not finish within 500ms (shutdown_timeout): writing the output"
    );
}

/// A warning for each variable that is no key: far more than a pipe holds.
fn talkative(config: &NamedTempFile, recording: &NamedTempFile) -> Command {
    let mut command = command(config, recording);
    command.envs((0..5_000).map(|number| (format!("CONNTALLY_NO_KEY_{number}"), "1")));
    command.stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

#[test]
fn a_log_that_nobody_reads_holds_up_nothing() {
    let (config, recording) = (file(b"[output]\nformat = \"json\"\n"), flows(2));
    let mut agent = talkative(&config, &recording).spawn().unwrap();
    let log = agent.stderr.take().unwrap();
    let Output { status, stdout, .. } = agent.wait_with_output().unwrap();
    assert!(status.success(), "{status}");
    assert_eq!(stdout.split(|byte| *byte == b'\n').filter(|line| line.starts_with(b"{")).count(), 4);
    drop(log);
}

#[test]
fn a_log_whose_reader_has_gone_costs_no_record() {
    let (config, recording) = (file(b"[output]\nformat = \"json\"\n"), flows(2));
    let mut agent = talkative(&config, &recording).spawn().unwrap();
    drop(agent.stderr.take());
    let Output { status, stdout, .. } = agent.wait_with_output().unwrap();
    assert!(status.success(), "{status}");
    assert_eq!(stdout.split(|byte| *byte == b'\n').filter(|line| line.starts_with(b"{")).count(), 4);
}
