//! Scenarios with more than an agent reads at once, or with trouble while the load goes on.

use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Result, anyhow};

use super::ends::{MAX, read, while_set};
use super::{Outcome, Settings, Stage};
use crate::agent::{Agent, Ended};
use crate::compare::Verdict;
use crate::lab::{CLIENT, FAMILIES, Family, Lab};
use crate::ledger::{Account, Expectation};
use crate::traffic::{self, Load, Path, Reins, Sent};

/// Flushes that it takes to prove anything.
const FLUSHES: u32 = 5;

/// Starts of an agent that it takes to prove anything.
const STARTS: u32 = 3;

/// How long the load goes on beside the trouble.
const LASTING: Duration = Duration::from_secs(3);

/// Source ports of the short flows of a load.
const SHORT: std::ops::Range<u16> = 21_000..60_000;

/// Source ports of a burst to one port.
const BURST: std::ops::Range<u16> = 20_000..60_000;

/// How long the agent is stopped in the middle of a burst.
const STOPPED: Duration = Duration::from_secs(5);

/// Many short flows while the agent is stopped: half of them end meanwhile, the other half begin.
pub(super) fn burst(settings: &Settings) -> Result<Outcome> {
    if settings.alone && read(MAX)?.parse().unwrap_or(0) < 2 * settings.flows {
        while_set(MAX, &(2 * settings.flows).to_string(), || stopped_in_burst(settings))
    } else {
        stopped_in_burst(settings)
    }
}

fn stopped_in_burst(settings: &Settings) -> Result<Outcome> {
    // The default buffer of a netlink socket holds some 6,000 ends; what does not fit is lost by design.
    let ample = [("CONNTALLY_SOURCE__NETLINK_BUFFER", "512MiB")];
    let options = settings.options_with(if settings.by_netlink() { &ample } else { &[] });
    let mut stage = Stage::open_with(settings, Lab::direct_tracking(&[CLIENT])?, &options)?;
    let half = settings.flows / 2;
    flood(&mut stage.lab, half, 7001)?;
    stage.agent.pause()?;
    let stopped = Instant::now();
    stage.lab.flush()?;
    flood(&mut stage.lab, settings.flows - half, 8001)?;
    thread::sleep(STOPPED.saturating_sub(stopped.elapsed()));
    stage.agent.resume()?;
    stage.finish(settings.flows as usize)
}

/// So many flows of one packet, to as many ports as it takes.
fn flood(lab: &mut Lab, flows: u32, first_port: u16) -> Result<()> {
    let mut left = flows;
    for port in first_port.. {
        let many = u16::try_from(left).unwrap_or(u16::MAX).min(BURST.end - BURST.start);
        let sent = traffic::burst(&lab.path(Family::V4)?, BURST.start..BURST.start + many, port)?;
        sent.into_iter().for_each(|sent| lab.promise(sent));
        left -= u32::from(many);
        if left == 0 {
            break;
        }
    }
    Ok(())
}

/// `conntrack -F` over and over under load: flows are cut into pieces at any moment.
pub(super) fn flush(settings: &Settings) -> Result<Outcome> {
    Ok(flushed(settings, &[])?.0)
}

/// The same while every living flow is visited as often as the agent can: entries are reused under the visits.
pub(super) fn reuse_storm(settings: &Settings) -> Result<Outcome> {
    if settings.by_netlink() {
        return Ok(Outcome::skip("the netlink source visits no flows"));
    }
    if !settings.knows("updates")? {
        return Ok(Outcome::skip("this agent has no `source.updates`"));
    }
    let restless = r#"[{ age = "0s", every = "10ms" }]"#;
    let (mut outcome, ended) = flushed(
        settings,
        &[
            ("CONNTALLY_SOURCE__UPDATES", "sweep"),
            ("CONNTALLY_SOURCE__RATE_CURVE", restless),
            ("CONNTALLY_LOG__LEVEL", "debug"),
        ],
    )?;
    let mut visits = ended.output.log.iter().filter(|line| line.contains("looked at flows that were due"));
    if visits.all(|line| line.contains(" looked_at=0 ")) {
        outcome.verdict.problem("no flow was visited: nothing is proven".to_owned());
    }
    Ok(outcome)
}

fn flushed(settings: &Settings, keys: &[(&'static str, &'static str)]) -> Result<(Outcome, Ended)> {
    let mut stage = Stage::open_with(settings, Lab::direct()?, &settings.options_with(keys))?;
    // The destroy event leaves before a packet that is under way is counted: by netlink its bytes cannot be had.
    let still = stage.by_netlink();
    let (loads, ()) = under_load(&stage.lab, DENSE, |reins| {
        let (began, mut flushes) = (Instant::now(), 0);
        while began.elapsed() < LASTING || flushes < FLUSHES {
            if still { reins.while_still(|| stage.lab.forget()) } else { stage.lab.forget() }?;
            flushes += 1;
        }
        Ok(())
    })?;
    // Who deleted a flow is remembered in its slot, which a race between CPUs may take away.
    stage.lab.quiet();
    stage.lab.expect_remaining(&stage.reasons(&["deleted", "unknown"]));
    let flows = promise_changed(&mut stage, loads, |expected| expected.pieces = true)?;
    // Whoever deletes may be interrupted, or preempted, in the middle of the program by somebody who ends a flow, too.
    stage.excuse_skips();
    stage.finish_with(2 * flows)
}

