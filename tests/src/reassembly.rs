//! Puts the parts of a packet together as conntrack's defragmentation does, which counts a packet when it is whole.

use std::collections::HashMap;
use std::net::IpAddr;

use crate::key::Tuple;
use crate::packet::{Fragment, Seen};

/// Packets of which not all parts were seen yet.
#[derive(Debug, Default)]
pub struct Reassembly {
    packets: HashMap<(IpAddr, IpAddr, u8, u32), Partial>,
}

#[derive(Debug, Default)]
struct Partial {
    tuple: Option<Tuple>,
    headers: u64,
    arrived: u64,
    /// Payload of the whole packet, known from its last part.
    length: Option<u64>,
}

impl Reassembly {
    /// Adds a part; the packet, when this was all that it lacked. Nothing here sends overlapping or repeated parts.
    pub fn add(&mut self, part: Fragment) -> Option<Seen> {
        let partial = self.packets.entry(part.of).or_default();
        partial.arrived += part.payload;
        if part.last {
            partial.length = Some(part.offset + part.payload);
        }
        if let Some(tuple) = part.tuple {
            partial.tuple = Some(tuple);
            partial.headers = part.headers;
        }
        let seen = partial.whole()?;
        self.packets.remove(&part.of);
        Some(seen)
    }
}

impl Partial {
    fn whole(&self) -> Option<Seen> {
        let length = self.length.filter(|length| *length == self.arrived)?;
        Some(Seen { tuple: self.tuple?, bytes: self.headers + length })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::key::protocol;

    const ENDS: (IpAddr, IpAddr) =
        (IpAddr::V4(std::net::Ipv4Addr::LOCALHOST), IpAddr::V4(std::net::Ipv4Addr::UNSPECIFIED));

    fn part(number: u32, offset: u64, payload: u64, last: bool) -> Fragment {
        let tuple = Tuple {
            protocol: protocol::UDP,
            source: ENDS.0,
            destination: ENDS.1,
            source_port: 1,
            destination_port: 2,
        };
        let of = (ENDS.0, ENDS.1, protocol::UDP, number);
        Fragment { of, tuple: (offset == 0).then_some(tuple), headers: 20, offset, payload, last }
    }

    #[test]
    fn a_packet_is_whole_with_its_last_missing_part_in_any_order() {
        let parts = [part(1, 0, 1480, false), part(1, 1480, 1480, false), part(1, 2960, 48, true)];
        for order in [[0, 1, 2], [2, 1, 0], [1, 2, 0], [2, 0, 1]] {
            let mut reassembly = Reassembly::default();
            let seen: Vec<_> =
                order.iter().map(|at| reassembly.add(parts[*at]).map(|seen| seen.bytes)).collect();
            assert_eq!(seen, [None, None, Some(3028)]);
        }
    }

    #[test]
    fn parts_of_two_packets_do_not_mix() {
        let mut reassembly = Reassembly::default();
        assert_eq!(reassembly.add(part(1, 0, 1480, false)), None);
        assert_eq!(reassembly.add(part(2, 1480, 20, true)), None);
        assert_eq!(reassembly.add(part(1, 1480, 20, true)).map(|seen| seen.bytes), Some(1520));
    }
}
