//! Announces flows that a probe could only give a slot: their first packet may be their last for a long time.

use anyhow::Context;
use aya::maps::Array;
use conntally_common::ANNOUNCE_BATCH;

use super::loader::{LoadedObject, Runnable};

/// Runs of the program in one go, so that a flood cannot keep the reader from the rings.
const RUNS: usize = 2048;

/// The program that announces.
pub(super) struct Announcer(Runnable);

impl Announcer {
    /// Loads it.
    pub(super) fn load(object: &LoadedObject) -> anyhow::Result<Self> {
        Runnable::load(object, "announce").map(Self).context("the program announce cannot be loaded")
    }

    /// Announces what waits in the queue.
    pub(super) fn run(&self, object: &LoadedObject) -> anyhow::Result<()> {
        for _ in 0..RUNS {
            self.0.run().context("the program announce cannot be run")?;
            let taken: u32 = Array::try_from(object.maps.get("TAKEN")?)?.get(&0, 0)?;
            if taken < ANNOUNCE_BATCH {
                break;
            }
        }
        Ok(())
    }
}
