//! What the facts mean: one line for each topic, and what they add up to.

use serde::Serialize;

use super::facts::Facts;
use super::judge;

/// What the configuration would do about things.
#[derive(Clone, Copy, Debug)]
pub struct Settings {
    /// The agent turns counters and timestamps on while it runs (`source.manage_sysctls`).
    pub manage_sysctls: bool,
    /// The agent makes its namespace track connections (`source.enable_tracking`).
    pub enable_tracking: bool,
}

/// How good or bad a fact is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Level {
    /// As it should be.
    Ok,
    /// The agent works, but less well or not everywhere.
    Warn,
    /// The agent cannot account.
    Fail,
}

/// What is to be said about one topic.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Line {
    /// How it stands.
    pub level: Level,
    /// The topic, a word or two.
    pub what: &'static str,
    /// How it is, and what follows from it.
    pub detail: String,
    /// More for whoever wants to know why.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub notes: Vec<String>,
    /// What is to be done where no command does it alone.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub advice: Option<String>,
    /// Commands that mend it, to be pasted into a shell of root.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub mend: Vec<String>,
}

/// What all lines add up to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// Every flow is accounted.
    Works,
    /// It accounts, with the limits that the warnings tell.
    Degraded,
    /// It cannot account.
    CannotAccount,
}

impl Outcome {
    /// The exit code of `conntally check`: 0 works, 1 cannot account, 3 works with limits. 2 is left to a wrong
    /// command line.
    #[must_use]
    pub const fn exit_code(self) -> u8 {
        match self {
            Self::Works => 0,
            Self::CannotAccount => 1,
            Self::Degraded => 3,
        }
    }
}

/// The verdict on a machine.
#[derive(Clone, Debug, Serialize)]
pub struct Verdict {
    /// The sum.
    pub outcome: Outcome,
    /// One line for each topic, what the rest depends on first.
    pub lines: Vec<Line>,
}

impl Verdict {
    /// Judges facts. Looks at nothing else.
    #[must_use]
    pub fn of(facts: &Facts, settings: Settings) -> Self {
        let lines = judge::all(facts, settings);
        let worst = lines.iter().map(|line| line.level).max().unwrap_or(Level::Ok);
        let outcome = match worst {
            Level::Ok => Outcome::Works,
            Level::Warn => Outcome::Degraded,
            Level::Fail => Outcome::CannotAccount,
        };
        Self { outcome, lines }
    }

    /// How many lines are of that level.
    #[must_use]
    pub fn count(&self, level: Level) -> usize {
        self.lines.iter().filter(|line| line.level == level).count()
    }
}

impl Line {
    pub(super) fn new(level: Level, what: &'static str, detail: impl Into<String>) -> Self {
        Self { level, what, detail: detail.into(), notes: Vec::new(), advice: None, mend: Vec::new() }
    }

    pub(super) fn notes(self, notes: Vec<String>) -> Self {
        Self { notes, ..self }
    }

    pub(super) fn advice(self, advice: impl Into<String>) -> Self {
        Self { advice: Some(advice.into()), ..self }
    }

    pub(super) fn mend(self, mend: impl IntoIterator<Item = impl Into<String>>) -> Self {
        Self { mend: mend.into_iter().map(Into::into).collect(), ..self }
    }
}
