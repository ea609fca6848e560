//! Scenarios in which the CPUs get in each other's way, or flows in each other's place.

use std::fs::{self, OpenOptions};
use std::io::Write;
use std::num::NonZero;
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow};

use super::ends::while_set;
use super::forced::TRACING;
use super::stage::kernel_counts_skips;
use super::{Outcome, Settings, Stage};
use crate::agent::Hook;
use crate::lab::{CLIENT, FAMILIES, Family, Lab, SERVER};
use crate::netns::Namespace;
use crate::traffic;

/// Flows of one family in each burst of `skips`.
const STEERED: u16 = 2000;

/// Bursts until a program was skipped, at most.
const BURSTS: u16 = 8;

/// The number of buckets in the kernel's table, and one that makes a bucket hold many flows.
pub(super) const BUCKETS: &str = "/proc/sys/net/netfilter/nf_conntrack_buckets";
const FEW: &str = "512";

/// The agent looks at its losses every second.
const TOLD: Duration = Duration::from_millis(1500);

/// An agent that leaves the kernel's settings alone.
pub(super) const UNMANAGED: (&str, &str) = ("CONNTALLY_SOURCE__MANAGE_SYSCTLS", "false");

/// The kernel counts, but keeps no start by which two entries of a tuple could be told apart.
fn unstamp(lab: &Lab) -> Result<()> {
    lab.netfilter("nf_conntrack_acct", 1)?;
    lab.netfilter("nf_conntrack_timestamp", 0)
}

/// Flows end while packets are handled by a CPU that is just ending flows: the kernel skips programs there. No flow is
/// left behind, and no more ends are missing than the agent says were skipped.
pub(super) fn skips(settings: &Settings) -> Result<Outcome> {
    skip(settings, true)
}

/// The same where no stamp tells that a flow whose first program was skipped is a new one.
pub(super) fn skips_unstamped(settings: &Settings) -> Result<Outcome> {
    skip(settings, false)
}

fn skip(settings: &Settings, has_stamps: bool) -> Result<Outcome> {
    if cpus() < 2 {
        return Ok(Outcome::skip("one CPU does not interrupt itself"));
    }
    if settings.by_netlink() {
        return Ok(Outcome::skip("the netlink source has no programs to skip"));
    }
    if !settings.knows("reconcile_every")? {
        return Ok(Outcome::skip("this agent does not reconcile: it cannot find what was skipped"));
    }
    let force = || force_skips(settings, has_stamps);
    if settings.alone { while_set(BUCKETS, FEW, force) } else { force() }
}

fn force_skips(settings: &Settings, has_stamps: bool) -> Result<Outcome> {
    // Where nothing tells of skips, only the looks that come anyway find what they cost.
    let often = [("CONNTALLY_SOURCE__RECONCILE_EVERY", "2s")];
    let is_told = kernel_counts_skips(settings.hook != Hook::Kprobe);
    let mut options = settings.options_with(if is_told { &[] } else { &often });
    let lab = Lab::direct()?;
    if !has_stamps {
        unstamp(&lab)?;
        options.environment.push(UNMANAGED);
    }
    let mut stage = Stage::open_with(settings, lab, &options)?;
    steer(stage.lab.namespace(CLIENT)?, "left")?;
    steer(stage.lab.namespace(SERVER)?, "right")?;
    // Whoever looks a flow up ends the expired ones in its way: the sender in its own time, the receiver in an interrupt.
    stage.lab.netfilter("nf_conntrack_udp_timeout", 0)?;
    let mut sent = 0;
    for port in 7001..7001 + BURSTS {
        sent += send_on_all_cpus(&stage, port)?;
        thread::sleep(TOLD);
        if stage.agent.output().log.iter().any(|line| line.contains("hook_skipped")) {
            break;
        }
    }
    stage.lab.quiet();
    stage.admit_loss();
    let mut reasons = stage.reasons_or_told(&["deleted", "timeout"]);
    reasons.push("missed");
    stage.lab.expect_remaining(&reasons);
    let counts_skips = stage.counts_skips();
    let (mut outcome, ended) = stage.finish_with(2 * sent)?;
    let behind = ended.output.records.accounts().filter(|flow| flow.news > 0 && flow.ends == 0).count();
    if behind > 0 {
        outcome.verdict.problem(format!("{behind} flows were left behind without an end"));
    }
    let (missing, told) = (outcome.verdict.shortfall.ends, ended.lost("hook_skipped"));
    let is_doubtful = ended.audit().is_some_and(|audit| audit.is_doubtful());
    if missing > told && (counts_skips || !is_doubtful) {
        outcome.verdict.problem(format!("{missing} ends are missing, the agent says {told}"));
    }
    if told == 0 && counts_skips {
        outcome.verdict.problem(format!("no program was skipped with {sent} flows: nothing is proven"));
    }
    Ok(outcome)
}

