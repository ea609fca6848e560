//! Losses and faults that no traffic brings about, forced on the agent and its kernel programs: the audit names each loss.

use std::cell::Cell;
use std::collections::BTreeMap;
use std::ffi::CStr;
use std::ops::RangeFrom;
use std::os::fd::AsFd;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, bail, ensure};
use nix::sched::{CpuSet, sched_setaffinity};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;

use super::ends::{read, while_set};
use super::life::{ADDRESSES, HIDDEN};
use super::load::{NO_OVERFLOW, PARKED, TINY};
use super::stage::kernel_counts_skips;
use super::{Outcome, Settings, Stage};
use crate::agent::{Agent, Ended, Hook, Updates};
use crate::audit::{Audit, Sum};
use crate::compare::Verdict;
use crate::lab::{CLIENT, FAMILIES, Family, Lab};
use crate::netns::run;
use crate::records::{FlowAccount, Records};
use crate::sys::{self, Event, KernelMemory};
use crate::traffic;

/// A program of the agent, what is counted where it is led astray, and how often it is: each another number of times.
type Stray = (&'static str, &'static str, u64);

/// Programs for ends and for packets, which cannot read an entry.
const UNREADABLE: [Stray; 2] =
    [("destroy_kprobe", "end_read_failed", 5), ("acct_add_kprobe", "read_failed", 3)];

/// Where the kernel says which type of event a probe is.
const PROBES: &str = "/sys/bus/event_source/devices/kprobe/type";

/// The agent's programs run at a function whose argument is the address of nothing: what they cannot read is counted,
/// and that of an end makes the completeness unknown.
pub(super) fn unreadable(settings: &Settings) -> Result<Outcome> {
    if settings.hook != Hook::Kprobe {
        return Ok(Outcome::skip("only probes can be set on another function"));
    }
    let mut stage = Stage::open(settings, Lab::direct()?)?;
    let has_packets = settings.updates != Some(Updates::Sweep);
    let strays = if has_packets { &UNREADABLE[..] } else { &UNREADABLE[..1] };
    let call = || {
        sys::ask_for_size_of_log();
        Ok(())
    };
    strays.iter().try_for_each(|stray| lead_astray(*stray, c"security_syslog", call))?;
    for family in FAMILIES {
        let sent = traffic::exchange(&stage.lab.path(family)?, 20_001, 7001, &[10, 20], &[30])?;
        stage.lab.promise(sent);
    }
    stage.admit_loss();
    let (mut outcome, ended) = stage.finish_with(2 * 2)?;
    told_and_harmless(&mut outcome.verdict, &ended, strays);
    expect(&mut outcome.verdict, &ended, &[("end_read_failed", UNREADABLE[0].2)], &[]);
    Ok(outcome)
}

/// Has the program run so often at a function that has no entry for it, and that is called when somebody does what `call`
/// does.
fn lead_astray((program, _, times): Stray, function: &CStr, call: impl Fn() -> Result<()>) -> Result<()> {
    let programs: Vec<Value> = serde_json::from_str(&run("bpftool", &["-j", "prog", "show"])?)?;
    let found = programs.iter().find(|found| found["name"] == program).and_then(|found| found["id"].as_u64());
    let id = found.with_context(|| format!("the agent has no program {program}"))?;
    let program = sys::kernel_program(u32::try_from(id)?).context("the program cannot be had")?;
    let event = Event::Function(read(PROBES)?.parse()?, function);
    let _probe =
        sys::run_at(event, program.as_fd()).context("the program cannot be set on another function")?;
    (0..times).try_for_each(|_| call())
}

/// Each was told as often as it was, and no flow lacks anything for it.
fn told_and_harmless(verdict: &mut Verdict, ended: &Ended, strays: &[Stray]) {
    for (_, reason, times) in strays {
        let told = ended.lost(reason);
        demand(verdict, told == *times, || format!("{reason} is told {told} times, not {times}"));
    }
    let missing = verdict.shortfall.ends;
    demand(verdict, missing == 0, || format!("{missing} flows lack something"));
}

/// Programs for ends and for who ends them, which the kernel skips.
const SKIPPED: [Stray; 2] =
    [("destroy_kprobe", "hook_skipped", 5), ("delete_kprobe", "end_reason_unknown", 3)];

