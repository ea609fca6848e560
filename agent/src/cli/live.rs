//! `conntally check --live`: what the agents that run now say of themselves.

use super::args::Cli;
use super::{settings, status_file};
use anyhow::{Context, ensure};
use serde_json::Value;
use std::io::{self, Write};
use std::process::ExitCode;

/// The exit code of `check` when it works with limits.
const LIMITED: u8 = 3;

/// Prints the status of each running agent. Ends with 3 when one of them misses something or cannot tell.
pub(super) fn run(cli: &Cli, json: bool) -> anyhow::Result<ExitCode> {
    let config = settings::start(cli)?;
    let agents = status_file::running(&config.run_dir).context("cannot read the clock")?;
    let place = config.run_dir.display();
    ensure!(
        !agents.is_empty(),
        "no agent that runs has its status in {place}; start one, or name its run_dir, or wait ten seconds"
    );
    let mut out = io::stdout().lock();
    for agent in &agents {
        let line = if json { agent.to_string() } else { text(agent) };
        match writeln!(out, "{line}") {
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => return Ok(ExitCode::SUCCESS),
            result => result.context("cannot write to standard output")?,
        }
    }
    let is_whole = |agent: &Value| agent.get("whole") == Some(&Value::Bool(true));
    Ok(if agents.iter().all(is_whole) { ExitCode::SUCCESS } else { ExitCode::from(LIMITED) })
}

fn text(agent: &Value) -> String {
    let word = |key: &str| agent.get(key).and_then(Value::as_str).unwrap_or("unknown");
    let pid = agent.get("pid").and_then(Value::as_u64).unwrap_or_default();
    let mut text = format!("agent {pid}: {}\n  {}", word("source"), word("text").replace("; ", "\n  "));
    if let Some(window) = agent.get("window_text").and_then(Value::as_str) {
        text.push_str(&format!("\n  of the last minute: {window}"));
    }
    for (key, words) in [
        ("live_flows", "flows that live now"),
        ("offloaded_uncounted", "of them offloaded without being counted"),
        ("longest_sweep_run_us", "microseconds of the longest run over flows that were due"),
        ("longest_walk_run_us", "microseconds of the longest run through the kernel's table"),
    ] {
        if let Some(count) = agent.get(key).and_then(Value::as_u64) {
            text.push_str(&format!("\n  {words}: {count}"));
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_person_reads_one_thing_a_line() {
        let agent = json!({ "pid": 7, "source": "source=bpf", "text": "completeness 100 %; bytes: 1 = 1" });
        assert_eq!(text(&agent), "agent 7: source=bpf\n  completeness 100 %\n  bytes: 1 = 1");
        let window = json!({ "window_text": "completeness of bytes 100 %" });
        assert!(text(&window).ends_with("\n  of the last minute: completeness of bytes 100 %"));
        let gauges = json!({ "live_flows": 12, "offloaded_uncounted": 3 });
        let told = "\n  flows that live now: 12\n  of them offloaded without being counted: 3";
        assert!(text(&gauges).ends_with(told));
        let runs = json!({ "longest_sweep_run_us": 302, "longest_walk_run_us": 290 });
        let told = "\n  microseconds of the longest run over flows that were due: 302\n  microseconds of the longest \
                    run through the kernel's table: 290";
        assert!(text(&runs).ends_with(told), "{}", text(&runs));
        assert_eq!(text(&json!({})), "agent 0: unknown\n  unknown");
    }
}
