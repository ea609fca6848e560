//! Scenarios about agents that go on where another ended, in good order or killed.

use std::fs;
use std::path::PathBuf;
use std::process::Command;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result};

use super::{Outcome, Settings, Stage, pinned};
use crate::agent::{Agent, Output};
use crate::lab::{CLIENT, FAMILIES, Family, Lab, SERVER};
use crate::traffic::{self, Connection, Ending, Exchange, Path, Sent};

/// How often an agent is killed, unless this variable says otherwise.
const KILLS: u32 = 10;
const KILLS_VARIABLE: &str = "CONNTALLY_TEST_KILLS";

/// So many agents at most, less one, are killed one after the other while they start.
const STILLBORN: u64 = 3;

/// An agent lives at most so long.
const LIFE_MS: u64 = 1500;

/// No more flows than that are opened: all their ends come at once, and must find room in the output's queue.
const LAST_PORT: u16 = 45_000;

/// Flows that are opened at once.
pub(super) const BURST: u16 = 5;

/// Between two steps of the traffic.
const PACE: Duration = Duration::from_millis(2);

/// The netlink source dumps once a second; what it did not dump of a flow older than itself is lost at its end.
const DUMPED: Duration = Duration::from_millis(2500);

/// Where agents keep their state. Removed when dropped, with the kernel programs that stayed.
pub(super) struct StateDir {
    path: PathBuf,
    program: PathBuf,
    /// Configuration keys of the scenario's own, of the agents in turn.
    keys: Vec<Keys>,
    turn: AtomicUsize,
}

type Keys = &'static [(&'static str, &'static str)];

impl StateDir {
    pub(super) fn new(name: &str, settings: &Settings) -> Self {
        let path = std::env::temp_dir().join(format!("conntally-{name}-{}", std::process::id()));
        Self { path, program: settings.agent.clone(), keys: Vec::new(), turn: AtomicUsize::new(0) }
    }

    /// For agents with further configuration keys: each that is not killed while it starts has the next ones, and then
    /// the first again.
    pub(super) fn configure(&mut self, keys: &[Keys]) {
        self.keys = keys.to_vec();
    }

    pub(super) fn path(&self) -> &std::path::Path {
        &self.path
    }

    /// The agent.
    pub(super) fn program(&self) -> &std::path::Path {
        &self.program
    }

    fn command(&self, settings: &Settings) -> Command {
        let turn = self.turn.load(Ordering::Relaxed);
        let keys = self.keys.get(turn % self.keys.len().max(1)).copied().unwrap_or_default();
        let mut command = settings.options_with(keys).command("json");
        command.arg("--state-dir").arg(&self.path);
        command
    }

    /// Starts the agent that follows another.
    pub(super) fn start_after(&self, earlier: Output, settings: &Settings) -> Result<Agent> {
        let agent = Agent::start_after(earlier, self.command(settings), &settings.agent)?;
        self.turn.fetch_add(1, Ordering::Relaxed);
        Ok(agent)
    }