/// Pauses of a load that leaves others their turn, and of one that does not care.
pub(super) const PACED: Duration = Duration::from_millis(2);
const DENSE: Duration = Duration::from_micros(200);

/// Runs a load of both families while `trouble` is made.
pub(super) fn under_load<T>(
    lab: &Lab,
    pause: Duration,
    trouble: impl FnOnce(&Reins) -> Result<T>,
) -> Result<(Vec<Load>, T)> {
    let paths = [lab.path(Family::V4)?, lab.path(Family::V6)?];
    let reins = Reins::new(pause);
    let start = |path: &Path<'_>| traffic::load(path, SHORT, 7001, &reins);
    thread::scope(|scope| {
        let loads = paths.each_ref().map(|path| scope.spawn(move || start(path)));
        let made = trouble(&reins);
        reins.stop();
        let mut sent = Vec::new();
        for load in loads {
            sent.push(load.join().map_err(|_| anyhow!("a load panicked"))??);
        }
        Ok((sent, made?))
    })
}

/// Promises what a load sent; the number of its flows.
pub(super) fn promise(stage: &mut Stage<'_>, loads: Vec<Load>) -> usize {
    let sent: Vec<Sent> = loads.into_iter().flat_map(|load| [load.short, load.long].concat()).collect();
    let flows = sent.len();
    sent.into_iter().for_each(|sent| stage.lab.promise(sent));
    // On a slow machine the trouble takes longer than the timeout of a short flow. And the kernel may skip the program
    // that sees who deletes an entry, while another run of it is preempted on that CPU.
    let reasons = stage.reasons_or_told(&["deleted", "closed", "timeout"]);
    stage.lab.expect_remaining(&reasons);
    flows
}

/// The same where something happened to the long flows of the load.
pub(super) fn promise_changed(
    stage: &mut Stage<'_>,
    loads: Vec<Load>,
    change: fn(&mut Expectation),
) -> Result<usize> {
    for sent in loads.iter().flat_map(|load| &load.long) {
        stage.lab.expect(&sent.tuple, change)?;
    }
    Ok(promise(stage, loads))
}

/// Pairs of namespaces that come and go under load.
const PAIRS: usize = 2;

/// Flows of one family in each of them.
const PAIR_FLOWS: u16 = 100;

/// Namespaces are made, used and removed with all their flows while others are under load.
pub(super) fn namespace_storm(settings: &Settings) -> Result<Outcome> {
    let mut stage = Stage::open(settings, Lab::direct()?)?;
    if stage.by_netlink() {
        return Ok(Outcome::skip("ctnetlink tells nothing of a namespace that is gone"));
    }
    let (loads, gone) = under_load(&stage.lab, PACED, |_| {
        (0..PAIRS).map(|_| short_lived_pair()).collect::<Result<Vec<_>>>()
    })?;
    let mut promised = 2 * promise(&mut stage, loads);
    for (ledger, namespaces) in gone {
        promised += ledger.len();
        stage.add_removed(ledger, namespaces);
    }
    stage.finish(promised)
}

/// Uses a pair of namespaces and removes it; its ledger, and who it was.
fn short_lived_pair() -> Result<(Vec<Account>, Vec<u32>)> {
    let mut lab = Lab::direct()?;
    await_accounting(&lab)?;
    lab.capture()?;
    for family in FAMILIES {
        let sent = traffic::burst(&lab.path(family)?, 20_000..20_000 + PAIR_FLOWS, 7001)?;
        sent.into_iter().for_each(|sent| lab.promise(sent));
        let sent = traffic::exchange(&lab.path(family)?, 20_300, 7002, &[10], &[20])?;
        lab.promise(sent);
    }
    lab.quiet();
    lab.expect_remaining(&["deleted"]);
    Ok((lab.ledger()?, lab.tracked()))
}

/// Where new namespaces do not count from the start, the agent finds them within a second.
fn await_accounting(lab: &Lab) -> Result<()> {
    let began = Instant::now();
    while began.elapsed() < Duration::from_secs(3) && lab.accounting()?.iter().any(|value| value == "0") {
        thread::sleep(Duration::from_millis(100));
    }
    Ok(())
}

/// Another agent comes, is killed without a chance to clean up, and comes again under load.
pub(super) fn second_agent(settings: &Settings) -> Result<Outcome> {
    let mut stage = Stage::open(settings, Lab::direct()?)?;
    let (loads, mut last) = under_load(&stage.lab, PACED, |_| {
        let mut killed = Agent::start(&settings.options())?;
        thread::sleep(LASTING / 4);
        killed.kill()?;
        let last = Agent::start(&settings.options())?;
        thread::sleep(LASTING / 4);
        Ok(last)
    })?;
    let flows = promise(&mut stage, loads);
    let ended = last.stop()?;
    let mut outcome = stage.finish(2 * flows)?;
    for alarm in ended.alarms() {
        outcome.verdict.problem(format!("the last agent logged: {alarm}"));
    }
    if ended.status.code() != Some(0) {
        outcome.verdict.problem(format!("the last agent ended with {}", ended.status));
    }
    Ok(outcome)
}

