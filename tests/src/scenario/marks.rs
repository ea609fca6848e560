//! The scenario about what rules and people write on flows: marks and labels.

use std::thread;
use std::time::{Duration, Instant};

use anyhow::Result;

use super::{Outcome, Settings, Stage};
use crate::agent::Updates;
use crate::lab::{CLIENT, FAMILIES, Lab, SERVER};
use crate::netns::Namespace;
use crate::traffic::Exchange;

/// Marks all flows, where their packets come in or go out.
const MARKING: &str = "add table inet marking
add chain inet marking in { type filter hook prerouting priority 10; }
add chain inet marking out { type filter hook output priority 10; }
flush table inet marking
add rule inet marking in ct mark set MARK ct label set LABEL
add rule inet marking out ct mark set MARK ct label set LABEL";

const FIRST: u32 = 0x11;
const SECOND: u32 = 0x22;
const THIRD: u32 = 0x33;

/// Bits 3 and 5 of the labels, once both were set.
const LABELS: [u8; 16] = [0b10_1000, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];

/// So often a flow that moves is reported.
const EVERY: &str = r#"[{ age = "0s", every = "500ms" }]"#;

/// How long a change may take to show; the netlink source dumps once a second.
const SHOWN_WITHIN: Duration = Duration::from_secs(10);

/// Marks and labels that rules and a person change while flows live: each shows in the next record and in the end.
pub(super) fn marks(settings: &Settings) -> Result<Outcome> {
    let options = settings.options_with(&[("CONNTALLY_SOURCE__RATE_CURVE", EVERY)]);
    let mut stage = Stage::open_with(settings, Lab::direct()?, &options)?;
    set(&stage.lab, FIRST, 3)?;
    let mut exchanges = Vec::new();
    for family in FAMILIES {
        exchanges.push(Exchange::open(&stage.lab.path(family)?, 20_001, 7001)?);
    }
    let mut late = Vec::new();
    late.extend(talk_until_shown(&stage, &mut exchanges, FIRST)?);
    set(&stage.lab, SECOND, 5)?;
    late.extend(talk_until_shown(&stage, &mut exchanges, SECOND)?);
    for place in [CLIENT, SERVER] {
        change(stage.lab.namespace(place)?)?;
    }
    if stage.by_netlink() || settings.updates == Some(Updates::Sweep) {
        // Each due time brings a look at the flow, whether or not it moves.
        let flows = exchanges.len();
        late.extend(until_shown(&stage, flows, THIRD, || Ok(()))?);
    }
    for exchange in exchanges {
        let sent = exchange.sent()?;
        stage.lab.expect(&sent.tuple, |expected| {
            expected.marks = vec![FIRST, SECOND, THIRD];
            expected.labels = Some(LABELS);
        })?;
        stage.lab.promise(sent);
    }
    let mut outcome = stage.finish(2 * 2)?;
    late.into_iter().for_each(|words| outcome.verdict.problem(words));
    Ok(outcome)
}

fn set(lab: &Lab, mark: u32, label: u8) -> Result<()> {
    let rules = MARKING.replace("MARK", &mark.to_string()).replace("LABEL", &label.to_string());
    for place in [CLIENT, SERVER] {
        lab.namespace(place)?.exec("nft", &[&rules])?;
    }
    Ok(())
}

/// What a person does: no packet goes with it.
fn change(namespace: &Namespace) -> Result<()> {
    for family in ["ipv4", "ipv6"] {
        namespace.exec("conntrack", &["-U", "-f", family, "-p", "udp", "--mark", &THIRD.to_string()])?;
    }
    Ok(())
}

/// Keeps the flows moving until all of them were reported with this mark; a complaint if that took too long.
fn talk_until_shown(stage: &Stage<'_>, exchanges: &mut [Exchange], mark: u32) -> Result<Option<String>> {
    let flows = exchanges.len();
    until_shown(stage, flows, mark, || {
        exchanges.iter_mut().try_for_each(|exchange| {
            exchange.ask(50)?;
            exchange.answer(60)
        })
    })
}

/// Waits until so many flows were reported with this mark in both namespaces, doing something meanwhile.
fn until_shown(
    stage: &Stage<'_>,
    flows: usize,
    mark: u32,
    mut meanwhile: impl FnMut() -> Result<()>,
) -> Result<Option<String>> {
    let namespaces = stage.lab.tracked();
    let began = Instant::now();
    while began.elapsed() < SHOWN_WITHIN {
        meanwhile()?;
        let shown = |output: &crate::agent::Output| {
            let accounts = output.records.accounts();
            let ours = accounts.filter(|flow| namespaces.contains(&flow.key.netns));
            ours.filter(|flow| flow.marks.last() == Some(&mark)).count()
        };
        if shown(&stage.agent.output()) == 2 * flows {
            return Ok(None);
        }
        thread::sleep(Duration::from_millis(50));
    }
    Ok(Some(format!("mark {mark:#x} did not show within {} s", SHOWN_WITHIN.as_secs())))
}
