//! Runs the program that looks at flows which are due although no packet made them speak.

use anyhow::Context;
use conntally_common::{Event, Runs, VISITS, Visit, VisitVerdict};

use super::{
    KernelSide,
    loader::{LoadedObject, Runnable},
    shared::Shared,
};

/// The program, with the list of flows that it shares with this process.
pub(super) struct Sweeper {
    program: Runnable,
    visits: Shared<Visit>,
    sights: Shared<Event>,
}

impl Sweeper {
    /// Loads it.
    pub(super) fn load(object: &LoadedObject) -> anyhow::Result<Self> {
        let program = Runnable::load(object, "sweep").context("the program sweep cannot be loaded")?;
        Ok(Self { program, visits: object.maps.shared("VISITS")?, sights: object.maps.shared("SIGHTS")? })
    }

    /// One run over the first of the given flows, as many as the list holds; sets their verdicts. Returns how many
    /// those are.
    fn run(&mut self, due: &mut [Visit], mut changed: impl FnMut(&Visit, &Event)) -> anyhow::Result<usize> {
        let len = due.len().min(VISITS as usize);
        for (index, visit) in due.iter().take(len).enumerate() {
            self.visits.set(index, *visit);
        }
        if len < VISITS as usize {
            self.visits.set(len, Visit::default());
        }
        self.program.run().context("the program sweep cannot be run")?;
        for (index, visit) in due.iter_mut().take(len).enumerate() {
            visit.verdict = self.visits.get(index).map_or(0, |answered| answered.verdict);
            if let (VisitVerdict::CHANGED, Some(event)) = (visit.verdict, self.sights.get(index)) {
                changed(visit, &event);
            }
        }
        Ok(len)
    }
}

impl KernelSide {
    /// Looks once at the first of the given flows, at most 128, sets their verdicts (which must be 0 before) and hands
    /// on those that changed. Returns how many it took. Takes at most some 300 µs.
    ///
    /// # Errors
    /// When the program that does it cannot be loaded or run.
    pub fn sweep(&mut self, due: &mut [Visit], changed: impl FnMut(&Visit, &Event)) -> anyhow::Result<usize> {
        let sweeper = match &mut self.sweeper {
            Some(sweeper) => sweeper,
            None => self.sweeper.insert(Sweeper::load(&self.object)?),
        };
        sweeper.run(due, changed)
    }

    /// How the runs of that program went so far.
    #[must_use]
    pub fn sweeps(&self) -> Runs {
        self.runs.get(0).unwrap_or_default()
    }
}