/// Lets received packets be handled by any CPU (`Documentation/networking/scaling.rst`, RPS).
fn steer(namespace: &Namespace, interface: &str) -> Result<()> {
    let all = (1u64 << cpus().min(63)) - 1;
    let script = format!("echo {all:x} > /sys/class/net/{interface}/queues/rx-0/rps_cpus");
    namespace.exec_with_sys("sh", &["-c", &script])?;
    Ok(())
}

/// Bursts of both families at once, while entries are deleted; how many flows were sent.
fn send_on_all_cpus(stage: &Stage<'_>, port: u16) -> Result<usize> {
    let paths = [stage.lab.path(Family::V4)?, stage.lab.path(Family::V6)?];
    let send = |path: &traffic::Path<'_>| traffic::burst(path, 20_000..20_000 + STEERED, port);
    thread::scope(|scope| {
        let senders = paths.each_ref().map(|path| scope.spawn(move || send(path)));
        while senders.iter().any(|sender| !sender.is_finished()) {
            stage.lab.forget()?;
        }
        let mut flows = 0;
        for sender in senders {
            flows += sender.join().map_err(|_| anyhow!("a sender panicked"))??.len();
        }
        Ok(flows)
    })
}

fn cpus() -> usize {
    thread::available_parallelism().map_or(1, NonZero::get)
}

/// Flows that two sockets open at the same moment.
const CLASHES: u16 = 300;

/// Two sockets race for one flow, and the kernel keeps no start by which its two entries could be told apart.
pub(super) fn udp_clash(settings: &Settings) -> Result<Outcome> {
    Ok(clash(settings, &[7001])?.0)
}

/// The same where whoever has put a flow into the table takes long to say so: meanwhile the packet that lost the race is
/// counted there, and both programs meet the flow.
pub(super) fn udp_clash_slow(settings: &Settings) -> Result<Outcome> {
    if cpus() < 2 {
        return Ok(Outcome::skip("one CPU does not race with itself"));
    }
    // Between the insertion and the return of `__nf_conntrack_confirm` nothing else can be probed on every kernel.
    let _slow = Slow::function("__local_bh_enable_ip")?;
    let (mut outcome, merged) = clash(settings, &[7001, 7002, 7003])?;
    if merged == 0 {
        outcome.verdict.problem("no packet lost the race for its entry: nothing is proven".to_owned());
    }
    Ok(outcome)
}

/// Packets that the kernel merged into an entry which was faster, in a namespace since it was made.
fn merged(namespace: &Namespace) -> Result<u64> {
    let text = namespace.exec("conntrack", &["-S"])?;
    let words = text.split_whitespace().filter_map(|word| word.strip_prefix("clash_resolve="));
    words.map(|count| count.parse::<u64>().with_context(|| format!("{count} is no number of clashes"))).sum()
}