/// Where the kernel shows its tracepoints, and the number of one that is come by when that file is written. Nobody else does
/// so in a guest. Those of system calls would not do: on 7.2 a program there keeps no other from running.
pub(super) const TRACING: &str = "/sys/kernel/tracing";
const TRACEPOINT: &str = "/sys/kernel/tracing/events/oom/oom_score_adj_update/id";
const SCORE: &str = "/proc/self/oom_score_adj";

/// The agent's programs are to run at a function that another program calls: the kernel skips them there, and each time
/// is told.
pub(super) fn skipped(settings: &Settings) -> Result<Outcome> {
    if settings.hook != Hook::Kprobe {
        return Ok(Outcome::skip("only probes can be set on another function"));
    }
    if !kernel_counts_skips(false) {
        return Ok(Outcome::skip("this kernel does not count each probe that it skips"));
    }
    let mut stage = Stage::open(settings, Lab::direct()?)?;
    // What it has the kernel run calls the function, too, and would not skip the programs.
    stage.agent.pause()?;
    skip_programs()?;
    stage.agent.resume()?;
    for family in FAMILIES {
        let sent = traffic::exchange(&stage.lab.path(family)?, 20_001, 7001, &[10, 20], &[30])?;
        stage.lab.promise(sent);
    }
    stage.admit_loss();
    let (mut outcome, ended) = stage.finish_with(2 * 2)?;
    told_and_harmless(&mut outcome.verdict, &ended, &SKIPPED);
    expect(&mut outcome.verdict, &ended, &[("hook_skipped", SKIPPED[0].2)], &[]);
    Ok(outcome)
}

fn skip_programs() -> Result<()> {
    if !Path::new(TRACEPOINT).exists() {
        run("mount", &["-t", "tracefs", "none", TRACING])?;
    }
    let reader = sys::load_clock_reader().context("a program that reads the clock cannot be loaded")?;
    let _reading = sys::run_at(Event::Tracepoint(read(TRACEPOINT)?.parse()?), reader.as_fd())
        .context("a program cannot be set on a tracepoint")?;
    let call = || std::fs::write(SCORE, "0").context("the kernel takes no score");
    SKIPPED.into_iter().try_for_each(|stray| lead_astray(stray, c"bpf_ktime_get_boot_ns", call))
}

/// Words of memory that the kernel has put to another use, and how many of them are taken for the start of an entry, one after
/// the other: for some, what lies where the status would be says that the entry is in the table, and that it has no
/// extensions what lies where they would be.
const WORDS: u64 = 512;
const PLACES: u64 = 64;
const IN_TABLE: u64 = 1 << 3;

/// The kernel skipped the program for an end, and what had been the entry belonged to others before its flow was announced:
/// nothing is told of it.
pub(super) fn reused_memory(settings: &Settings) -> Result<Outcome> {
    /// Its multiples have their highest bit set by no rule.
    const SCATTER: u64 = 0x9E37_79B9_7F4A_7C15;
    if settings.hook != Hook::Kprobe {
        return Ok(Outcome::skip("typed programs announce flows themselves"));
    }
    let mut stage = Stage::open(settings, Lab::direct()?)?;
    let content = (0..WORDS).flat_map(|word| ((word.wrapping_mul(SCATTER) >> 63) * IN_TABLE).to_ne_bytes());
    let memory = KernelMemory::filled(&content.collect::<Vec<u8>>()).context("the kernel gives no memory")?;
    let place = Cell::new(0);
    let pass_next = || {
        let offset = place.replace(place.get() + size_of::<u64>() as u32);
        memory.pass_place(offset).context("the kernel does not take the place")
    };
    lead_astray(("insert_kprobe", "", PLACES), c"bpf_get_current_comm", pass_next)?;
    for family in FAMILIES {
        let sent = traffic::exchange(&stage.lab.path(family)?, 20_001, 7001, &[10, 20], &[30])?;
        stage.lab.promise(sent);
    }
    stage.finish(2 * 2)
}

/// How many of the agent's calls of the kernel fail, of those that run programs or ask about them.
const FAILING: &str = "inject=bpf:error=EPERM:when=1..20";

