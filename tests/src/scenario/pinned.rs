//! Scenarios about kernel programs that go on while no agent runs.

use std::collections::HashMap;
use std::fs;
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};

use super::load::TINY;
use super::restart::{BURST, StateDir, burst, deaths, kills, lab, seed};
use super::stage::kernel_is_since;
use super::{Outcome, Settings, Stage};
use crate::agent::{Agent, Ended, Output};
use crate::compare::Verdict;
use crate::key::{FlowKey, Totals};
use crate::lab::{FAMILIES, Family, Lab};
use crate::ledger::Account;
use crate::records::Records;
use crate::traffic::{self, Ending, Exchange};

/// An agent lives at most so long.
const LIFE_MS: u64 = 1000;

/// Between two steps of the traffic.
const PACE: Duration = Duration::from_millis(2);

/// Between two looks at the kernel's table, and as much again.
const TWO_LOOKS: Duration = Duration::from_secs(10);

/// The kernel removes programs and maps some time after the last reference to them is gone.
const REMOVED_WITHIN: Duration = Duration::from_secs(10);

const STAYS: &str = "the kernel programs stay";
const GOES: &str = "the kernel programs end with this agent";
const TAKEN_OVER: &str = "of an earlier agent were taken over";
const WENT_ON: &str = "in which the kernel programs went on";
const REPLACED: &str = "that an earlier agent left are replaced";
const OUTDATED: &str = "what they tell has been told by another source since";
const SALVAGED: &str = "the earlier programs' last events were read";

/// Flows of which every one may end at any time.
struct Flows {
    exchanges: Vec<Exchange>,
    next_port: u16,
    random: u64,
}

impl Flows {
    fn open(lab: &Lab, seed: u64) -> Result<Self> {
        let mut exchanges = Vec::new();
        for family in FAMILIES {
            let path = lab.path(family)?;
            for port in 0..5 {
                exchanges.push(Exchange::open(&path, 20_100 + port, 7100 + port)?);
            }
        }
        let mut flows = Self { exchanges, next_port: 21_000, random: seed | 1 };
        flows.move_all()?;
        Ok(flows)
    }

    fn move_all(&mut self) -> Result<()> {
        self.exchanges.iter_mut().try_for_each(|exchange| exchange.ask(77).and_then(|()| exchange.answer(33)))
    }

    /// Moves one of the flows, and opens some.
    fn step(&mut self, lab: &Lab) -> Result<()> {
        let (chosen, size) = (self.draw(self.exchanges.len() as u64), self.draw(1000));
        if let Some(exchange) = self.exchanges.get_mut(usize::try_from(chosen)?) {
            exchange.ask(usize::try_from(size)?)?;
            exchange.answer(usize::try_from(size / 2)?)?;
        }
        if self.draw(4) == 0 && self.next_port < 60_000 {
            let family = FAMILIES.get(usize::try_from(self.draw(2))?).copied().unwrap_or(Family::V4);
            burst(&lab.path(family)?, self.next_port)?;
            self.next_port += BURST;
        }
        Ok(())
    }

    fn run_for(&mut self, time: Duration, lab: &Lab) -> Result<()> {
        let until = Instant::now() + time;
        while Instant::now() < until {
            self.step(lab)?;
            thread::sleep(PACE);
        }
        Ok(())
    }

    /// Xorshift.
    const fn draw(&mut self, below: u64) -> u64 {
        self.random ^= self.random << 13;
        self.random ^= self.random >> 7;
        self.random ^= self.random << 17;
        (self.random >> 16) % below
    }
}

/// Ends every flow. Those that move again are others.
fn end_all(lab: &Lab) -> Result<()> {
    lab.expect_remaining(&["deleted", "closed"]);
    lab.flush()
}

