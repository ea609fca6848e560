//! Scenarios that change the machine under the agent: its clock, its conntrack module and that one's table.

use std::fs;
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use nix::sys::time::TimeSpec;
use nix::time::{ClockId, clock_gettime, clock_settime};

use super::ends::{while_set, write};
use super::life::{ADDRESSES, HIDDEN};
use super::load::{PACED, promise, promise_changed, under_load};
use super::races::BUCKETS;
use super::{Outcome, Settings, Stage};
use crate::agent::{Agent, Hook};
use crate::lab::{FAMILIES, Family, Lab};
use crate::netns::run;
use crate::traffic::{self, Exchange};

const HOUR: TimeSpec = TimeSpec::new(3600, 0);
/// The flow of the scenario lives a few seconds, also in a slow guest.
const LONGEST_LIFE_NS: u64 = 60_000_000_000;

/// Types of the module that fentry needs.
const MODULE_BTF: &str = "/sys/kernel/btf/nf_conntrack";

/// Left to itself the agent takes the cheapest hooks that the kernel has, which see everything.
pub(super) fn chosen(settings: &Settings) -> Result<Outcome> {
    if settings.by_netlink() {
        return Ok(Outcome::skip("the netlink source has no hooks"));
    }
    let settings = Settings { hook: Hook::Auto, ..settings.clone() };
    let mut stage = Stage::open(&settings, Lab::direct()?)?;
    for family in FAMILIES {
        let sent = traffic::exchange(&stage.lab.path(family)?, 20_001, 7001, &[10, 20], &[30])?;
        stage.lab.promise(sent);
    }
    let mut outcome = stage.finish(2 * 2)?;
    let cheapest = if Path::new(MODULE_BTF).exists() { "hooks=fentry:" } else { "hooks=kprobe:" };
    if !outcome.ready_line.contains(cheapest) {
        outcome.verdict.problem(format!("{cheapest} is possible, the agent took {}", outcome.ready_line));
    }
    Ok(outcome)
}

/// The wall clock jumps an hour ahead and back while a flow lives: its duration stays what it was.
pub(super) fn clock_step(settings: &Settings) -> Result<Outcome> {
    let mut stage = Stage::open(settings, Lab::direct()?)?;
    let mut exchange = Exchange::open(&stage.lab.path(Family::V4)?, 20_001, 7001)?;
    exchange.ask(100)?;
    step(|now| now + HOUR)?;
    thread::sleep(Duration::from_secs(2));
    exchange.answer(100)?;
    let during = traffic::exchange(&stage.lab.path(Family::V4)?, 20_002, 7002, &[10], &[10])?;
    stage.lab.promise(during);
    thread::sleep(Duration::from_secs(1));
    step(|now| now - HOUR)?;
    exchange.ask(100)?;
    stage.lab.promise(exchange.sent()?);
    finish_with_true_durations(stage, 2 * 2)
}

fn finish_with_true_durations(stage: Stage<'_>, promised: usize) -> Result<Outcome> {
    let namespaces = stage.lab.tracked();
    let (mut outcome, ended) = stage.finish_with(promised)?;
    for flow in ended.output.records.accounts().filter(|flow| namespaces.contains(&flow.key.netns)) {
        if flow.duration_ns == 0 || flow.duration_ns > LONGEST_LIFE_NS {
            outcome.verdict.problem(format!("{}: lasted {} ns", flow.key, flow.duration_ns));
        }
    }
    Ok(outcome)
}

/// Seconds by which the clock jumps, one after the other; together nothing.
const JUMPS: [i64; 8] = [3600, -7200, 3600, 1, -1, 86_400, -86_700, 300];

/// The wall clock jumps back and forth under load.
pub(super) fn clock_jumps(settings: &Settings) -> Result<Outcome> {
    let mut stage = Stage::open(settings, Lab::direct()?)?;
    let (loads, ()) = under_load(&stage.lab, PACED, |_| {
        for seconds in JUMPS {
            step(|now| now + TimeSpec::new(seconds, 0))?;
            thread::sleep(Duration::from_millis(300));
        }
        Ok(())
    })?;
    let flows = promise(&mut stage, loads);
    finish_with_true_durations(stage, 2 * flows)
}

fn step(change: impl FnOnce(TimeSpec) -> TimeSpec) -> Result<()> {
    let now = clock_gettime(ClockId::CLOCK_REALTIME)?;
    clock_settime(ClockId::CLOCK_REALTIME, change(now)).context("cannot set the clock")
}

/// Numbers of buckets, large enough that a walk through them takes several runs.
const SIZES: [&str; 2] = ["65536", "131072"];

/// How long the table is resized: the agent walks through it about once a second.
const RESIZING: Duration = Duration::from_secs(5);

/// The kernel's table is resized over and over under the agent's walks: they begin anew, and nothing is taken for gone
/// that was moved.
pub(super) fn resized(settings: &Settings) -> Result<Outcome> {
    resized_under_looks(settings, "the walk through it begins anew")
}