    /// The same without a bpf file system where it looks for one, so that it cannot use what is pinned.
    pub(super) fn start_blind_after(&self, earlier: Output, settings: &Settings) -> Result<Agent> {
        let agent = self.command(settings);
        let mut command = Command::new("unshare");
        command.args(["-m", "sh", "-c", r#"mount -t tmpfs none /sys/fs/bpf && exec "$@""#, "sh"]);
        command.arg(agent.get_program()).args(agent.get_args());
        for (name, value) in agent.get_envs() {
            match value {
                Some(value) => command.env(name, value),
                None => command.env_remove(name),
            };
        }
        Agent::start_after(earlier, command, &settings.agent)
    }

    /// The same after others, each of which is killed so long after its start.
    pub(super) fn start_after_deaths(
        &self,
        mut earlier: Output,
        deaths: &[Duration],
        settings: &Settings,
    ) -> Result<Agent> {
        for after in deaths {
            earlier = Agent::start_and_kill(earlier, self.command(settings), &settings.agent, *after)?;
        }
        self.start_after(earlier, settings)
    }
}

/// When agents are killed while they start, by one that `took` so long to be ready. `draw` draws a number below another.
pub(super) fn deaths(took: Duration, mut draw: impl FnMut(u64) -> u64) -> Vec<Duration> {
    let most = u64::try_from(took.as_micros()).unwrap_or(u64::MAX).max(1);
    (0..draw(STILLBORN)).map(|_| Duration::from_micros(draw(most))).collect()
}

impl Drop for StateDir {
    fn drop(&mut self) {
        // Nothing may be there; an agent that still runs is about to be killed.
        let _ = Command::new(&self.program).args(["-qq", "detach", "--state-dir"]).arg(&self.path).output();
        // It lies in a folder for such things.
        let _ = fs::remove_dir_all(&self.path);
    }
}

/// A network whose flows are counted whether or not an agent runs.
pub(super) fn lab() -> Result<Lab> {
    let mut lab = Lab::direct()?;
    for key in ["nf_conntrack_acct", "nf_conntrack_timestamp"] {
        lab.netfilter(key, 1)?;
    }
    lab.capture()?;
    Ok(lab)
}

/// Flows that stay open.
struct Traffic {
    exchanges: Vec<Exchange>,
    connections: Vec<Connection>,
    next_port: u16,
    random: u64,
}

impl Traffic {
    fn open(lab: &Lab, seed: u64) -> Result<Self> {
        let mut traffic =
            Self { exchanges: Vec::new(), connections: Vec::new(), next_port: 21_000, random: seed | 1 };
        for family in FAMILIES {
            let path = lab.path(family)?;
            for port in 0..10 {
                traffic.exchanges.push(Exchange::open(&path, 20_100 + port, 7100 + port)?);
            }
            traffic.connections.push(traffic::connect(&path, 20_002, 7002)?);
        }
        Ok(traffic)
    }

    /// Moves some of the flows and opens some.
    fn step(&mut self, lab: &Lab) -> Result<()> {
        let chosen = self.draw(self.exchanges.len() as u64);
        let size = self.draw(1000);
        if let Some(exchange) = self.exchanges.get_mut(usize::try_from(chosen)?) {
            exchange.ask(usize::try_from(size)?)?;
            exchange.answer(usize::try_from(size / 2)?)?;
        }
        if self.draw(4) == 0 {
            let chosen = self.draw(self.connections.len() as u64);
            let connection = self.connections.get(usize::try_from(chosen)?).context("no connection")?;
            connection.carry(usize::try_from(size)?, 100)?;
        }
        if self.draw(4) == 0 && self.next_port < LAST_PORT {
            let family = FAMILIES.get(usize::try_from(self.draw(2))?).copied().unwrap_or(Family::V4);
            burst(&lab.path(family)?, self.next_port)?;
            self.next_port += BURST;
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

    fn promise(self, lab: &mut Lab) -> Result<usize> {
        let sent: Vec<_> = self.exchanges.iter().map(Exchange::sent).collect::<Result<_>>()?;
        let flows = sent.len() + self.connections.len();
        sent.into_iter().filter(|sent| sent.totals.is_some_and(moved)).for_each(|sent| lab.promise(sent));
        Ok(flows)
    }
}

/// Opens some flows while an agent may be started: until it is its own process, it holds the listener of the burst before.
pub(super) fn burst(path: &Path<'_>, port: u16) -> Result<()> {
    let send = || traffic::burst(path, port..port + BURST, 7003);
    send().or_else(|_| {
        thread::sleep(Duration::from_millis(50));
        send()
    })?;
    Ok(())
}

fn moved(totals: crate::key::Totals) -> bool {
    totals.original.packets > 0
}

/// Asks for the end of every flow, as an agent may tell it that came after the flow.
fn finish(mut stage: Stage<'_>, traffic: Traffic, seed: u64) -> Result<Outcome> {
    let promised = traffic.promise(&mut stage.lab)?;
    // Who deleted a flow that the programs have not met is not known.
    let mut reasons = vec!["deleted", "closed", "unknown"];
    if stage.by_netlink() {
        thread::sleep(DUMPED);
        reasons.push("missed");
    }
    stage.lab.quiet();
    stage.lab.expect_remaining(&reasons);
    let (mut outcome, _) = stage.finish_with(promised)?;
    if !outcome.verdict.exact() {
        outcome.verdict.problem(format!("the traffic was drawn with seed {seed}"));
    }
    Ok(outcome)
}

/// An agent is stopped and another started, while flows move: no line comes twice, no byte is missing.
pub(super) fn planned(settings: &Settings) -> Result<Outcome> {
    let (state, seed) = (StateDir::new("restart", settings), seed());
    let mut lab = lab()?;
    let mut agent = state.start_after(Output::default(), settings)?;
    let mut traffic = Traffic::open(&lab, seed)?;
    let doomed = traffic::burst(&lab.path(Family::V4)?, 20_050..20_051, 7005)?;
    run_for(Duration::from_secs(1), &mut traffic, &lab)?;
    let mut problems = Vec::new();
    for round in 0..2 {
        let ended = agent.stop()?;
        if round == 0 {
            let reasons = if pinned::stays(&ended.output) { ["deleted"] } else { ["missed"] };
            end_unseen(&mut lab, &doomed, &reasons)?;
        }
        problems.extend((!ended.status.success()).then(|| format!("the agent ended with {}", ended.status)));
        run_for(Duration::from_millis(500), &mut traffic, &lab)?;
        agent = state.start_after(ended.output, settings)?;
        run_for(Duration::from_secs(1), &mut traffic, &lab)?;
    }
    // A flow of the last agent's own time beside them, which ends by itself.
    let path = lab.path(Family::V4)?;
    let sent = traffic::transfer(&path, 20_003, 7004, (50_000, 50_000), Ending::Close)?;
    lab.promise(sent);
    let repeated = agent.output().repeated;
    let mut outcome = finish(Stage::around(settings, lab, agent), traffic, seed)?;
    problems.extend((repeated > 0).then(|| format!("{repeated} lines came twice after a planned end")));
    problems.into_iter().for_each(|words| outcome.verdict.problem(words));
    Ok(outcome)
}

/// Flows that end while no agent runs: the next one finds them gone, or is told by the kernel programs that went on.
fn end_unseen(lab: &mut Lab, doomed: &[Sent], reasons: &[&'static str]) -> Result<()> {
    for sent in doomed {
        for place in [CLIENT, SERVER] {
            let port = sent.tuple.source_port.to_string();
            lab.namespace(place)?.exec("conntrack", &["-D", "-p", "udp", "--sport", &port])?;
        }
        lab.cut(&sent.tuple);
        lab.expect(&sent.tuple, |expected| expected.end_reasons = reasons.to_vec())?;
        lab.promise(*sent);
    }
    Ok(())
}

/// An agent is killed again and again while flows move, also while it starts: lines may come twice, word for word, and
/// no byte is missing.
pub(super) fn kill9(settings: &Settings) -> Result<Outcome> {
    let (state, seed) = (StateDir::new("kill9", settings), seed());
    let lab = lab()?;
    let mut agent = state.start_after(Output::default(), settings)?;
    let mut traffic = Traffic::open(&lab, seed)?;
    for _ in 0..kills()? {
        let life = Duration::from_millis(traffic.draw(LIFE_MS));
        run_for(life, &mut traffic, &lab)?;
        let deaths = deaths(agent.ready_after, |below| traffic.draw(below));
        let earlier = agent.kill()?.output;
        agent = thread::scope(|scope| -> Result<Agent> {
            let starting = scope.spawn(|| state.start_after_deaths(earlier, &deaths, settings));
            while !starting.is_finished() {
                traffic.step(&lab)?;
                thread::sleep(PACE);
            }
            starting.join().map_err(|_| anyhow::anyhow!("the start panicked"))?
        })?;
    }
    run_for(Duration::from_millis(500), &mut traffic, &lab)?;
    finish(Stage::around(settings, lab, agent), traffic, seed)
}

fn run_for(time: Duration, traffic: &mut Traffic, lab: &Lab) -> Result<()> {
    let until = Instant::now() + time;
    while Instant::now() < until {
        traffic.step(lab)?;
        thread::sleep(PACE);
    }
    Ok(())
}

pub(super) fn kills() -> Result<u32> {
    match std::env::var(KILLS_VARIABLE) {
        Ok(text) => text.parse().with_context(|| format!("{KILLS_VARIABLE} is no number")),
        Err(_) => Ok(KILLS),
    }
}

pub(super) fn seed() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(1, |now| now.subsec_nanos().into())
}