/// An agent is stopped; while none runs flows move, end, and begin and end; the next one tells all of it, once.
pub(super) fn restart(settings: &Settings) -> Result<Outcome> {
    let objects = kernel_objects();
    let (state, mut lab, seed) = (StateDir::new("pinned", settings), lab()?, seed());
    let mut agent = state.start_after(Output::default(), settings)?;
    if agent.ready_line.contains("netlink") {
        return Ok(Outcome::skip("there are no kernel programs"));
    }
    let mut flows = Flows::open(&lab, seed)?;
    flows.run_for(Duration::from_millis(500), &lab)?;
    let is_unpinned = goes(&agent)?;
    let ended = agent.stop()?;
    if is_unpinned {
        return unpinned(settings, &lab, &state, ended);
    }
    ensure!(stays(&ended.output), "the agent does not say that its programs stay");
    move_and_end(&mut flows, &lab)?;
    agent = state.start_after(ended.output, settings)?;
    let mut problems = Vec::new();
    if !says(&agent.output(), TAKEN_OVER) {
        problems.push("the programs were not taken over".to_owned());
    }
    flows.run_for(Duration::from_millis(500), &lab)?;
    let sent = traffic::transfer(&lab.path(Family::V4)?, 20_003, 7004, (50_000, 50_000), Ending::Close)?;
    lab.promise(sent);
    let repeated = agent.output().repeated;
    problems.extend((repeated > 0).then(|| format!("{repeated} lines came twice after a planned end")));
    let mut outcome = finish(settings, lab, agent, seed)?;
    problems.extend(state.detach()?);
    problems.extend(left_behind(objects));
    problems.into_iter().for_each(|words| outcome.verdict.problem(words));
    Ok(outcome)
}

/// The next agent wants other rings than the one before: it replaces its programs, and tells what they still had to say.
pub(super) fn replaced(settings: &Settings) -> Result<Outcome> {
    let mut state = StateDir::new("replaced", settings);
    state.configure(&[&TINY, &[]]);
    let Left { lab, seed, mut flows, ended } = match first_life(&state, settings)? {
        Ok(left) => left,
        Err(skipped) => return Ok(skipped),
    };
    move_and_end(&mut flows, &lab)?;
    let agent = state.start_after(ended.output, settings)?;
    let missing = [REPLACED, SALVAGED].into_iter().filter(|words| !says(&agent.output(), words));
    let missing: Vec<_> = missing.map(|words| format!("the agent does not say {words:?}")).collect();
    flows.run_for(Duration::from_millis(500), &lab)?;
    let mut outcome = finish(settings, lab, agent, seed)?;
    missing.into_iter().for_each(|words| outcome.verdict.problem(words));
    Ok(outcome)
}

/// The next agent cannot use what is pinned, and tells by programs of its own what the others tell, too. The one after it
/// finds those, and must not tell it again.
pub(super) fn outdated(settings: &Settings) -> Result<Outcome> {
    let state = StateDir::new("outdated", settings);
    let Left { lab, seed, mut flows, ended } = match first_life(&state, settings)? {
        Ok(left) => left,
        Err(skipped) => return Ok(skipped),
    };
    let mut agent = state.start_blind_after(ended.output, settings)?;
    move_and_end(&mut flows, &lab)?;
    let ended = agent.stop()?;
    agent = state.start_after(ended.output, settings)?;
    let is_said = says(&agent.output(), OUTDATED);
    flows.run_for(Duration::from_millis(500), &lab)?;
    let mut outcome = finish(settings, lab, agent, seed)?;
    if !is_said {
        outcome.verdict.problem(format!("the agent does not say {OUTDATED:?}"));
    }
    Ok(outcome)
}

/// Somebody removes the state while the programs stay. The next agent cannot know what was billed: it says that its
/// completeness is unknown, and bills nothing twice.
pub(super) fn stateless(settings: &Settings) -> Result<Outcome> {
    let state = StateDir::new("stateless", settings);
    let Left { lab, seed, mut flows, ended } = match first_life(&state, settings)? {
        Ok(left) => left,
        Err(skipped) => return Ok(skipped),
    };
    fs::remove_dir_all(state.path()).context("cannot remove the state")?;
    move_and_end(&mut flows, &lab)?;
    let mut agent = state.start_after(ended.output, settings)?;
    flows.run_for(Duration::from_millis(500), &lab)?;
    lab.quiet();
    lab.flush()?;
    let (ledger, namespaces) = (lab.ledger()?, lab.tracked());
    agent.wait(TWO_LOOKS, |records| records.ended(&namespaces) >= ledger.len());
    let (ready_line, ready_ms) = (agent.ready_line.clone(), agent.ready_after.as_millis());
    let ended = agent.stop()?;
    let mut verdict = Verdict::new(ledger.len(), 2 * 5 * FAMILIES.len(), ended.output.records.events);
    let twice = billed_twice(&ledger, &ended.output.records);
    verdict.matched = ledger.len() - twice.len();
    twice.into_iter().for_each(|words| verdict.problem(format!("{words} (seed {seed})")));
    let (missing, audit) = (ended.lost("state_missing"), ended.audit().unwrap_or_default());
    if missing != 1 || !audit.unknown || audit.doubts.get("state_missing") != Some(&1) {
        verdict.problem(format!("state_missing was counted {missing} times, the audit says {audit:?}"));
    }
    Ok(Outcome { verdict, ready_line, ready_ms, skipped: None })
}

