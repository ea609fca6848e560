//! What is tried with an agent, one scenario at a time, and what came of it.

mod ends;
mod honesty;
mod kernel;
mod life;
mod pinned;
mod restart;
mod stage;
mod wire;

use std::path::PathBuf;
use std::time::Instant;

use anyhow::{Result, bail};
use serde::Serialize;

pub use stage::Stage;

use crate::agent::{Hook, Options};
use crate::compare::Verdict;

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
}

impl Settings {
    fn options(&self) -> Options {
        Options { program: self.agent.clone(), hook: self.hook, environment: Vec::new() }
    }
}

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
#[derive(Clone, Copy, Debug)]
pub struct Scenario {
    /// Its name.
    pub name: &'static str,
    /// Whether it may run on a machine with other users: it changes nothing outside its own namespaces.
    pub harmless: bool,
    play: fn(&Settings) -> Result<Outcome>,
}

const fn harmless(name: &'static str, play: fn(&Settings) -> Result<Outcome>) -> Scenario {
    Scenario { name, harmless: true, play }
}

const fn guest_only(name: &'static str, play: fn(&Settings) -> Result<Outcome>) -> Scenario {
    Scenario { name, harmless: false, play }
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
    guest_only("evicted", ends::evicted),
    harmless("midlife", life::midlife),
    harmless("live", life::live),
    harmless("two_agents", life::two_agents),
    harmless("no_counters", honesty::no_counters),
    harmless("pipe", honesty::pipe),
    harmless("restart", restart::planned),
    harmless("kill9", restart::kill9),
    guest_only("pinned_restart", pinned::restart),
    guest_only("pinned_kill9", pinned::kill9),
    guest_only("clock_step", kernel::clock_step),
    guest_only("module_reload", kernel::module_reload),
];

/// The scenarios of this name, or all.
///
/// # Errors
/// When there is none of the name.
pub fn select(name: &str) -> Result<Vec<Scenario>> {
    let chosen: Vec<Scenario> =
        SCENARIOS.iter().filter(|scenario| name == "all" || scenario.name == name).copied().collect();
    if chosen.is_empty() {
        let names: Vec<&str> = SCENARIOS.iter().map(|scenario| scenario.name).collect();
        bail!("no scenario is named {name}; there are all, {}", names.join(", "));
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
        hooks_used: outcome.ready_line.trim_start_matches("ready").trim().to_owned(),
        verdict,
        ready_ms: outcome.ready_ms,
        seconds: started.elapsed().as_secs_f64(),
        error: error.or(outcome.skipped),
        figures: outcome.verdict,
    }
}
