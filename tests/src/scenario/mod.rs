//! What is tried with an agent, one scenario at a time, and what came of it.

mod ends;
mod faults;
mod forced;
mod honesty;
mod kernel;
mod life;
mod load;
mod marks;
mod offload;
mod pinned;
mod races;
mod restart;
mod stage;
mod untouched;
mod wire;

use std::path::PathBuf;
use std::time::Instant;

use anyhow::{Context, Result, bail};
use serde::Serialize;

pub use stage::Stage;

use crate::agent::{Hook, Options, Updates};
use crate::compare::Verdict;
use crate::netns::run;

/// What a scenario is given.
#[derive(Clone, Debug)]
pub struct Settings {
    /// The agent's binary.
    pub agent: PathBuf,
    /// How it gets at the kernel.
    pub hook: Hook,
    /// Where records and logs of failed scenarios are put.
    pub out: Option<PathBuf>,
    /// Whether nobody else uses this machine: every flow and every change of a setting is ours.
    pub alone: bool,
    /// How it hears of flows that move; its default when `None`.
    pub updates: Option<Updates>,
    /// Number of flows in scenarios about many of them.
    pub flows: u32,
}

impl Settings {
    fn options(&self) -> Options {
        let updates = self.updates.map(|updates| (UPDATES, updates.name()));
        let environment = updates.into_iter().collect();
        Options { program: self.agent.clone(), hook: self.hook, environment }
    }

    /// The usual options and further configuration keys.
    fn options_with(&self, environment: &[(&'static str, &'static str)]) -> Options {
        let mut options = self.options();
        options.environment.extend_from_slice(environment);
        options
    }

    /// Whether the agent is told to do without tracing.
    fn by_netlink(&self) -> bool {
        self.hook == Hook::Netlink
    }

    /// Whether this agent has a configuration key.
    fn knows(&self, key: &str) -> Result<bool> {
        let program = self.agent.to_str().context("the agent's path is no text")?;
        Ok(run(program, &["config", "default"])?
            .lines()
            .any(|line| line.trim_start_matches('#').starts_with(key)))
    }
}

/// The configuration key of [`Settings::updates`] as a variable.
const UPDATES: &str = "CONNTALLY_SOURCE__UPDATES";

/// Number of flows in large scenarios, small enough for emulation.
pub const FLOWS: u32 = 20_000;

/// What came of a scenario.
#[derive(Debug, Default)]
pub struct Outcome {
    /// The comparison.
    pub verdict: Verdict,
    /// The agent's `ready` line.
    pub ready_line: String,
    /// From the agent's start to that line, in milliseconds.
    pub ready_ms: u128,
    /// Why this kernel cannot play the scenario.
    pub skipped: Option<String>,
}

impl Outcome {
    fn skip(why: &str) -> Self {
        Self { skipped: Some(why.to_owned()), ..Self::default() }
    }
}

/// One line of the report.
#[derive(Debug, Serialize)]
pub struct Report {
    /// The scenario's name.
    pub scenario: &'static str,
    /// How the agent was told to get at the kernel.
    pub hook: &'static str,
    /// How it was told to hear of flows that move.
    pub updates: &'static str,
    /// What it said it used.
    pub hooks_used: String,
    /// `exact`, `failed`, or `skipped` when the kernel cannot play it.
    pub verdict: &'static str,
    /// From the agent's start to its `ready` line, in milliseconds.
    pub ready_ms: u128,
    /// How long all of it took, in seconds.
    pub seconds: f64,
    /// Why it could not be played to its end.
    pub error: Option<String>,
    /// The comparison's figures.
    #[serde(flatten)]
    pub figures: Verdict,
}

impl Report {
    /// Whether this counts as a failure.
    #[must_use]
    pub fn failed(&self) -> bool {
        self.verdict == "failed"
    }
}

/// A scenario by its name.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct Scenario {
    /// Its name.
    pub name: &'static str,
    /// Whether it may run on a machine with other users: it changes nothing outside its own namespaces.
    pub harmless: bool,
    /// How many CPUs it needs to prove anything.
    pub cpus: u32,
    /// Whether it takes long under emulation, so that a selection has it less often.
    pub long: bool,
    #[serde(skip)]
    play: fn(&Settings) -> Result<Outcome>,
}

const fn harmless(name: &'static str, play: fn(&Settings) -> Result<Outcome>) -> Scenario {
    Scenario { name, harmless: true, cpus: 1, long: false, play }
}

const fn guest_only(name: &'static str, play: fn(&Settings) -> Result<Outcome>) -> Scenario {
    Scenario { harmless: false, ..harmless(name, play) }
}

impl Scenario {
    const fn long(self) -> Self {
        Self { long: true, ..self }
    }

    const fn racing(self) -> Self {
        Self { cpus: 2, ..self }
    }
}

