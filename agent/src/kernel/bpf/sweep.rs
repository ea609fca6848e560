//! Runs the program that looks at flows which are due although no packet made them speak.

use anyhow::Context;
use aya::maps::Array;
use conntally_common::{Runs, VISITS, Visit};

use super::{
    KernelSide,
    abi::Plain,
    loader::{self, LoadedObject, Runnable},
    shared::Shared,
};

/// The program, with the list of flows that it shares with this process.
pub(super) struct Sweeper {
    program: Runnable,
    visits: Shared<Visit>,
}

impl Sweeper {
    /// Loads it.
    pub(super) fn load(object: &LoadedObject) -> anyhow::Result<Self> {
        let program = Runnable::load(object, "sweep").context("the program sweep cannot be loaded")?;
        let map =
            loader::descriptor(object.maps.get("VISITS")?).context("the map VISITS is of no known kind")?;
        let visits = Shared::map(map, VISITS as usize).context("the map VISITS cannot be shared")?;
        Ok(Self { program, visits })
    }

    /// One run over the first of the given flows, as many as the list holds; sets their verdicts. Returns how many
    /// those are.
    fn run(&mut self, due: &mut [Visit]) -> anyhow::Result<usize> {
        let len = due.len().min(self.visits.len());
        for (index, visit) in due.iter().take(len).enumerate() {
            self.visits.set(index, *visit);
        }
        self.visits.set(len, Visit::default());
        self.program.run().context("the program sweep cannot be run")?;
        for (index, visit) in due.iter_mut().take(len).enumerate() {
            visit.verdict = self.visits.get(index).map_or(0, |answered| answered.verdict);
        }
        Ok(len)
    }
}

impl KernelSide {
    /// Looks once at the first of the given flows, at most 128, and sets their verdicts (which must be 0 before); what
    /// moved is in the ring of updates then. Returns how many it took. Takes at most some 300 µs.
    ///
    /// # Errors
    /// When the program that does it cannot be loaded or run.
    pub fn sweep(&mut self, due: &mut [Visit]) -> anyhow::Result<usize> {
        let sweeper = match &mut self.sweeper {
            Some(sweeper) => sweeper,
            None => self.sweeper.insert(Sweeper::load(&self.object)?),
        };
        sweeper.run(due)
    }

    /// How the runs of that program went so far.
    #[must_use]
    pub fn sweeps(&self) -> Runs {
        let read = || -> anyhow::Result<Plain<Runs>> {
            Ok(Array::try_from(self.object.maps.get("SWEEPS")?)?.get(&0, 0)?)
        };
        read().map_or_else(|_| Runs::default(), |runs| runs.0)
    }
}
