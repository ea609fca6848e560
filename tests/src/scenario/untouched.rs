//! Scenarios about flows that lived before the agent and that nobody attached anything to.

use std::fs;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::Result;

use super::{Outcome, Settings, Stage};
use crate::agent::{Agent, Ended};
use crate::lab::{FAMILIES, Family, Lab};
use crate::traffic::{self, Exchange};

/// What an agent logs that is ready before its first walk is complete.
const HASTY: &str = "the first look takes longer";

/// The agent looks at the table so often, in the words of the environment.
const LOOKS: (&str, &str) = ("CONNTALLY_SOURCE__RECONCILE_EVERY", "1s");

/// What the agent logs of each walk, and where it says so.
const WALKED: &str = "walked through the kernel's table";
const LOG: (&str, &str) = ("CONNTALLY_LOG__LEVEL", "debug");

/// How long two walks may take to be told.
const WALKS_SHOW: Duration = Duration::from_secs(10);

/// Old flows of each family.
const OLD: u16 = 5;

/// Old flows without a single extension, under an agent that turns accounting on.
pub(super) fn managed(settings: &Settings) -> Result<Outcome> {
    untouched(settings, "true")
}

/// The same under an agent that may change nothing.
pub(super) fn unmanaged(settings: &Settings) -> Result<Outcome> {
    untouched(settings, "false")
}

fn untouched(settings: &Settings, manage: &'static str) -> Result<Outcome> {
    if settings.by_netlink() {
        return Ok(Outcome::skip("the netlink source reads no entries"));
    }
    let mut lab = Lab::direct()?;
    for key in ["nf_conntrack_acct", "nf_conntrack_timestamp", "nf_conntrack_events"] {
        lab.netfilter(key, 0)?;
    }
    lab.capture()?;
    let exchanges = old_flows(&lab)?;
    lab.quiet();
    lab.baseline();
    let keys = [("CONNTALLY_SOURCE__MANAGE_SYSCTLS", manage), LOOKS, LOG];
    let agent = Agent::start(&settings.options_with(&keys))?;
    let mut stage = Stage::around(settings, lab, agent);
    for mut exchange in exchanges {
        exchange.ask(300)?;
        exchange.answer(400)?;
        let sent = exchange.sent()?;
        stage.lab.expect(&sent.tuple, |expected| expected.no_counters = true)?;
        stage.lab.promise(sent);
    }
    new_flow(&mut stage, manage == "true")?;
    let walks = await_walks(&stage.agent);
    let flows = 2 * (FAMILIES.len() * usize::from(OLD) + 1);
    let (mut outcome, ended) = stage.finish_with(flows)?;
    if let Some(line) = ended.output.log.iter().find(|line| line.contains(HASTY)) {
        outcome.verdict.problem(format!("the first walk hangs: {line}"));
    }
    if walks < 2 {
        outcome.verdict.problem(format!("{walks} walks were completed, not two"));
        keep_log(settings, &ended)?;
    }
    Ok(outcome)
}

fn old_flows(lab: &Lab) -> Result<Vec<Exchange>> {
    let mut exchanges = Vec::new();
    for family in FAMILIES {
        let path = lab.path(family)?;
        for port in 0..OLD {
            let mut exchange = Exchange::open(&path, 20_001 + port, 7001 + port)?;
            exchange.ask(100)?;
            exchange.answer(200)?;
            exchanges.push(exchange);
        }
    }
    Ok(exchanges)
}

/// A flow of the agent's own time, which is settled beside the old ones; counted if the agent saw to it.
fn new_flow(stage: &mut Stage<'_>, counted: bool) -> Result<()> {
    let sent = traffic::exchange(&stage.lab.path(Family::V4)?, 20_100, 7100, &[10], &[20])?;
    stage.lab.expect(&sent.tuple, |expected| expected.no_counters = !counted)?;
    stage.lab.promise(sent);
    Ok(())
}

/// How many walks were completed, waiting for two.
fn await_walks(agent: &Agent) -> usize {
    let until = Instant::now() + WALKS_SHOW;
    loop {
        let walks = agent.output().log.iter().filter(|line| line.contains(WALKED)).count();
        if walks >= 2 || Instant::now() > until {
            return walks;
        }
        thread::sleep(Duration::from_millis(100));
    }
}

fn keep_log(settings: &Settings, ended: &Ended) -> Result<()> {
    if let Some(out) = &settings.out {
        fs::create_dir_all(out)?;
        fs::write(out.join("agent.log"), ended.output.log.join("\n"))?;
    }
    Ok(())
}
