//! What a source says of itself at one moment.

use crate::source::{Counted, LongestRuns, Losses, Source};

/// What it counted and lost so far.
#[derive(Clone, Debug, Default)]
pub(super) struct SourceReport {
    /// What the kernel side counted by itself.
    pub(super) counted: Option<Counted>,
    /// What was lost, by reason.
    pub(super) losses: Losses,
    /// The longest runs of the programs that look at many flows, where there are such.
    pub(super) longest_runs: Option<LongestRuns>,
}

impl SourceReport {
    /// What the source says now.
    pub(super) fn of(source: &impl Source) -> Self {
        Self { counted: source.counted(), losses: source.losses(), longest_runs: source.longest_runs() }
    }
}