/// All of them, the most telling first.
pub const SCENARIOS: &[Scenario] = &[
    harmless("protocols", wire::protocols),
    harmless("short", wire::short),
    harmless("tcp", wire::tcp),
    harmless("nat", wire::nat),
    harmless("zones", wire::zones),
    harmless("ends", ends::reasons),
    harmless("replaced", ends::replaced),
    harmless("reuse", ends::reuse),
    harmless("namespace", ends::namespace),
    guest_only("evicted", ends::evicted).long(),
    harmless("midlife", life::midlife).long(),
    guest_only("hidden", life::hidden).long(),
    harmless("live", life::live).long(),
    harmless("quiet", life::quiet),
    harmless("no_starts", life::no_starts),
    harmless("two_agents", life::two_agents).long(),
    harmless("no_counters", honesty::no_counters),
    harmless("untouched", untouched::managed),
    harmless("untouched_unmanaged", untouched::unmanaged).long(),
    harmless("pipe", honesty::pipe),
    harmless("restart", restart::planned).long(),
    harmless("kill9", restart::kill9).long(),
    guest_only("pinned_restart", pinned::restart),
    guest_only("pinned_replaced", pinned::replaced).long(),
    guest_only("pinned_stateless", pinned::stateless).long(),
    guest_only("pinned_outdated", pinned::outdated).long(),
    guest_only("pinned_kill9", pinned::kill9).long(),
    guest_only("overflow_kill9", pinned::kill9_overflow).long(),
    guest_only("replaced_kill9", pinned::kill9_replaced).long(),
    harmless("burst", load::burst).long(),
    harmless("flush", load::flush).long().racing(),
    harmless("ns_storm", load::namespace_storm).long(),
    harmless("second_agent", load::second_agent).long(),
    harmless("tiny_start", load::tiny_start).long(),
    harmless("tiny_rings", load::tiny_rings).long(),
    harmless("ends_lost", load::ends_lost).long(),
    harmless("link_down", faults::link_down).long(),
    harmless("icmp_errors", faults::icmp_errors),
    harmless("retransmits", faults::retransmits),
    harmless("extension_headers", faults::extension_headers),
    harmless("marks", marks::marks),
    harmless("flowtable", offload::counted).long(),
    harmless("flowtable_uncounted", offload::uncounted).long(),
    harmless("skips", races::skips).long().racing(),
    harmless("skips_unstamped", races::skips_unstamped).long().racing(),
    harmless("udp_clash", races::udp_clash).racing(),
    guest_only("udp_clash_slow", races::udp_clash_slow).racing(),
    harmless("no_room", races::no_room).long(),
    harmless("reuse_storm", load::reuse_storm).long().racing(),
    guest_only("unreadable", forced::unreadable),
    guest_only("skipped", forced::skipped),
    guest_only("reused_memory", forced::reused_memory),
    guest_only("unannounced", forced::unannounced),
    guest_only("queue_full", forced::queue_full),
    guest_only("deleted_unmet", forced::deleted_unmet),
    guest_only("unassigned", forced::unassigned),
    guest_only("unexplained", forced::unexplained),
    guest_only("uncounted", forced::uncounted),
    guest_only("chosen", kernel::chosen),
    guest_only("clock_step", kernel::clock_step).long(),
    guest_only("clock_jumps", kernel::clock_jumps).long(),
    guest_only("resized", kernel::resized).long(),
    guest_only("resized_hidden", kernel::resized_hidden).long(),
    guest_only("module_reload", kernel::module_reload).long(),
];

/// The scenarios of these names, or all.
///
/// # Errors
/// When there is none of a name.
pub fn select(names: &[impl AsRef<str>]) -> Result<Vec<Scenario>> {
    let mut chosen = Vec::new();
    for name in names.iter().map(AsRef::as_ref) {
        let before = chosen.len();
        chosen.extend(SCENARIOS.iter().filter(|scenario| name == "all" || scenario.name == name));
        if chosen.len() == before {
            let known: Vec<&str> = SCENARIOS.iter().map(|scenario| scenario.name).collect();
            bail!("no scenario is named {name}; there are all, {}", known.join(", "));
        }
    }
    Ok(chosen)
}

/// Plays a scenario to its end, whatever happens.
#[must_use]
pub fn play(scenario: Scenario, settings: &Settings) -> Report {
    let started = Instant::now();
    let (outcome, error) = match (scenario.play)(settings) {
        Ok(outcome) => (outcome, None),
        Err(cause) => (Outcome::default(), Some(format!("{cause:#}"))),
    };
    let verdict = match (&error, &outcome.skipped) {
        (None, Some(_)) => "skipped",
        (None, None) if outcome.verdict.exact() => "exact",
        _ => "failed",
    };
    Report {
        scenario: scenario.name,
        hook: settings.hook.name(),
        updates: settings.updates.map_or("default", Updates::name),
        hooks_used: outcome.ready_line.trim_start_matches("ready").trim().to_owned(),
        verdict,
        ready_ms: outcome.ready_ms,
        seconds: started.elapsed().as_secs_f64(),
        error: error.or(outcome.skipped),
        figures: outcome.verdict,
    }
}
