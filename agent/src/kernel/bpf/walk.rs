//! Runs the program that walks the kernel's connection table.

use anyhow::Context;
use conntally_common::{Event, Walk, WalkState};

use super::{
    KernelSide,
    loader::{LoadedObject, Runnable},
    shared::Shared,
    table,
};
use crate::kernel::addresses::Addresses;

/// The program, with its cursor that it shares with this process.
pub(super) struct Walker {
    program: Runnable,
    cursor: Shared<Walk>,
    sights: Shared<Event>,
    start: Walk,
    /// Of all walks.
    longest_ns: u64,
}

/// How far a walk is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WalkProgress {
    /// There is more.
    UnderWay,
    /// Every bucket was walked, and all flows were in them.
    Complete(Walk),
    /// The kernel resized its table: begin again.
    Resized,
    /// The table is not where the kernel's symbols say.
    Unreadable,
}

impl Walker {
    /// Loads it.
    fn load(object: &LoadedObject, known: Option<&Addresses>) -> anyhow::Result<Self> {
        let [table_pointer, size_pointer, generation_pointer] = table::find(object, known)?;
        let start = Walk { table_pointer, size_pointer, generation_pointer, ..Walk::default() };
        let program = Runnable::load(object, "walk").context("the program walk cannot be loaded")?;
        let (cursor, sights) = (object.maps.shared("WALK")?, object.maps.shared("SIGHTS")?);
        Ok(Self { program, cursor, sights, start, longest_ns: 0 })
    }

    fn step(&mut self, mut met: impl FnMut(&Event)) -> anyhow::Result<WalkProgress> {
        self.program.run().context("the program walk cannot be run")?;
        let walk = self.cursor.get(0).unwrap_or_default();
        self.longest_ns = self.longest_ns.max(walk.longest_ns);
        (0..walk.told as usize).filter_map(|index| self.sights.get(index)).for_each(|event| met(&event));
        Ok(match walk.state {
            WalkState::UNDER_WAY => WalkProgress::UnderWay,
            WalkState::COMPLETE => WalkProgress::Complete(walk),
            WalkState::RESIZED => WalkProgress::Resized,
            _ => WalkProgress::Unreadable,
        })
    }
}

impl KernelSide {
    /// Puts the walk at the start of the table.
    ///
    /// # Errors
    /// When the kernel does not let one walk: a dump must do.
    pub fn begin_walk(&mut self) -> anyhow::Result<()> {
        let walker = match &mut self.walker {
            Some(walker) => walker,
            None => self.walker.insert(Walker::load(&self.object, self.addresses.as_ref())?),
        };
        walker.cursor.set(0, walker.start);
        Ok(())
    }

    /// Walks a little further and hands on the flows that it met. Takes at most some 300 µs.
    ///
    /// # Errors
    /// When no walk was begun, or the program cannot be run.
    pub fn walk_on(&mut self, met: impl FnMut(&Event)) -> anyhow::Result<WalkProgress> {
        self.walker.as_mut().context("no walk was begun")?.step(met)
    }

    /// Nanoseconds of the longest run of that program so far, of all walks that this agent began.
    #[must_use]
    pub fn longest_walk_run_ns(&self) -> u64 {
        self.walker.as_ref().map_or(0, |walker| walker.longest_ns)
    }
}
