//! What a person who filters sees: the records that are wanted, and what the others moved in the audit.
#![expect(clippy::unwrap_used, clippy::expect_used, reason = "a test that cannot be set up has failed")]

#[path = "sights/ports.rs"]
mod ports_of_flows;
mod replaying;
mod sights;

use std::process::{Command, Output};

use conntally::model::ObservationKind;
use ports_of_flows::sight;
use replaying::{file, recording};
use tempfile::NamedTempFile;

/// Two flows: from port 1001 with 7 packets each way, from port 1002 with 4.
fn two_flows() -> NamedTempFile {
    use ObservationKind::{End, New};
    recording([
        vec![sight(New, 1001, 1), sight(New, 1002, 2)],
        vec![sight(End, 1002, 4)],
        vec![sight(End, 1001, 7)],
    ])
}

fn replay(config: &str) -> Output {
    let (config, recording) = (file(config.as_bytes()), two_flows());
    let mut command = Command::new(env!("CARGO_BIN_EXE_conntally"));
    command.arg("-c").arg(config.path()).arg("replay").arg(recording.path());
    let output = command.output().expect("the agent could not be started");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    output
}

fn ports(output: &Output) -> Vec<u64> {
    let lines = String::from_utf8_lossy(&output.stdout).into_owned();
    let port = |line: &str| {
        let record: serde_json::Value = serde_json::from_str(line).unwrap();
        record.pointer("/source/port").unwrap().as_u64().unwrap()
    };
    lines.lines().map(port).collect()
}

fn audit(output: &Output) -> String {
    let log = String::from_utf8_lossy(&output.stderr).into_owned();
    log.lines().rfind(|line| line.contains("audit: ")).expect("an agent ends with an audit").to_owned()
}

#[test]
fn what_is_not_wanted_is_not_written_but_counted() {
    let all = replay("[output]\nformat = \"json\"\n");
    assert_eq!(ports(&all).len(), 4);
    assert!(audit(&all).contains("filtered 0 + lost 0"), "{}", audit(&all));

    let some = replay("[output]\nformat = \"json\"\n[filter]\nexclude = [\"src_port = 1002\"]\n");
    assert_eq!(ports(&some), [1001, 1001]);
    let audit = audit(&some);
    assert!(audit.contains("bytes: ended 2200 + living 0 - baseline 0 = delivered 1400 "), "{audit}");
    assert!(audit.contains("filtered 800 + lost 0"), "{audit}");
    assert!(audit.contains("completeness of bytes 100 %"), "{audit}");
}

#[test]
fn a_sink_gets_what_its_own_filter_wants() {
    let output = replay(
        "[networks]\nsite = { prefixes = [\"10.0.0.0/8\"], internal = true }\n\
         [sinks.a]\ntype = \"stdout\"\nformat = \"json\"\ninclude = [\"src_port = 1001 and direction = outbound\"]\n",
    );
    assert_eq!(ports(&output), [1001, 1001]);
}
