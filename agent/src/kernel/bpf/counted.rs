//! What the kernel programs counted by themselves, whether or not anything of it was delivered.

use conntally_common::{LOSS_REASONS, Tally};

use super::{KernelSide, attaching::Attached, hooks::Role, pins::Told, shared::Shared};
use crate::model::Sum;

/// Names of [`conntally_common::LossReason`], in the order of their numbers.
const LOSS_NAMES: [&str; LOSS_REASONS] =
    ["update_ring_full", "end_lost", "no_slot", "read_failed", "end_read_failed"];

/// How often the kernel skipped a program because another was running on that CPU, since it was loaded. `None` where the
/// kernel does not count that: before 5.12, for probes in part before 6.7.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Skips {
    /// The one that tells of ends.
    pub(super) ends: Option<u64>,
    /// Those that note who deletes a flow, or that it has begun: without a slot there is no place for such a note.
    pub(super) notes: Option<u64>,
}

/// What all CPUs counted.
#[derive(Default)]
pub(super) struct Counts {
    pub(super) ended: Sum,
    pub(super) ends_lost: Sum,
    pub(super) losses: [u64; LOSS_REASONS],
}

impl Attached {
    /// How often the kernel skipped the program or, if it hangs on one, its probe.
    fn skipped(&self) -> Option<u64> {
        let counts = [self.program.skipped(), self.link.missed()];
        counts.into_iter().flatten().reduce(u64::saturating_add)
    }
}

impl KernelSide {
    /// What was lost so far, by reason.
    #[must_use]
    pub fn losses(&self) -> Vec<(&'static str, u64)> {
        let lost = self.lost();
        LOSS_NAMES
            .into_iter()
            .zip(lost.losses)
            .chain([
                ("hook_skipped", lost.ends_skipped),
                // At most so many ends have no reason, or another.
                ("end_reason_unknown", lost.notes_skipped),
            ])
            .collect()
    }

    /// What was lost and no earlier agent has told.
    fn lost(&self) -> Told {
        let mut lost = self.counted_ever().since(&self.told);
        lost.add(&self.untold.lost);
        lost
    }

    /// How often the kernel skipped the program that tells of ends; `None` where it does not count that.
    #[must_use]
    pub fn ends_skipped(&self) -> Option<u64> {
        self.skips_ever().ends.map(|_| self.lost().ends_skipped)
    }

    /// Since the programs were loaded.
    pub(super) fn skips_ever(&self) -> Skips {
        if self.attached.is_empty() { self.skips } else { Skips::of(&self.attached) }
    }

    /// What all flows moved that ended so far and of which no earlier agent was told.
    #[must_use]
    pub fn ended(&self) -> Sum {
        self.ended_ever().beyond(self.ended_before) + self.untold.ended
    }

    /// What those of them moved whose end had no room anywhere.
    #[must_use]
    pub fn ends_lost(&self) -> Sum {
        self.counts().ends_lost.beyond(self.told.ends_lost) + self.untold.lost.ends_lost
    }

    /// What all flows moved that ended since the programs were loaded.
    pub(super) fn ended_ever(&self) -> Sum {
        self.counts().ended
    }

    /// How often an event had no room in its ring, since the programs were loaded.
    pub(super) fn times_full(&self) -> u64 {
        let [update_ring_full, end_lost, ..] = self.counts().losses;
        update_ring_full.wrapping_add(end_lost)
    }

    /// All that was counted since the programs were loaded.
    pub(super) fn counted_ever(&self) -> Told {
        let Counts { losses, ends_lost, .. } = self.counts();
        let Skips { ends, notes } = self.skips_ever();
        Told { losses, ends_lost, ends_skipped: ends.unwrap_or(0), notes_skipped: notes.unwrap_or(0) }
    }

    fn counts(&self) -> Counts {
        Counts::of(&self.tallies)
    }
}

impl Counts {
    /// Sums up all CPUs.
    pub(super) fn of(tallies: &Shared<Tally>) -> Self {
        let mut all = Self::default();
        for one in (0..tallies.len()).filter_map(|cpu| tallies.get(cpu)) {
            all.ended += one.ended.into();
            all.ends_lost += one.ends_lost.into();
            all.losses.iter_mut().zip(one.losses).for_each(|(all, one)| *all = all.wrapping_add(one));
        }
        all
    }
}

impl Skips {
    /// Of programs that are attached.
    pub(super) fn of(attached: &[Attached]) -> Self {
        let of = |roles: &[Role]| {
            let programs = attached.iter().filter(|attached| roles.contains(&attached.role));
            programs.filter_map(Attached::skipped).reduce(u64::saturating_add)
        };
        Self { ends: of(&[Role::Destroy]), notes: of(&[Role::Delete, Role::Insert, Role::Confirm]) }
    }
}

impl From<conntally_common::Sum> for Sum {
    fn from(conntally_common::Sum { flows, packets, bytes }: conntally_common::Sum) -> Self {
        Self { flows, packets, bytes }
    }
}
