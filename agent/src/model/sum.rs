//! Flows, packets and bytes added up over many flows.

use std::ops::{Add, AddAssign, Sub, SubAssign};

use super::Totals;

/// What a number of flows moved, both directions together.
///
/// Adding and subtracting wrap around, so that running sums stay right whatever the order of their changes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Sum {
    /// Flows.
    pub flows: u64,
    /// IP packets.
    pub packets: u64,
    /// Bytes, IP headers included.
    pub bytes: u64,
}

impl Sum {
    /// Packets and bytes of both directions; no flow.
    #[must_use]
    pub const fn moved(totals: &Totals) -> Self {
        let Totals { original, reply } = totals;
        Self {
            flows: 0,
            packets: original.packets.wrapping_add(reply.packets),
            bytes: original.bytes.wrapping_add(reply.bytes),
        }
    }

    /// The same of one flow.
    #[must_use]
    pub const fn of_flow(totals: &Totals) -> Self {
        Self { flows: 1, ..Self::moved(totals) }
    }

    /// What is more than in `other`, each figure by itself; 0 where it is less.
    #[must_use]
    pub const fn beyond(self, other: Self) -> Self {
        Self {
            flows: self.flows.saturating_sub(other.flows),
            packets: self.packets.saturating_sub(other.packets),
            bytes: self.bytes.saturating_sub(other.bytes),
        }
    }

    /// Whether every figure is 0.
    #[must_use]
    pub fn is_zero(self) -> bool {
        self == Self::default()
    }
}

impl AddAssign for Sum {
    fn add_assign(&mut self, other: Self) {
        *self = *self + other;
    }
}

impl SubAssign for Sum {
    fn sub_assign(&mut self, other: Self) {
        *self = *self - other;
    }
}

impl Add for Sum {
    type Output = Self;

    fn add(self, other: Self) -> Self {
        Self {
            flows: self.flows.wrapping_add(other.flows),
            packets: self.packets.wrapping_add(other.packets),
            bytes: self.bytes.wrapping_add(other.bytes),
        }
    }
}

impl Sub for Sum {
    type Output = Self;

    fn sub(self, other: Self) -> Self {
        Self {
            flows: self.flows.wrapping_sub(other.flows),
            packets: self.packets.wrapping_sub(other.packets),
            bytes: self.bytes.wrapping_sub(other.bytes),
        }
    }
}
