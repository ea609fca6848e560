//! From the first bytes of an IP packet to its tuple and its total length.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use crate::key::{Tuple, protocol};
use crate::sys;

/// As many bytes of a packet as [`parse`] ever looks at.
pub const SNAP: usize = 128;

/// A packet that conntrack would track.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Seen {
    /// Addresses and ports as they stood in the packet.
    pub tuple: Tuple,
    /// IP total length, headers included.
    pub bytes: u64,
}

/// Reads a packet from its IP header on. `None` for what conntrack does not count as a flow of ours: multicast,
/// neighbour discovery, ICMP errors (they belong to another flow and are not accounted), fragments, garbage.
#[must_use]
pub fn parse(packet: &[u8]) -> Option<Seen> {
    match packet.first()? >> 4 {
        4 => parse_v4(packet),
        6 => parse_v6(packet),
        _ => None,
    }
}

fn parse_v4(packet: &[u8]) -> Option<Seen> {
    let header = usize::from(packet.first()? & 0x0f) * 4;
    let more_fragments_or_offset = u16_at(packet, 6)? & 0x3fff;
    if more_fragments_or_offset != 0 {
        return None;
    }
    let source = Ipv4Addr::from(array_at::<4>(packet, 12)?);
    let destination = Ipv4Addr::from(array_at::<4>(packet, 16)?);
    if destination.is_multicast() || destination.is_broadcast() {
        return None;
    }
    let protocol = *packet.get(9)?;
    let (source_port, destination_port) = ports(protocol, packet.get(header..)?)?;
    let tuple = Tuple {
        protocol,
        source: IpAddr::V4(source),
        destination: IpAddr::V4(destination),
        source_port,
        destination_port,
    };
    Some(Seen { tuple, bytes: u64::from(u16_at(packet, 2)?) })
}

fn parse_v6(packet: &[u8]) -> Option<Seen> {
    const HEADER: usize = 40;
    let source = Ipv6Addr::from(array_at::<16>(packet, 8)?);
    let destination = Ipv6Addr::from(array_at::<16>(packet, 24)?);
    if destination.is_multicast() {
        return None;
    }
    let protocol = *packet.get(6)?;
    let (source_port, destination_port) = ports(protocol, packet.get(HEADER..)?)?;
    let tuple = Tuple {
        protocol,
        source: IpAddr::V6(source),
        destination: IpAddr::V6(destination),
        source_port,
        destination_port,
    };
    Some(Seen { tuple, bytes: HEADER as u64 + u64::from(u16_at(packet, 4)?) })
}

/// The two "ports" of a tuple; `None` for ICMP that is no echo.
fn ports(protocol: u8, payload: &[u8]) -> Option<(u16, u16)> {
    match protocol {
        protocol::ICMP => echo(payload, &[0, 8]),
        protocol::ICMPV6 => echo(payload, &[128, 129]),
        protocol::UDPLITE if !sys::knows_udplite() => Some((0, 0)),
        protocol::TCP | protocol::UDP | protocol::SCTP | protocol::UDPLITE => {
            Some((u16_at(payload, 0)?, u16_at(payload, 2)?))
        }
        _ => Some((0, 0)),
    }
}

fn echo(payload: &[u8], types: &[u8]) -> Option<(u16, u16)> {
    types.contains(payload.first()?).then_some(())?;
    Some((u16_at(payload, 4)?, u16_at(payload, 0)?))
}

fn u16_at(bytes: &[u8], at: usize) -> Option<u16> {
    array_at(bytes, at).map(u16::from_be_bytes)
}

fn array_at<const N: usize>(bytes: &[u8], at: usize) -> Option<[u8; N]> {
    bytes.get(at..at.checked_add(N)?)?.try_into().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    const UDP4: &[u8] = &[
        0x45, 0, 0, 33, 0, 0, 0x40, 0, 64, 17, 0, 0, 10, 0, 0, 1, 10, 0, 0, 2, 0x4e, 0x20, 0, 53, 0, 13, 0, 0,
    ];

    #[test]
    fn a_udp_packet_counts_its_total_length() {
        let seen = parse(UDP4).unwrap();
        assert_eq!(seen.bytes, 33);
        assert_eq!((seen.tuple.source_port, seen.tuple.destination_port), (20000, 53));
        assert_eq!(seen.tuple.source, IpAddr::from([10, 0, 0, 1]));
    }

    #[test]
    fn an_ipv6_packet_counts_its_header_too() {
        let mut packet = vec![0x60, 0, 0, 0, 0, 9, 17, 64];
        packet.extend([0xfd; 16]);
        packet.extend([0xfc; 16]);
        packet.extend([0x4e, 0x20, 0, 53, 0, 9, 0, 0, 1]);
        assert_eq!(parse(&packet).unwrap().bytes, 49);
    }

    #[test]
    fn icmp_errors_multicast_and_fragments_are_no_flows_of_ours() {
        let mut error = UDP4.to_vec();
        error[9] = protocol::ICMP;
        error[20] = 3;
        assert_eq!(parse(&error), None);
        let mut multicast = UDP4.to_vec();
        multicast[16] = 224;
        assert_eq!(parse(&multicast), None);
        let mut fragment = UDP4.to_vec();
        fragment[7] = 1;
        assert_eq!(parse(&fragment), None);
    }

    #[test]
    fn every_truncation_is_refused_without_a_panic() {
        for length in 0..24 {
            assert_eq!(parse(&UDP4[..length]), None, "{length} bytes");
        }
    }
}
