//! Scenarios about flows that a flowtable leads around conntrack.

use std::thread;
use std::time::Duration;

use anyhow::Result;

use super::{Outcome, Settings, Stage};
use crate::lab::{FAMILIES, Lab, ROUTER};
use crate::netns::Namespace;
use crate::traffic::Exchange;

/// A software flowtable over both of the router's interfaces.
const FLOWTABLE: &str = "add table inet fast
add flowtable inet fast way { hook ingress priority 0; devices = { left, right }; COUNTER }
add chain inet fast forward { type filter hook forward priority 0; }
add rule inet fast forward meta l4proto udp flow add @way";

/// So often a flow that moves is reported.
const EVERY: &str = r#"[{ age = "0s", every = "500ms" }]"#;

/// Rounds of packets, with pauses in which the agent can look at the flows and at the rules.
const ROUNDS: usize = 12;
const PAUSE: Duration = Duration::from_millis(500);

/// What the agent says when it cannot know the totals.
const WARNING: &str = "flowtable without counter";

/// A flowtable that counts: every byte is there, and nothing is flagged.
pub(super) fn counted(settings: &Settings) -> Result<Outcome> {
    offloaded(settings, true)
}

/// A flowtable that does not: the flows are flagged, their totals too low, and the agent says how to mend it, once.
pub(super) fn uncounted(settings: &Settings) -> Result<Outcome> {
    if !settings.by_netlink() && !settings.knows("reconcile_every")? {
        return Ok(Outcome::skip("this agent sees no flow whose packets bypass its hooks"));
    }
    offloaded(settings, false)
}

fn offloaded(settings: &Settings, counts: bool) -> Result<Outcome> {
    let lab = Lab::routed()?;
    if let Err(refused) = lay(lab.namespace(ROUTER)?, counts) {
        return Ok(Outcome::skip(&format!("no flowtable can be made here: {refused:#}")));
    }
    let options = settings.options_with(&[("CONNTALLY_SOURCE__RATE_CURVE", EVERY)]);
    let mut stage = Stage::open_with(settings, lab, &options)?;
    let mut exchanges = Vec::new();
    for family in FAMILIES {
        exchanges.push(Exchange::open(&stage.lab.path(family)?, 20_001, 7001)?);
    }
    for round in 0..ROUNDS {
        for exchange in &mut exchanges {
            exchange.ask(100 + round)?;
            exchange.answer(200 + round)?;
        }
        thread::sleep(PAUSE);
    }
    for exchange in exchanges {
        let sent = exchange.sent()?;
        stage.lab.expect(&sent.tuple, |expected| expected.offloaded = !counts)?;
        stage.lab.promise(sent);
    }
    judge(stage, counts)
}

fn lay(router: &Namespace, counts: bool) -> Result<()> {
    let counter = if counts { "counter;" } else { "" };
    router.exec("nft", &[&FLOWTABLE.replace("COUNTER", counter)])?;
    Ok(())
}

fn judge(stage: Stage<'_>, counts: bool) -> Result<Outcome> {
    let (mut outcome, ended) = stage.finish_with(2)?;
    let accounts = ended.output.records.accounts();
    let offloaded = accounts.filter(|flow| flow.status.iter().any(|status| status == "offloaded")).count();
    if offloaded == 0 {
        outcome.verdict.problem("no flow was seen offloaded: nothing is proven".to_owned());
    }
    let warnings = ended.output.log.iter().filter(|line| line.contains(WARNING)).count();
    if warnings != usize::from(!counts) {
        outcome.verdict.problem(format!("{warnings} warnings of a flowtable without counter"));
    }
    Ok(outcome)
}