/// Plays it with flows to these ports; and how many packets of the client's lost the race.
fn clash(settings: &Settings, ports: &[u16]) -> Result<(Outcome, u64)> {
    let lab = Lab::direct()?;
    unstamp(&lab)?;
    let options = settings.options_with(&[UNMANAGED]);
    let stage = Stage::open_with(settings, lab, &options)?;
    let may_miss = cpus() > 1 && kernel_misses_counters()?;
    let mut tuples = Vec::new();
    for (family, port) in
        FAMILIES.into_iter().flat_map(|family| ports.iter().map(move |port| (family, *port)))
    {
        tuples.extend(traffic::race(&stage.lab.path(family)?, 20_000..20_000 + CLASHES, port)?);
    }
    stage.lab.quiet();
    tuples.iter().try_for_each(|tuple| stage.lab.expect(tuple, |expected| expected.raced = may_miss))?;
    let merged = merged(stage.lab.namespace(CLIENT)?)?;
    Ok((stage.finish(2 * tuples.len())?, merged))
}

/// The event by which a function is slowed down, and what happens at it.
const SLOW: &str = "conntally_slow";
const TAKES_LONG: &str = "stacktrace";

/// Makes a function of the kernel take some microseconds longer, by a stack trace at each of its calls, until dropped
/// (`Documentation/trace/kprobetrace.rst`).
struct Slow;

impl Slow {
    fn function(name: &str) -> Result<Self> {
        append("kprobe_events", &format!("p:{SLOW} {name}"))?;
        let slow = Self;
        append(&format!("events/kprobes/{SLOW}/trigger"), TAKES_LONG)?;
        append(&format!("events/kprobes/{SLOW}/enable"), "1")?;
        Ok(slow)
    }
}

impl Drop for Slow {
    fn drop(&mut self) {
        // The guest ends after its scenarios in any case.
        let _ = append(&format!("events/kprobes/{SLOW}/enable"), "0")
            .and_then(|()| append(&format!("events/kprobes/{SLOW}/trigger"), &format!("!{TAKES_LONG}")))
            .and_then(|()| append("kprobe_events", &format!("-:{SLOW}")));
    }
}

/// Writes a line into a file of the kernel's tracing. Not to append empties the list of probes.
fn append(file: &str, line: &str) -> Result<()> {
    let path = Path::new(TRACING).join(file);
    let written =
        OpenOptions::new().append(true).open(&path).and_then(|mut file| file.write_all(line.as_bytes()));
    written.with_context(|| format!("cannot write {line} to {}", path.display()))
}

/// Whether a packet may find an entry without its counters; see [`Expectation::raced`](crate::ledger::Expectation).
fn kernel_misses_counters() -> Result<bool> {
    let symbols = fs::read_to_string("/proc/kallsyms").context("cannot read /proc/kallsyms")?;
    Ok(symbols.lines().any(|line| line.split_whitespace().nth(2) == Some("__nf_ct_ext_find")))
}

/// More flows than the smallest slot table has slots, which is 1024 buckets of four.
const CROWD: u16 = 6000;

/// More flows than there are slots: each end is exact, and no flow speaks more often than the rate curve says.
pub(super) fn no_room(settings: &Settings) -> Result<Outcome> {
    if settings.by_netlink() {
        return Ok(Outcome::skip("the netlink source has no slots"));
    }
    let lab = Lab::direct_tracking(&[CLIENT])?;
    let tight = settings.options_with(&[("CONNTALLY_SOURCE__SLOTS", "1024")]);
    let stage = Stage::open_with(settings, lab, &tight)?;
    let began = Instant::now();
    for _ in 0..4 {
        traffic::burst(&stage.lab.path(Family::V4)?, 20_000..20_000 + CROWD, 7001)?;
    }
    // Who deleted a flow is remembered in its slot.
    stage.lab.quiet();
    stage.lab.expect_remaining(&["deleted", "unknown"]);
    // A start, an end, and an update in each of the rate curve's 5 seconds, the first at once.
    let most = 3 + u32::try_from(began.elapsed().as_secs() / 5)?;
    let (mut outcome, ended) = stage.finish_with(usize::from(CROWD))?;
    let loudest = ended.output.records.accounts().map(|flow| flow.records()).max().unwrap_or(0);
    if loudest > most {
        outcome.verdict.problem(format!("a flow has {loudest} records, at most {most} were due"));
    }
    if ended.lost("no_slot") == 0 {
        outcome.verdict.problem("no flow is told to lack a slot".to_owned());
    }
    Ok(outcome)
}
