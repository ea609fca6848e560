//! Where observations come from. A source knows the kernel or a file; it knows nothing of flow tables or sinks.

pub mod bpf;

pub mod netlink;

pub mod replay;

use crate::model::Observation;

/// Observations read together, in the order in which they may be applied.
#[derive(Debug, Default)]
pub struct Batch {
    /// What was seen.
    pub observations: Vec<Observation>,
    /// Every way by which observations come was read until it was empty, at a moment after the previous batch
    /// was handed over: nothing that happened before that batch can still arrive.
    pub settled: bool,
}

impl Batch {
    /// Makes it ready for the next read, keeping its memory.
    pub fn clear(&mut self) {
        self.observations.clear();
        self.settled = false;
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
}