/// New flows cannot be announced for a while: they are told of later, and nothing is missing.
pub(super) fn unannounced(settings: &Settings) -> Result<Outcome> {
    if settings.hook != Hook::Kprobe {
        return Ok(Outcome::skip("typed programs announce flows themselves"));
    }
    let mut stage = Stage::open(settings, Lab::direct()?)?;
    let tracer = Tracer::attach(&stage.agent)?;
    for family in FAMILIES {
        let sent = traffic::exchange(&stage.lab.path(family)?, 20_001, 7001, &[10, 20], &[30])?;
        stage.lab.promise(sent);
    }
    let is_told = || stage.agent.output().log.iter().any(|line| line.contains("announce_failed"));
    wait("the agent does not say that it cannot announce flows", is_told)?;
    tracer.detach()?;
    let (mut outcome, ended) = stage.finish_with(2 * 2)?;
    let told = ended.lost("announce_failed");
    demand(&mut outcome.verdict, told > 0, || "it is not told in the end".to_owned());
    expect(&mut outcome.verdict, &ended, &[], &[]);
    Ok(outcome)
}

/// New flows while the agent is stopped, and how many of them can wait to be announced: as many as the smallest ring holds.
const UNQUEUED: u16 = 500;
const QUEUED: u64 = 20;

/// A look follows losses within ten seconds.
const LOOKED: Duration = Duration::from_secs(20);

/// More new flows than can wait to be announced, and no program at packets that would tell of them: each is counted, and
/// a look finds them.
pub(super) fn queue_full(settings: &Settings) -> Result<Outcome> {
    if settings.hook != Hook::Kprobe {
        return Ok(Outcome::skip("typed programs announce flows themselves"));
    }
    let keys = [TINY[0], ("CONNTALLY_SOURCE__UPDATES", "sweep")];
    let lab = Lab::direct_tracking(&[CLIENT])?;
    let mut stage = Stage::open_with(settings, lab, &settings.options_with(&keys))?;
    stage.agent.pause()?;
    let sent = traffic::burst(&stage.lab.path(Family::V4)?, 20_000..20_000 + UNQUEUED, 7001)?;
    sent.into_iter().for_each(|sent| stage.lab.promise(sent));
    stage.agent.resume()?;
    let started = |records: &Records| records.accounts().filter(|flow| flow.news > 0).count();
    let are_known = stage.agent.wait(LOOKED, |records| started(records) >= usize::from(UNQUEUED));
    let (mut outcome, ended) = stage.finish_with(usize::from(UNQUEUED))?;
    demand(&mut outcome.verdict, are_known, || "flows are not told of before their end".to_owned());
    let told = ended.lost("update_ring_full");
    demand(&mut outcome.verdict, told >= u64::from(UNQUEUED) - QUEUED, || {
        format!("{UNQUEUED} flows found {QUEUED} places, and {told} of them none")
    });
    Ok(outcome)
}

/// The smallest table of slots, and flows until one is where the one before it was, at most.
const FEW_SLOTS: (&str, &str) = ("CONNTALLY_SOURCE__SLOTS", "1024");
const TRIES: u16 = 40;

/// An entry is deleted before whoever put it into the table has met it: who did so stays noted in the entry's slot. What an
/// earlier entry left behind at its address does not.
pub(super) fn deleted_unmet(settings: &Settings) -> Result<Outcome> {
    /// Jiffies, of which a second has 1,000 at most.
    const LONG_AGO: u32 = 1_000_000;
    if settings.hook == Hook::Kprobe {
        return Ok(Outcome::skip("probes meet a flow before it enters the table"));
    }
    let lab = Lab::direct_tracking(&[CLIENT])?;
    let mut stage = Stage::open_with(settings, lab, &settings.options_with(&[FEW_SLOTS]))?;
    if stage.by_netlink() {
        return Ok(Outcome::skip("the netlink source has no slots"));
    }
    let mut ports = 20_001..;
    let (noted, left_behind) = on_one_cpu(|| {
        Ok((begin_at_note(&mut stage, &mut ports, 0)?, begin_at_note(&mut stage, &mut ports, LONG_AGO)?))
    })?;
    let mut outcome = stage.finish(usize::from(ports.start - 20_001))?;
    demand(&mut outcome.verdict, noted == SeenSlot::DELETED, || {
        "who deletes the entry is forgotten".to_owned()
    });
    demand(&mut outcome.verdict, left_behind == 0, || "a new flow is taken for a deleted one".to_owned());
    Ok(outcome)
}

