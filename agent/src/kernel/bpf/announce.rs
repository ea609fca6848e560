//! Announces flows that a probe could only give a slot: their first packet may be their last for a long time.

use anyhow::Context;
use conntally_common::ANNOUNCE_BATCH;

use super::{
    loader::{LoadedObject, Runnable},
    shared::Shared,
};

/// Runs of the program in one go, so that a flood cannot keep the reader from the rings.
const RUNS: usize = 2048;

/// The program that announces, with its answer: how many it took from the queue.
pub(super) struct Announcer {
    program: Runnable,
    taken: Shared<u64>,
}

impl Announcer {
    /// Loads it.
    pub(super) fn load(object: &LoadedObject) -> anyhow::Result<Self> {
        let program = Runnable::load(object, "announce").context("the program announce cannot be loaded")?;
        Ok(Self { program, taken: object.maps.shared("TAKEN")? })
    }

    /// Announces what waits in the queue.
    pub(super) fn run(&self) -> anyhow::Result<()> {
        for _ in 0..RUNS {
            if !self.step()? {
                break;
            }
        }
        Ok(())
    }

    /// Announces the first flows that wait in the queue. Returns whether more may wait.
    pub(super) fn step(&self) -> anyhow::Result<bool> {
        self.program.run().context("the program announce cannot be run")?;
        Ok(self.taken.get(0).unwrap_or(0) == ANNOUNCE_BATCH)
    }
}
