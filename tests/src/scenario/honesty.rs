//! Scenarios about what the agent admits, and about a reader that goes away.

use std::io::{BufRead, BufReader, Read};
use std::process::Stdio;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};

use super::races::UNMANAGED;
use super::{Outcome, Settings, Stage};
use crate::agent::{Hook, Process};
use crate::compare::Verdict;
use crate::lab::{FAMILIES, Family, Lab};
use crate::traffic::{self, Path};

/// What the agent says when accounting is off.
const UNCOUNTED: &str = "the kernel does not count new flows";

/// Flows that the kernel does not count, because accounting is off and the agent may not turn it on.
pub(super) fn no_counters(settings: &Settings) -> Result<Outcome> {
    let mut options = settings.options();
    options.environment.push(UNMANAGED);
    let lab = Lab::direct()?;
    lab.netfilter("nf_conntrack_acct", 0)?;
    // Without the kernel's stamp a dump does not tell a new flow from an old one; hooks see its first packet.
    lab.netfilter("nf_conntrack_timestamp", u64::from(settings.hook == Hook::Netlink))?;
    let mut stage = Stage::open_with(settings, lab, &options)?;
    for family in FAMILIES {
        let sent = traffic::exchange(&stage.lab.path(family)?, 20_001, 7001, &[10, 20], &[30])?;
        stage.lab.expect(&sent.tuple, |expected| expected.no_counters = true)?;
        stage.lab.promise(sent);
    }
    let (mut outcome, ended) = stage.finish_with(2 * 2)?;
    let warnings = ended.output.log.iter().filter(|line| line.contains(UNCOUNTED)).count();
    if warnings != 1 {
        outcome.verdict.problem(format!("{warnings} warnings that flows are not counted"));
    }
    Ok(outcome)
}

/// `conntally | head -1`: the agent ends by itself, with exit code 0 and nothing to complain of.
pub(super) fn pipe(settings: &Settings) -> Result<Outcome> {
    let lab = Lab::direct()?;
    let started = Instant::now();
    let mut command = settings.options().command("json");
    command.stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut process = Process::spawn(&mut command, &settings.agent)?;
    let stdout = process.child.stdout.take().context("the agent has no standard output")?;
    let mut log = BufReader::new(process.child.stderr.take().context("the agent has no standard error")?);
    let ready_line = ready_line(&mut log)?;
    let ready_ms = started.elapsed().as_millis();
    let path = lab.path(Family::V4)?;
    traffic::exchange(&path, 20_001, 7001, &[10], &[20])?;
    let mut first = String::new();
    BufReader::new(stdout).read_line(&mut first)?;
    // The reader is gone from here on; the agent notices when it next writes.
    let verdict = judge_end(&mut process, &mut log, &path, &first)?;
    Ok(Outcome { verdict, ready_line, ready_ms, skipped: None })
}

fn ready_line(log: &mut impl BufRead) -> Result<String> {
    let mut line = String::new();
    while !line.starts_with("ready") {
        line.clear();
        let length = log.read_line(&mut line)?;
        anyhow::ensure!(length > 0, "the agent ended before it was ready");
    }
    Ok(line.trim_end().to_owned())
}

fn judge_end(process: &mut Process, log: &mut impl Read, path: &Path<'_>, first: &str) -> Result<Verdict> {
    let deadline = Instant::now() + Duration::from_secs(15);
    let mut port = 21_000;
    while process.child.try_wait()?.is_none() && Instant::now() < deadline {
        traffic::burst(path, port..port + 1, 7002)?;
        port += 1;
        thread::sleep(Duration::from_millis(100));
    }
    let status = process.wait(Duration::from_millis(1))?;
    let mut said = String::new();
    log.read_to_string(&mut said)?;
    let mut verdict = Verdict::new(1, 1, 1);
    verdict.matched = 1;
    if serde_json::from_str::<serde_json::Value>(first).is_err() {
        verdict.problem(format!("the first line is no JSON: {first}"));
    }
    if status.code() != Some(0) {
        verdict.problem(format!("the agent ended with {status}"));
    }
    if ["ERROR", "WARN", "panicked"].iter().any(|word| said.contains(word)) {
        verdict.problem(format!("the agent complained: {said}"));
    }
    Ok(verdict)
}