/// Has a flow begin at an address for whose slot a deletion was noted so many jiffies ago; what is noted there then.
fn begin_at_note(stage: &mut Stage<'_>, ports: &mut RangeFrom<u16>, ago: u32) -> Result<u8> {
    begin(stage, ports)?;
    for _ in 0..TRIES {
        let found = SeenSlot::all()?.into_iter().next().context("a flow has no slot")?;
        stage.lab.flush()?;
        let due = found.due.wrapping_sub(ago);
        SeenSlot { born_ns: 0, due, deleted: SeenSlot::DELETED, ..found.clone() }.write()?;
        begin(stage, ports)?;
        let mut there = SeenSlot::all()?.into_iter().filter(|slot| slot.address == found.address);
        if let Some(met) = there.find(|slot| slot.born_ns != 0) {
            return Ok(met.deleted);
        }
        SeenSlot { address: 0, ..found }.write()?;
    }
    bail!("no flow began where another had ended")
}

fn begin(stage: &mut Stage<'_>, ports: &mut RangeFrom<u16>) -> Result<()> {
    let port = ports.next().context("no port is left")?;
    let sent = traffic::burst(&stage.lab.path(Family::V4)?, port..port + 1, 7001)?;
    sent.into_iter().for_each(|sent| stage.lab.promise(sent));
    Ok(())
}

/// Does something on one CPU, which hands out the memory next that it was given back last.
fn on_one_cpu<T: Send>(work: impl FnOnce() -> Result<T> + Send) -> Result<T> {
    let alone = || {
        let mut cpus = CpuSet::new();
        cpus.set(0)?;
        sched_setaffinity(Pid::from_raw(0), &cpus).context("cannot choose a CPU")?;
        work()
    };
    thread::scope(|scope| scope.spawn(alone).join()).map_err(|_| anyhow!("the work on one CPU panicked"))?
}

/// A slot of the agent's kernel programs that is in use.
#[derive(Clone)]
struct SeenSlot {
    bucket: Vec<u8>,
    index: usize,
    address: u64,
    born_ns: u64,
    due: u32,
    /// The byte of the flags that says who deleted the entry.
    deleted: u8,
}

impl SeenSlot {
    const MAP: &str = "SLOTS";
    /// Of a slot: address, birth, and in the third when it is due and the flags.
    const WORDS: usize = 3;
    const PER_BUCKET: usize = 4;
    /// Where the byte begins in the third word.
    const DELETED_AT: u32 = 48;
    /// By a request.
    const DELETED: u8 = 4;

    fn all() -> Result<Vec<Self>> {
        let mut slots = Vec::new();
        for (bucket, value) in elements(Self::MAP)? {
            for (index, slot) in words(&value).as_chunks::<{ Self::WORDS }>().0.iter().enumerate() {
                let [address, born_ns, rest] = *slot;
                let (due, deleted) = (rest as u32, (rest >> Self::DELETED_AT) as u8);
                slots.push(Self { bucket: bucket.clone(), index, address, born_ns, due, deleted });
            }
        }
        slots.retain(|slot| slot.address != 0);
        Ok(slots)
    }

    /// Writes it to where it was seen; nobody else uses the bucket.
    fn write(&self) -> Result<()> {
        let rest = u64::from(self.due) | u64::from(self.deleted) << Self::DELETED_AT;
        let mut slots = [[0; Self::WORDS]; Self::PER_BUCKET];
        *slots.get_mut(self.index).context("no such slot")? = [self.address, self.born_ns, rest];
        let value: Vec<u8> = slots.into_iter().flatten().flat_map(u64::to_le_bytes).collect();
        set_element(Self::MAP, &self.bucket, &value)
    }
}

/// What makes calls of the agent fail.
struct Tracer(Child);