/// The same where the table cannot be walked: dumps meanwhile prove nothing.
pub(super) fn resized_hidden(settings: &Settings) -> Result<Outcome> {
    let play = || resized_under_looks(settings, "the dump of a namespace is incomplete");
    while_set(ADDRESSES, HIDDEN, play)
}

/// Plays it; `noticed` is what the agent logs when it notices.
fn resized_under_looks(settings: &Settings, noticed: &str) -> Result<Outcome> {
    if settings.by_netlink() {
        return Ok(Outcome::skip("the netlink source does not walk through the table"));
    }
    let [first, _] = SIZES;
    while_set(BUCKETS, first, || resize_under_load(settings, noticed))
}

fn resize_under_load(settings: &Settings, noticed: &str) -> Result<Outcome> {
    let keys = [("CONNTALLY_SOURCE__RECONCILE_EVERY", "1s"), ("CONNTALLY_LOG__LEVEL", "debug")];
    let mut stage = Stage::open_with(settings, Lab::direct()?, &settings.options_with(&keys))?;
    let (loads, ()) = under_load(&stage.lab, PACED, |_| {
        let began = Instant::now();
        while began.elapsed() < RESIZING {
            SIZES.iter().try_for_each(|size| write(BUCKETS, size))?;
        }
        Ok(())
    })?;
    let flows = promise_changed(&mut stage, loads, |expected| expected.resized = true)?;
    let (mut outcome, ended) = stage.finish_with(2 * flows)?;
    if !ended.output.log.iter().any(|line| line.contains(noticed)) {
        outcome.verdict.problem("no look met a table that was resized: nothing is proven".to_owned());
    }
    Ok(outcome)
}

/// What may hold `nf_conntrack`, in an order in which it can be removed.
const HOLDERS: [&str; 14] = [
    "nft_masq",
    "nft_nat",
    "nft_redir",
    "nft_chain_nat",
    "nft_flow_offload",
    "nf_flow_table_inet",
    "nf_flow_table",
    "nft_ct",
    "nf_nat",
    "xt_conntrack",
    "openvswitch",
    "act_ct",
    "nf_conntrack_netlink",
    "nf_conntrack",
];

/// How long the agent may take to notice that the module is back.
const ATTACHED_ANEW: Duration = Duration::from_secs(6);

/// The agent looks for new namespaces once a second.
const NAMESPACE_SEEN: Duration = Duration::from_secs(2);

/// The conntrack module is removed and loaded again under the agent: it attaches anew, and is exact again.
pub(super) fn module_reload(settings: &Settings) -> Result<Outcome> {
    if fs::read_to_string("/proc/modules").is_ok_and(|modules| !modules.contains("nf_conntrack ")) {
        return Ok(Outcome::skip("nf_conntrack is built in"));
    }
    let agent = Agent::start(&settings.options())?;
    if !agent.ready_line.contains("kprobe") {
        return Ok(Outcome::skip("the agent's hooks hold the module: it cannot be removed"));
    }
    let mut lab = Lab::direct()?;
    thread::sleep(NAMESPACE_SEEN);
    lab.capture()?;
    let sent = traffic::exchange(&lab.path(Family::V4)?, 20_001, 7001, &[10], &[20])?;
    lab.promise(sent);
    lab.expect_remaining(&["deleted", "closed"]);
    lab.flush()?;
    let (before, first_namespaces) = (lab.ledger()?, lab.tracked());
    drop(lab);
    unload()?;
    run("modprobe", &["nf_conntrack"])?;
    thread::sleep(ATTACHED_ANEW);
    let mut lab = Lab::direct()?;
    thread::sleep(NAMESPACE_SEEN);
    lab.capture()?;
    let mut stage = Stage::around(settings, lab, agent);
    stage.add_removed(before, first_namespaces);
    stage.expect_loss("module_reloaded", 1);
    for family in FAMILIES {
        let sent = traffic::exchange(&stage.lab.path(family)?, 20_002, 7002, &[10, 20], &[30])?;
        stage.lab.promise(sent);
    }
    stage.finish(2 + 2 * 2)
}

/// A namespace is taken down by a kernel worker some time after its removal, so this may take a few attempts.
fn unload() -> Result<()> {
    for _ in 0..20 {
        for module in HOLDERS {
            // Not loaded, or still in use: the next attempt will tell.
            let _ = run("rmmod", &[module]);
        }
        if !Path::new("/sys/module/nf_conntrack").exists() {
            return Ok(());
        }
        thread::sleep(Duration::from_millis(500));
    }
    bail!("nf_conntrack cannot be unloaded: {}", users())
}

fn users() -> String {
    let modules = fs::read_to_string("/proc/modules").unwrap_or_default();
    let about: Vec<&str> =
        modules.lines().filter(|line| line.contains("nf_") || line.contains("nft_")).collect();
    about.join("; ")
}
