//! What a comparison found, and whether that is good enough.

use serde::Serialize;

use crate::key::Totals;

/// Problems that are told in words; more are only counted.
const TOLD: usize = 20;

/// What is missing of flows whose end was lost where the agent may lose some if it says so.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Shortfall {
    /// Flows without an end, or with one that was only concluded.
    pub ends: u64,
    /// What the wire had of them beyond what was delivered.
    pub totals: Totals,
}

impl Shortfall {
    /// One more flow, of which so much is missing.
    pub fn add(&mut self, missing: Totals) {
        self.ends += 1;
        self.totals += missing;
    }
}

/// The outcome of one comparison. Figures are numbers of flows unless named otherwise.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Verdict {
    /// Records read.
    pub events: u64,
    /// Flows on the wire.
    pub flows: usize,
    /// The least number of flows that makes the run worth anything.
    pub promised: usize,
    /// Flows whose records agree with the wire in everything.
    pub matched: usize,
    /// Flows without any record.
    pub missing: usize,
    /// Flows without an end.
    pub missing_ends: usize,
    /// Flows with more than one end, or with records after it.
    pub double_ends: usize,
    /// Flows whose deltas add up to more than their totals or than the wire had.
    pub double_counts: usize,
    /// Flows whose totals or deltas are otherwise not those of the wire.
    pub wrong_counts: usize,
    /// Flows with the directions changed.
    pub wrong_direction: usize,
    /// Flows with a wrong end reason, flag or translation, or more than one start.
    pub wrong_facts: usize,
    /// Flows that never were on the wire.
    pub unexpected: usize,
    /// Flows that agree with `conntrack -L`.
    pub conntrack_matched: usize,
    /// Flows that do not.
    pub conntrack_mismatches: usize,
    /// What is missing of flows whose loss is admitted; no problem by itself.
    pub shortfall: Shortfall,
    /// Number of problems found.
    pub problem_count: usize,
    /// The first of them in words.
    pub problems: Vec<String>,
}

impl Verdict {
    /// Nothing compared yet.
    #[must_use]
    pub fn new(flows: usize, promised: usize, events: u64) -> Self {
        let mut verdict = Self { flows, promised, events, ..Self::default() };
        if flows == 0 {
            verdict.problem("no flow was on the wire: the run proves nothing".to_owned());
        }
        if flows < promised {
            verdict.problem(format!("{flows} flows on the wire, at least {promised} were promised"));
        }
        verdict
    }

    /// Adds a problem. Any problem makes the comparison fail.
    pub fn problem(&mut self, words: String) {
        self.problem_count += 1;
        if self.problems.len() < TOLD {
            self.problems.push(words);
        }
    }

    /// Adds a disagreement with `conntrack -L`.
    pub fn conntrack_mismatch(&mut self, words: String) {
        self.conntrack_mismatches += 1;
        self.problem(words);
    }

    /// Whether every flow agrees in everything, and enough of them were there.
    #[must_use]
    pub const fn exact(&self) -> bool {
        self.problem_count == 0 && self.flows > 0 && self.matched == self.flows && self.flows >= self.promised
    }
}