impl Tracer {
    fn attach(agent: &Agent) -> Result<Self> {
        let mut command = Command::new("strace");
        command.args(["-qq", "-f", "-o", "/dev/null", "-e", FAILING, "-p", &agent.id().to_string()]);
        Ok(Self(command.stdin(Stdio::null()).spawn().context("cannot start strace")?))
    }

    fn detach(mut self) -> Result<()> {
        kill(Pid::from_raw(i32::try_from(self.0.id())?), Signal::SIGINT)?;
        self.0.wait()?;
        Ok(())
    }
}

/// The agent ends while nobody knows yet which flows the ends were of that are lost: what these cost is unknown.
pub(super) fn unassigned(settings: &Settings) -> Result<Outcome> {
    if settings.by_netlink() {
        return Ok(Outcome::skip("the netlink source has no rings"));
    }
    // Only dumps can tell, and those are not waited for in the end.
    let (ready_line, ended) = while_set(ADDRESSES, HIDDEN, || lose_ends(settings))?;
    let lost = ended.lost("end_lost");
    judge(ready_line, PARKED, &ended, |verdict| {
        demand(verdict, lost > 0, || "no end was lost".to_owned());
        expect(verdict, &ended, &[("end_lost_unassigned", lost)], &[]);
    })
}

fn lose_ends(settings: &Settings) -> Result<(String, Ended)> {
    let lab = Lab::direct_tracking(&[CLIENT])?;
    let mut agent = Agent::start(&settings.options_with(&[TINY[1], NO_OVERFLOW]))?;
    traffic::burst(&lab.path(Family::V4)?, 20_000..20_000 + PARKED, 7001)?;
    let ours = lab.tracked();
    let is_ours = |flow: &&FlowAccount| ours.contains(&flow.key.netns) && flow.news > 0;
    let are_known = |records: &Records| records.accounts().filter(is_ours).count() >= usize::from(PARKED);
    ensure!(agent.wait(PATIENCE, are_known), "the starts of the flows were not told");
    agent.pause()?;
    lab.flush()?;
    agent.resume()?;
    Ok((agent.ready_line.clone(), agent.stop()?))
}

/// Flows of a burst.
const FLOWS: u16 = 50;

/// What a flow moves that never was.
const GHOST: Sum = Sum { flows: 1, packets: 7, bytes: 700 };

/// The kernel side counts an end that nobody tells of: it is lost, to the byte.
pub(super) fn unexplained(settings: &Settings) -> Result<Outcome> {
    let more = |[flows, packets, bytes]: [u64; 3]| {
        [flows + GHOST.flows, packets + GHOST.packets, bytes + GHOST.bytes]
    };
    miscounted(settings, more, |verdict, ended| expect(verdict, ended, &[], &[("unexplained", GHOST)]))
}

/// An end is told that the kernel side did not count: nobody knows how many there are.
pub(super) fn uncounted(settings: &Settings) -> Result<Outcome> {
    let less = |[flows, packets, bytes]: [u64; 3]| [flows - 1, packets, bytes];
    miscounted(settings, less, |verdict, ended| expect(verdict, ended, &[("ends_uncounted", 1)], &[]))
}

/// Changes what the kernel side has counted of the ends of some flows, after the agent was told of them.
fn miscounted(
    settings: &Settings,
    change: impl Fn([u64; 3]) -> [u64; 3],
    check: impl Fn(&mut Verdict, &Ended),
) -> Result<Outcome> {
    if settings.by_netlink() {
        return Ok(Outcome::skip("the netlink source has no second count"));
    }
    let lab = Lab::direct_tracking(&[CLIENT])?;
    let mut agent = Agent::start(&settings.options())?;
    traffic::burst(&lab.path(Family::V4)?, 20_000..20_000 + FLOWS, 7001)?;
    lab.flush()?;
    let ours = lab.tracked();
    let is_told = agent.wait(PATIENCE, |records| records.ended(&ours) >= usize::from(FLOWS));
    ensure!(is_told, "the ends of the flows were not told");
    change_tally(change)?;
    let ready_line = agent.ready_line.clone();
    let ended = agent.stop()?;
    judge(ready_line, FLOWS, &ended, |verdict| check(verdict, &ended))
}

