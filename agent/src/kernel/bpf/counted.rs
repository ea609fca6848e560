//! What the kernel programs counted by themselves, whether or not anything of it was delivered.

use aya::maps::{MapData, PerCpuArray};
use conntally_common::{LOSS_REASONS, Sum};

use super::{KernelSide, abi::Plain, attaching::Attached, hooks::Role, pins::Told};

/// Names of [`conntally_common::LossReason`], in the order of their numbers.
const LOSS_NAMES: [&str; LOSS_REASONS as usize] =
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
        let Ok(map) = self.object.maps.get("LOSSES") else { return Vec::new() };
        let Ok(map) = PerCpuArray::<_, u64>::try_from(map) else { return Vec::new() };
        (0u32..)
            .zip(LOSS_NAMES.into_iter().zip(self.told.losses))
            .map(|(index, (name, told))| (name, sum_of_cpus(&map, index).saturating_sub(told)))
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
        beyond(self.ended_ever(), self.ended_before)
    }

    /// What those of them moved whose end had no room anywhere.
    #[must_use]
    pub fn ends_lost(&self) -> Sum {
        beyond(self.sum("ENDS_LOST"), self.told.ends_lost)
    }

    /// What all flows moved that ended since the programs were loaded.
    pub(super) fn ended_ever(&self) -> Sum {
        self.sum("ENDED")
    }

    /// All that was counted since the programs were loaded.
    pub(super) fn counted_ever(&self) -> Told {
        let mut losses = [0; LOSS_REASONS as usize];
        if let Ok(map) = self.object.maps.get("LOSSES").and_then(|map| Ok(PerCpuArray::try_from(map)?)) {
            (0u32..).zip(&mut losses).for_each(|(index, count)| *count = sum_of_cpus(&map, index));
        }
        let Skips { ends, notes } = self.skips_ever();
        Told {
            losses,
            ends_lost: self.sum("ENDS_LOST"),
            ends_skipped: ends.unwrap_or(0),
            notes_skipped: notes.unwrap_or(0),
        }
    }

    fn sum(&self, name: &str) -> Sum {
        let Ok(map) = self.object.maps.get(name) else { return Sum::default() };
        let Ok(map) = PerCpuArray::<_, Plain<Sum>>::try_from(map) else { return Sum::default() };
        let of_cpus = map.get(&0, 0).ok();
        of_cpus.iter().flat_map(|values| values.iter()).fold(Sum::default(), |all, Plain(one)| Sum {
            flows: all.flows.wrapping_add(one.flows),
            packets: all.packets.wrapping_add(one.packets),
            bytes: all.bytes.wrapping_add(one.bytes),
        })
    }
}

fn sum_of_cpus(map: &PerCpuArray<&MapData, u64>, index: u32) -> u64 {
    map.get(&index, 0).map_or(0, |values| values.iter().sum())
}

/// What came since.
pub(super) const fn beyond(now: Sum, before: Sum) -> Sum {
    Sum {
        flows: now.flows.saturating_sub(before.flows),
        packets: now.packets.saturating_sub(before.packets),
        bytes: now.bytes.saturating_sub(before.bytes),
    }
}
