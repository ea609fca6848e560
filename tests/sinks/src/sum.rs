//! What was sent and what is stored, in the few figures that every sink keeps.

use std::fmt;
use std::ops::{AddAssign, Sub};

/// Flows that ended and what they moved.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Sum {
    /// Flows that ended.
    pub flows: u64,
    /// Packets and bytes from the side that began.
    pub source: Counter,
    /// Packets and bytes from the other side.
    pub destination: Counter,
}

/// One direction.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counter {
    /// Packets.
    pub packets: u64,
    /// Bytes.
    pub bytes: u64,
}

impl AddAssign for Sum {
    fn add_assign(&mut self, other: Self) {
        self.flows += other.flows;
        self.source += other.source;
        self.destination += other.destination;
    }
}

impl AddAssign for Counter {
    fn add_assign(&mut self, other: Self) {
        self.packets += other.packets;
        self.bytes += other.bytes;
    }
}

impl Sub for Sum {
    type Output = Self;

    /// What is missing; nothing where there is too much.
    fn sub(self, other: Self) -> Self {
        Self {
            flows: self.flows.saturating_sub(other.flows),
            source: self.source - other.source,
            destination: self.destination - other.destination,
        }
    }
}

impl Sub for Counter {
    type Output = Self;

    fn sub(self, other: Self) -> Self {
        Self {
            packets: self.packets.saturating_sub(other.packets),
            bytes: self.bytes.saturating_sub(other.bytes),
        }
    }
}

impl fmt::Display for Sum {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { flows, source, destination } = self;
        write!(
            f,
            "{flows} flows, {}+{} packets, {}+{} bytes",
            source.packets, destination.packets, source.bytes, destination.bytes
        )
    }
}
