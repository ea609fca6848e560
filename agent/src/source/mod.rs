//! Where observations come from. A source knows the kernel or a file; it knows nothing of flow tables or sinks.

pub mod bpf;

pub mod netlink;

pub mod replay;

use crate::model::{Observation, Sum, Visit};

/// Observations read together, in the order in which they may be applied.
#[derive(Debug, Default)]
pub struct Batch {
    /// What was seen.
    pub observations: Vec<Observation>,
    /// Every way by which observations come was read until it was empty, at a moment after the previous batch
    /// was handed over: nothing that happened before that batch can still arrive.
    pub settled: bool,
    /// The look at all living flows that ended with this batch, if one did.
    pub look: Option<Look>,
}

/// A complete look at the kernel's table: every flow in its scope that lived all the while was observed by it, in
/// this batch or an earlier one, as [`crate::model::ObservationKind::Existing`] or by another sight.
///
/// The batch that carries it comes after everything that happened before the look began was handed over, and no
/// other look of the same scope began before it ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Look {
    /// When it began, `CLOCK_BOOTTIME` nanoseconds.
    pub began_boot_ns: u64,
    /// Which flows it saw.
    pub scope: Scope,
}

/// Which flows a look at the kernel's table sees.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Scope {
    /// Those of every network namespace (a walk of the table).
    All,
    /// Those of these network namespaces, by inode (dumps).
    Namespaces(Vec<u32>),
}

/// What the kernel side counted by itself, whether or not anything of it was delivered. Since start.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Counted {
    /// Every flow that ended, with its final totals.
    pub ended: Sum,
    /// Those of them whose end could not be handed over, with their final totals.
    pub ends_lost: Sum,
    /// How often the kernel skipped the program that tells of ends. What those flows had moved is not known.
    pub ends_skipped: u64,
    /// Ends were lost, and the looks that tell which flows they were of are not over yet.
    pub owes_looks: bool,
}

/// The longest single runs so far of the programs that look at many flows, during which the kernel preempts nothing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LongestRuns {
    /// Of the one that looks at flows which are due, nanoseconds.
    pub sweep_ns: u64,
    /// Of the one that walks the kernel's table, nanoseconds.
    pub walk_ns: u64,
}

impl LongestRuns {
    /// The longer of both, each.
    #[must_use]
    pub fn max(self, other: Self) -> Self {
        Self { sweep_ns: self.sweep_ns.max(other.sweep_ns), walk_ns: self.walk_ns.max(other.walk_ns) }
    }
}

impl Batch {
    /// Makes it ready for the next read, keeping its memory.
    pub fn clear(&mut self) {
        self.observations.clear();
        self.settled = false;
        self.look = None;
    }
}

/// What a read brought.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Progress {
    /// The batch was filled (perhaps with nothing: time passed); more may come.
    More,
    /// The source has ended; the batch is its last.
    Finished,
}

/// How many times something was lost, by reason. Totals since start.
pub type Losses = Vec<(&'static str, u64)>;

/// Why a source stopped working.
#[derive(Debug, thiserror::Error)]
#[error("{what}")]
pub struct SourceError {
    /// What was being done.
    pub what: String,
    /// What went wrong.
    #[source]
    pub cause: anyhow::Error,
}

/// A way by which observations come.
pub trait Source: Send {
    /// Waits until something came or at most about 100 ms passed, and puts what came into the cleared batch.
    /// Cancel safe: what was not handed over stays for the next call.
    ///
    /// # Errors
    /// When nothing more can come.
    fn read(&mut self, batch: &mut Batch) -> impl Future<Output = Result<Progress, SourceError>> + Send;

    /// Stops new observations (detaches) and puts what is still under way into the batch, until `Finished`.
    ///
    /// # Errors
    /// When what is under way cannot be read.
    fn drain(&mut self, batch: &mut Batch) -> impl Future<Output = Result<Progress, SourceError>> + Send;

    /// What this source lost so far, by reason.
    fn losses(&self) -> Losses;

    /// Takes flows that are due; what changed is observed by one of the next reads. Takes what it has room for and
    /// returns how many those were. A source that cannot look at single flows takes all and does nothing.
    fn visit(&mut self, due: &[Visit]) -> usize {
        due.len()
    }

    /// What the kernel side counted beside what it handed over; `None` where it cannot.
    fn counted(&self) -> Option<Counted> {
        None
    }

    /// The longest runs of the programs that look at many flows; `None` for a source that has none.
    fn longest_runs(&self) -> Option<LongestRuns> {
        None
    }
}
