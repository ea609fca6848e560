//! A compiled filter: a flat list of comparisons, each with where to go on.

use super::check::{Check, Surroundings};
use crate::model::Record;

/// Where to go on: a step that comes later, or the verdict.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Next {
    Step(usize),
    Verdict(bool),
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Step {
    check: Check,
    if_true: Next,
    if_false: Next,
}

/// Steps from the last to the first, as they are put together.
#[derive(Debug, Default)]
pub(super) struct Builder(Vec<Step>);

impl Builder {
    /// Adds a step in front of all others; tells where it is.
    pub(super) fn prepend(&mut self, check: Check, if_true: Next, if_false: Next) -> Next {
        self.0.push(Step { check, if_true, if_false });
        Next::Step(self.0.len() - 1)
    }

    pub(super) fn finish(self, entry: Next) -> Program {
        Program { steps: self.0.into(), entry }
    }
}

/// A compiled filter. It holds no more than its text, and is evaluated without taking memory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Program {
    /// Each goes on to one before it, so that every way through ends.
    steps: Box<[Step]>,
    entry: Next,
}

impl Program {
    pub(super) fn holds(&self, record: &Record, around: &Surroundings) -> bool {
        let mut next = self.entry;
        loop {
            let position = match next {
                Next::Step(position) => position,
                Next::Verdict(holds) => return holds,
            };
            let Some(step) = self.steps.get(position) else { return false };
            next = if step.check.holds(record, around) { step.if_true } else { step.if_false };
        }
    }

    /// Whether it holds for every record.
    pub(super) fn is_always(&self) -> bool {
        self.entry == Next::Verdict(true)
    }
}