/// Names under which more was billed than the wire carried.
fn billed_twice(ledger: &[Account], records: &Records) -> Vec<String> {
    let mut carried: HashMap<FlowKey, Totals> = HashMap::new();
    ledger.iter().for_each(|account| *carried.entry(account.key).or_default() += account.totals);
    let billed = records.by_key();
    let too_much = |(key, carried): (FlowKey, Totals)| {
        let mut sum = Totals::default();
        billed.get(&key)?.iter().for_each(|account| sum += account.deltas);
        carried.minus(sum).is_none().then(|| format!("{key}: billed {sum:?}, the wire carried {carried:?}"))
    };
    carried.into_iter().filter_map(too_much).collect()
}

/// What an agent left whose programs outlived it.
struct Left {
    lab: Lab,
    seed: u64,
    flows: Flows,
    ended: Ended,
}

/// The life of an agent whose programs outlive it; else why there is none.
fn first_life(state: &StateDir, settings: &Settings) -> Result<Result<Left, Outcome>> {
    let (lab, seed) = (lab()?, seed());
    let mut agent = match first_agent(state, settings)? {
        Ok(agent) => agent,
        Err(skipped) => return Ok(Err(skipped)),
    };
    let mut flows = Flows::open(&lab, seed)?;
    flows.run_for(Duration::from_millis(500), &lab)?;
    let ended = agent.stop()?;
    Ok(Ok(Left { lab, seed, flows, ended }))
}

/// An agent whose programs outlive it; else why there is none.
fn first_agent(state: &StateDir, settings: &Settings) -> Result<Result<Agent, Outcome>> {
    let agent = state.start_after(Output::default(), settings)?;
    Ok(if agent.ready_line.contains("netlink") {
        Err(Outcome::skip("there are no kernel programs"))
    } else if goes(&agent)? {
        Err(Outcome::skip("the kernel does not let its programs outlive the agent"))
    } else {
        Ok(agent)
    })
}

fn move_and_end(flows: &mut Flows, lab: &Lab) -> Result<()> {
    for _ in 0..2 {
        flows.run_for(Duration::from_millis(300), lab)?;
        end_all(lab)?;
    }
    flows.run_for(Duration::from_millis(300), lab)
}

/// Agents are killed again and again, also while they start; flows end while none runs, and at any other time.
pub(super) fn kill9(settings: &Settings) -> Result<Outcome> {
    killed(StateDir::new("pinned9", settings), kills()?, settings)
}

/// The same while most ends have no room in their ring.
pub(super) fn kill9_overflow(settings: &Settings) -> Result<Outcome> {
    let mut state = StateDir::new("overflow9", settings);
    state.configure(&[&TINY]);
    killed(state, kills()?, settings)
}

/// The same while each agent wants other rings than the one before, and replaces its programs.
pub(super) fn kill9_replaced(settings: &Settings) -> Result<Outcome> {
    let mut state = StateDir::new("replaced9", settings);
    state.configure(&[&TINY, &[]]);
    // Each start takes long, since the programs are attached anew.
    killed(state, kills()?.div_ceil(2), settings)
}

fn killed(state: StateDir, kills: u32, settings: &Settings) -> Result<Outcome> {
    let (lab, seed) = (lab()?, seed());
    let mut agent = match first_agent(&state, settings)? {
        Ok(agent) => agent,
        Err(skipped) => return Ok(skipped),
    };
    let mut flows = Flows::open(&lab, seed)?;
    for round in 0..kills {
        let life = Duration::from_millis(flows.draw(LIFE_MS));
        flows.run_for(life, &lab)?;
        if round % 2 == 0 {
            end_all(&lab)?;
        }
        let deaths = deaths(agent.ready_after, |below| flows.draw(below));
        let earlier = agent.kill()?.output;
        flows.run_for(Duration::from_millis(100), &lab)?;
        if round % 3 != 0 {
            end_all(&lab)?;
        }
        agent = thread::scope(|scope| -> Result<Agent> {
            let starting = scope.spawn(|| state.start_after_deaths(earlier, &deaths, settings));
            while !starting.is_finished() {
                flows.step(&lab)?;
                thread::sleep(PACE);
            }
            starting.join().map_err(|_| anyhow::anyhow!("the start panicked"))?
        })?;
    }
    flows.run_for(Duration::from_millis(300), &lab)?;
    let mut outcome = finish(settings, lab, agent, seed)?;
    state.detach()?.into_iter().for_each(|words| outcome.verdict.problem(words));
    Ok(outcome)
}

