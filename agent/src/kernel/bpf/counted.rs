//! What the kernel programs counted by themselves, whether or not anything of it was delivered.

use aya::maps::PerCpuArray;
use conntally_common::{LOSS_REASONS, Sum};

use super::{KernelSide, abi::Plain};

/// Names of [`conntally_common::LossReason`], in the order of their numbers.
const LOSS_NAMES: [&str; LOSS_REASONS as usize] =
    ["update_ring_full", "end_lost", "no_slot", "read_failed", "end_read_failed"];

impl KernelSide {
    /// What was lost so far, by reason.
    #[must_use]
    pub fn losses(&self) -> Vec<(&'static str, u64)> {
        let Ok(map) = self.object.maps.get("LOSSES") else { return Vec::new() };
        let Ok(map) = PerCpuArray::<_, u64>::try_from(map) else { return Vec::new() };
        (0u32..)
            .zip(LOSS_NAMES)
            .map(|(index, name)| (name, map.get(&index, 0).map_or(0, |values| values.iter().sum())))
            .chain([("hook_skipped", self.ends_skipped().unwrap_or(0))])
            .collect()
    }

    /// What all flows moved that ended so far.
    #[must_use]
    pub fn ended(&self) -> Sum {
        self.sum("ENDED")
    }

    /// What those of them moved whose end had no room anywhere.
    #[must_use]
    pub fn ends_lost(&self) -> Sum {
        self.sum("ENDS_LOST")
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