/// Agents with rings of the smallest size start under a load that fills these at any moment.
pub(super) fn tiny_start(settings: &Settings) -> Result<Outcome> {
    let mut stage = Stage::open(settings, Lab::direct()?)?;
    if stage.by_netlink() {
        return Ok(Outcome::skip("the netlink source has no rings"));
    }
    let options = settings.options_with(&TINY);
    let (loads, ()) = under_load(&stage.lab, DENSE, |_| {
        (0..STARTS).try_for_each(|_| Agent::start(&options)?.stop().map(drop))
    })?;
    let flows = promise(&mut stage, loads);
    stage.finish(2 * flows)
}

/// Flows that end while the agent is stopped, many times what the smallest ring of ends holds.
pub(super) const PARKED: u16 = 1500;

/// Flows that begin while the agent is stopped, more than the smallest ring of updates holds.
const UNSEEN: u16 = 200;

/// After this the agent has read what was sent.
const READ: Duration = Duration::from_millis(500);

/// Rings of the smallest size, in the words of the environment.
pub(super) const TINY: [(&str, &str); 2] =
    [("CONNTALLY_SOURCE__RING_BYTES", "4KiB"), ("CONNTALLY_SOURCE__END_RING_BYTES", "4KiB")];

/// As good as no room for ends but in their ring.
pub(super) const NO_OVERFLOW: (&str, &str) = ("CONNTALLY_SOURCE__ENDS_OVERFLOW", "1");

/// Rings of the smallest size and an agent that is stopped for moments: ends wait elsewhere, or are told as lost.
pub(super) fn tiny_rings(settings: &Settings) -> Result<Outcome> {
    let lossless = settings.knows("ends_overflow")?;
    parked(settings, &TINY, lossless)
}

/// The same with as good as no room elsewhere: the agent tells what it lost, to the byte.
pub(super) fn ends_lost(settings: &Settings) -> Result<Outcome> {
    if !settings.knows("ends_overflow")? {
        return Ok(Outcome::skip("this agent has no place but the ring for ends"));
    }
    let mut outcome = parked(settings, &[TINY[0], TINY[1], NO_OVERFLOW], false)?;
    if outcome.skipped.is_none() && outcome.verdict.shortfall.ends == 0 {
        outcome.verdict.problem("no end was lost: nothing is proven".to_owned());
    }
    Ok(outcome)
}

fn parked(settings: &Settings, keys: &[(&'static str, &'static str)], lossless: bool) -> Result<Outcome> {
    if settings.by_netlink() {
        return Ok(Outcome::skip("the netlink source has no rings"));
    }
    let lab = Lab::direct_tracking(&[CLIENT])?;
    let mut stage = Stage::open_with(settings, lab, &settings.options_with(keys))?;
    for port in [7001, 7002] {
        let send =
            |stage: &Stage<'_>| traffic::burst(&stage.lab.path(Family::V4)?, 20_000..20_000 + PARKED, port);
        send(&stage)?;
        thread::sleep(READ);
        stage.agent.pause()?;
        // What moves from here on only the ends tell.
        let sent = send(&stage)?;
        sent.into_iter().for_each(|sent| stage.lab.promise(Sent { totals: None, ..sent }));
        let unseen = traffic::burst(&stage.lab.path(Family::V4)?, 30_000..30_000 + UNSEEN, port)?;
        unseen.into_iter().for_each(|sent| stage.lab.promise(sent));
        stage.lab.flush()?;
        stage.agent.resume()?;
        thread::sleep(Duration::from_millis(500));
    }
    if !lossless {
        stage.admit_loss();
    }
    let (mut outcome, ended) = stage.finish_with(2 * usize::from(PARKED + UNSEEN))?;
    let told = ended.lost("end_lost");
    let lost = outcome.verdict.shortfall.ends;
    if told != lost {
        outcome.verdict.problem(format!("{lost} ends are missing, the agent says {told}"));
    }
    if !lossless {
        knows_its_loss(&mut outcome.verdict, &ended);
    }
    if ended.lost("update_ring_full") == 0 {
        outcome.verdict.problem("the ring of updates is not told to have been full".to_owned());
    }
    Ok(outcome)
}

/// The agent's audit puts a number on what the lost ends cost, and nothing else was lost.
fn knows_its_loss(verdict: &mut Verdict, ended: &Ended) {
    let Some(audit) = ended.audit() else { return };
    for (doubt, count) in audit.doubts.iter().filter(|_| ended.lost("hook_skipped") == 0) {
        verdict.problem(format!("the audit does not know what lost ends cost: {doubt} {count}"));
    }
    for (reason, sum) in audit.lost.iter().filter(|(reason, _)| *reason != "end_lost") {
        verdict.problem(format!("the audit says that {} bytes were lost by {reason}", sum.bytes));
    }
}