fn finish(settings: &Settings, lab: Lab, agent: Agent, seed: u64) -> Result<Outcome> {
    let promised = 2 * 5 * FAMILIES.len();
    let mut outcome = Stage::around(settings, lab, agent).finish(promised)?;
    if !outcome.verdict.exact() {
        outcome.verdict.problem(format!("the traffic was drawn with seed {seed}"));
    }
    Ok(outcome)
}

/// Where programs go with their agent, flows that end before the next one runs are missed, and it says so.
fn unpinned(settings: &Settings, lab: &Lab, state: &StateDir, ended: Ended) -> Result<Outcome> {
    let namespaces = lab.tracked();
    let known: Vec<_> =
        ended.output.records.accounts().filter(|flow| namespaces.contains(&flow.key.netns)).collect();
    let known = known.len();
    lab.flush()?;
    let mut agent = state.start_after(ended.output, settings)?;
    let is_told = agent.wait(TWO_LOOKS, |records| {
        let missed = |end: &Option<String>| end.as_deref() == Some("missed");
        records.accounts().filter(|flow| missed(&flow.end_reason)).count() >= known
    });
    let (ready_line, ready_ms) = (agent.ready_line.clone(), agent.ready_after.as_millis());
    agent.stop()?;
    let mut verdict = Verdict::new(known, 1, 0);
    if is_told {
        verdict.matched = known;
    } else {
        verdict.problem(format!("not each of {known} flows that ended unseen was told as missed"));
    }
    Ok(Outcome { verdict, ready_line, ready_ms, skipped: None })
}

/// Whether the programs end with this agent, as they may only where the kernel cannot keep them: probes before 5.15.
fn goes(agent: &Agent) -> Result<bool> {
    let goes = says(&agent.output(), GOES);
    let can_stay = agent.ready_line.contains("fentry:") || kernel_is_since([5, 15]);
    ensure!(
        !(goes && can_stay),
        "the kernel programs end with the agent although this kernel could keep them"
    );
    Ok(goes)
}

/// Whether the agent left its programs to the next one.
pub(super) fn stays(output: &Output) -> bool {
    says(output, STAYS)
}

/// Whether the agent goes on with programs that have seen all that happened before it.
pub(super) fn went_on(output: &Output) -> bool {
    output.last_log().iter().any(|line| line.contains(WENT_ON))
}

fn says(output: &Output, words: &str) -> bool {
    output.log.iter().any(|line| line.contains(words))
}

/// How many programs, maps and links the kernel has; `None` where nothing tells.
fn kernel_objects() -> Option<[usize; 3]> {
    let mut counts = [0; 3];
    for (count, kind) in counts.iter_mut().zip(["prog", "map", "link"]) {
        let output = Command::new("bpftool").args(["-j", kind, "show"]).output().ok()?;
        let list: Vec<serde_json::Value> = serde_json::from_slice(&output.stdout).ok()?;
        *count = list.len();
    }
    Some(counts)
}

/// What is there that was not before.
fn left_behind(before: Option<[usize; 3]>) -> Option<String> {
    let until = Instant::now() + REMOVED_WITHIN;
    let mut now = kernel_objects();
    while now > before && Instant::now() < until {
        thread::sleep(Duration::from_millis(200));
        now = kernel_objects();
    }
    (now > before).then(|| format!("programs, maps and links were {before:?} before and are {now:?} after"))
}

impl StateDir {
    /// Removes the programs that outlived their agent; says what is wrong with that.
    fn detach(&self) -> Result<Option<String>> {
        let mut command = Command::new(self.program());
        let output = command.arg("detach").arg("--state-dir").arg(self.path()).output();
        let output = output.with_context(|| format!("cannot run {}", self.program().display()))?;
        let said = String::from_utf8_lossy(&output.stdout);
        let is_right = output.status.success() && said.contains("removed ");
        Ok((!is_right).then(|| format!("detach ended with {} and said {said:?}", output.status)))
    }
}