/// The first three words of a tally are flows, packets and bytes of the ends on its CPU.
fn change_tally(change: impl Fn([u64; 3]) -> [u64; 3]) -> Result<()> {
    let is_used = |(_, value): &(_, Vec<u8>)| value.iter().any(|byte| *byte != 0);
    let (key, mut value) = elements("TALLIES")?.into_iter().find(is_used).context("nothing was counted")?;
    let found = *words(&value).first_chunk().context("a tally is too short")?;
    let changed = change(found).map(u64::to_le_bytes).concat();
    value.splice(..changed.len(), changed);
    set_element("TALLIES", &key, &value)
}

/// Key and value.
type Element = (Vec<u8>, Vec<u8>);

/// What is in a map of the agent.
fn elements(map: &str) -> Result<Vec<Element>> {
    let read = |element: &Value| -> Option<Element> {
        let bytes = |name: &str| {
            let digits = element[name].as_array()?.iter().map(|byte| byte.as_str()?.strip_prefix("0x"));
            digits.map(|digits| u8::from_str_radix(digits?, 16).ok()).collect::<Option<Vec<_>>>()
        };
        Some((bytes("key")?, bytes("value")?))
    };
    let dump: Vec<Value> = serde_json::from_str(&run("bpftool", &["-j", "map", "dump", "name", map])?)?;
    dump.iter().map(read).collect::<Option<_>>().context("bpftool shows no bytes")
}

fn words(value: &[u8]) -> Vec<u64> {
    value.as_chunks().0.iter().map(|word| u64::from_le_bytes(*word)).collect()
}

fn set_element(map: &str, key: &[u8], value: &[u8]) -> Result<()> {
    let named = |name: &str, bytes: &[u8]| {
        let hex = bytes.iter().map(|byte| format!("{byte:02x}"));
        [name, "hex"].map(str::to_owned).into_iter().chain(hex).collect::<Vec<_>>()
    };
    let update = ["map", "update", "name", map].map(str::to_owned).to_vec();
    let arguments = [update, named("key", key), named("value", value)].concat();
    run("bpftool", &arguments.iter().map(String::as_str).collect::<Vec<_>>())?;
    Ok(())
}

/// For an emulated guest.
const PATIENCE: Duration = Duration::from_secs(15);

fn wait(what: &str, happened: impl Fn() -> bool) -> Result<()> {
    let deadline = Instant::now() + PATIENCE;
    while !happened() {
        ensure!(Instant::now() < deadline, "{what}");
        thread::sleep(Duration::from_millis(50));
    }
    Ok(())
}

/// An outcome in which only the agent's own words count.
fn judge(ready_line: String, flows: u16, ended: &Ended, check: impl FnOnce(&mut Verdict)) -> Result<Outcome> {
    let flows = usize::from(flows);
    let mut verdict = Verdict::new(flows, flows, ended.output.lines.len() as u64);
    verdict.matched = flows;
    let code = ended.status.code();
    demand(&mut verdict, code == Some(0), || format!("the agent ended with {code:?}"));
    check(&mut verdict);
    Ok(Outcome { verdict, ready_line, ..Outcome::default() })
}

/// The audit tells exactly this.
fn expect(verdict: &mut Verdict, ended: &Ended, doubts: &[(&str, u64)], lost: &[(&str, Sum)]) {
    let named = |(reason, count): &(&str, u64)| ((*reason).to_owned(), *count);
    let summed = |(reason, sum): &(&str, Sum)| ((*reason).to_owned(), *sum);
    let audit = ended.audit().unwrap_or_default();
    let (doubts, lost) = (doubts.iter().map(named).collect(), lost.iter().map(summed).collect());
    let unknown = !BTreeMap::is_empty(&doubts);
    let Audit { delivered_bytes, delivered_packets, .. } = audit;
    let expected = Audit { balances: true, delivered_bytes, delivered_packets, lost, doubts, unknown };
    demand(verdict, audit == expected, || format!("the audit says {audit:?} instead of {expected:?}"));
}

fn demand(verdict: &mut Verdict, is_so: bool, words: impl FnOnce() -> String) {
    if !is_so {
        verdict.problem(words());
    }
}
