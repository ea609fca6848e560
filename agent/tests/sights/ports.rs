//! Flows that differ in their port alone.

use crate::sights;
use conntally::flow::Anchor;
use conntally::model::{Counter, Observation, ObservationKind, Totals, Tuple, protocol};

/// When their recording begins.
pub(crate) const SINCE: Anchor = Anchor { real_ns: 1_700_000_000_000_000_000, boot_ns: 1_000_000_000 };

/// The flow with this port moved so many packets of 100 bytes in each direction.
pub(crate) fn sight(kind: ObservationKind, port: u16, packets: u64) -> Observation {
    let mut original = Tuple { protocol: protocol::UDP, src_port: port, dst_port: 53, ..Tuple::default() };
    original.src[..4].copy_from_slice(&[10, 0, 0, 1]);
    original.dst[..4].copy_from_slice(&[192, 0, 2, 53]);
    let moved = Counter { packets, bytes: packets * 100 };
    Observation {
        conntrack: u64::from(port) << 8,
        born_ns: SINCE.boot_ns + 1,
        start_ns: SINCE.real_ns.unsigned_abs() + 1,
        totals: Totals { original: moved, reply: moved },
        ..sights::sight(kind, original, SINCE.boot_ns + packets)
    }
}
