//! What the kernel programs counted by themselves, whether or not anything of it was delivered.

use conntally_common::LOSS_REASONS;

use super::{KernelSide, attaching::Attached, hooks::Role, pins::Told};
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
struct Counts {
    ended: Sum,
    ends_lost: Sum,
    losses: [u64; LOSS_REASONS],
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
        let since = self.counts().losses.into_iter().zip(self.told.losses);
        LOSS_NAMES
            .into_iter()
            .zip(since.map(|(now, told)| now.saturating_sub(told)))
            .chain([
                ("hook_skipped", self.ends_skipped().unwrap_or(0)),
                // At most so many ends have no reason, or another.
                ("end_reason_unknown", self.notes_skipped()),
            ])
            .collect()
    }

    /// How often the kernel skipped the program that tells of ends; `None` where it does not count that.
    #[must_use]
    pub fn ends_skipped(&self) -> Option<u64> {
        self.skips_ever().ends.map(|skipped| skipped.saturating_sub(self.told.ends_skipped))
    }

    fn notes_skipped(&self) -> u64 {
        self.skips_ever().notes.unwrap_or(0).saturating_sub(self.told.notes_skipped)
    }

    /// Since the programs were loaded.
    pub(super) fn skips_ever(&self) -> Skips {
        let of = |roles: &[Role], detached| {
            let mut programs =
                self.attached.iter().filter(|attached| roles.contains(&attached.role)).peekable();
            if programs.peek().is_none() {
                return detached;
            }
            programs.filter_map(Attached::skipped).reduce(u64::saturating_add)
        };
        Skips {
            ends: of(&[Role::Destroy], self.skips.ends),
            notes: of(&[Role::Delete, Role::Insert, Role::Confirm], self.skips.notes),
        }
    }

    /// What all flows moved that ended so far and of which no earlier agent was told.
    #[must_use]
    pub fn ended(&self) -> Sum {
        self.ended_ever().beyond(self.ended_before)
    }

    /// What those of them moved whose end had no room anywhere.
    #[must_use]
    pub fn ends_lost(&self) -> Sum {
        self.counts().ends_lost.beyond(self.told.ends_lost)
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
        let mut all = Counts::default();
        for one in (0..self.tallies.len()).filter_map(|cpu| self.tallies.get(cpu)) {
            all.ended += one.ended.into();
            all.ends_lost += one.ends_lost.into();
            all.losses.iter_mut().zip(one.losses).for_each(|(all, one)| *all = all.wrapping_add(one));
        }
        all
    }
}

impl From<conntally_common::Sum> for Sum {
    fn from(conntally_common::Sum { flows, packets, bytes }: conntally_common::Sum) -> Self {
        Self { flows, packets, bytes }
    }
}
