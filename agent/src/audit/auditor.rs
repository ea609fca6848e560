//! Audits again and again: what is overdue, and what happened since the audit before.

use super::evidence::Evidence;
use super::statement::Statement;
use super::window::Window;
use crate::model::Sum;

/// Settled batches after which every end that was counted before must have been told.
const SETTLED: u64 = 2;

/// The running audit.
#[derive(Clone, Debug, Default)]
pub struct Auditor {
    /// What the kernel side had counted and not lost at an earlier audit, and the settled batches by then.
    expected: Option<(Sum, u64)>,
    overdue: Sum,
    /// Where the window began.
    before: Statement,
}

impl Auditor {
    /// Draws up a statement of everything since the start.
    pub fn audit(&mut self, evidence: &Evidence) -> Statement {
        self.follow_ends(evidence);
        Statement::of(evidence, self.overdue)
    }

    /// What happened since the window began, and begins the next one.
    pub fn turn_window(&mut self, statement: &Statement) -> Window {
        let window = Window::between(&self.before, statement);
        self.before = statement.clone();
        window
    }

    /// An end that was counted two settled batches ago and has not been told is not on its way any more.
    fn follow_ends(&mut self, evidence: &Evidence) {
        let Some(counted) = &evidence.counted else { return };
        let delivered = counted.ended.beyond(counted.ends_lost);
        match self.expected {
            Some((_, then)) if evidence.settled_batches < then + SETTLED => {}
            Some((expected, _)) => {
                self.overdue = expected.beyond(evidence.books.ended);
                self.expected = Some((delivered, evidence.settled_batches));
            }
            None => self.expected = Some((delivered, evidence.settled_batches)),
        }
    }
}
