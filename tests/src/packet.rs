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

/// One of several parts of a packet. Conntrack puts them together first and counts the whole packet once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fragment {
    /// What the parts of one packet have in common: addresses, protocol and identification.
    pub of: (IpAddr, IpAddr, u8, u32),
    /// The whole packet's tuple; only the first part has it.
    pub tuple: Option<Tuple>,
    /// Length of the headers that the whole packet has.
    pub headers: u64,
    /// Where this part's payload stands in the whole packet's.
    pub offset: u64,
    /// Bytes of payload in this part.
    pub payload: u64,
    /// Whether this is the last part.
    pub last: bool,
}

/// What a packet on the wire is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Parsed {
    /// A packet.
    Whole(Seen),
    /// A part of one.
    Part(Fragment),
}

/// Reads a packet from its IP header on. `None` for what conntrack does not count as a flow of ours: multicast,
/// neighbour discovery, ICMP errors (they belong to another flow and are not accounted), garbage.
#[must_use]
pub fn parse(packet: &[u8]) -> Option<Parsed> {
    match packet.first()? >> 4 {
        4 => parse_v4(packet),
        6 => parse_v6(packet),
        _ => None,
    }
}

/// Addresses, protocol and lengths of a packet or of a part of one.
struct Header {
    source: IpAddr,
    destination: IpAddr,
    protocol: u8,
    /// Length of the headers in this packet, in which a fragment header may be one.
    length: usize,
    total: u64,
    fragment: Option<Placement>,
}

/// What a fragment header says, and its own length.
struct Placement {
    identification: u32,
    offset: u64,
    last: bool,
    header: u64,
}

fn parse_v4(packet: &[u8]) -> Option<Parsed> {
    let destination = Ipv4Addr::from(array_at::<4>(packet, 16)?);
    if destination.is_multicast() || destination.is_broadcast() {
        return None;
    }
    const MORE: u16 = 0x2000;
    let placement = u16_at(packet, 6)? & 0x3fff;
    let identification = u32::from(u16_at(packet, 4)?);
    let fragment = (placement != 0).then_some(Placement {
        identification,
        offset: u64::from(placement & 0x1fff) * 8,
        last: placement & MORE == 0,
        header: 0,
    });
    let header = Header {
        source: IpAddr::V4(Ipv4Addr::from(array_at::<4>(packet, 12)?)),
        destination: IpAddr::V4(destination),
        protocol: *packet.get(9)?,
        length: usize::from(packet.first()? & 0x0f) * 4,
        total: u64::from(u16_at(packet, 2)?),
        fragment,
    };
    header.read(packet)
}

fn parse_v6(packet: &[u8]) -> Option<Parsed> {
    const HEADER: usize = 40;
    let destination = Ipv6Addr::from(array_at::<16>(packet, 24)?);
    if destination.is_multicast() {
        return None;
    }
    let mut header = Header {
        source: IpAddr::V6(Ipv6Addr::from(array_at::<16>(packet, 8)?)),
        destination: IpAddr::V6(destination),
        protocol: *packet.get(6)?,
        length: HEADER,
        total: HEADER as u64 + u64::from(u16_at(packet, 4)?),
        fragment: None,
    };
    while header.pass_extension(packet)? {}
    header.read(packet)
}

impl Header {
    /// Passes over an IPv6 extension header (RFC 8200 §4); `false` when the next one is none.
    fn pass_extension(&mut self, packet: &[u8]) -> Option<bool> {
        const HOP_BY_HOP: u8 = 0;
        const ROUTING: u8 = 43;
        const FRAGMENT: u8 = 44;
        const DESTINATION: u8 = 60;
        let length = match self.protocol {
            HOP_BY_HOP | ROUTING | DESTINATION
                if self.fragment.as_ref().is_none_or(|part| part.offset == 0) =>
            {
                usize::from(*packet.get(self.length + 1)?) * 8 + 8
            }
            FRAGMENT => {
                let placement = u16_at(packet, self.length + 2)?;
                self.fragment = Some(Placement {
                    identification: u32::from_be_bytes(array_at(packet, self.length + 4)?),
                    offset: u64::from(placement & !7),
                    last: placement & 1 == 0,
                    header: 8,
                });
                8
            }
            _ => return Some(false),
        };
        self.protocol = *packet.get(self.length)?;
        self.length += length;
        Some(true)
    }

    fn read(self, packet: &[u8]) -> Option<Parsed> {
        let Some(part) = &self.fragment else {
            return Some(Parsed::Whole(Seen { tuple: self.tuple(packet)?, bytes: self.total }));
        };
        Some(Parsed::Part(Fragment {
            of: (self.source, self.destination, self.protocol, part.identification),
            tuple: if part.offset == 0 { Some(self.tuple(packet)?) } else { None },
            headers: self.length as u64 - part.header,
            offset: part.offset,
            payload: self.total.checked_sub(self.length as u64)?,
            last: part.last,
        }))
    }

    fn tuple(&self, packet: &[u8]) -> Option<Tuple> {
        let (source_port, destination_port) = ports(self.protocol, packet.get(self.length..)?)?;
        Some(Tuple {
            protocol: self.protocol,
            source: self.source,
            destination: self.destination,
            source_port,
            destination_port,
        })
    }
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

    fn whole(packet: &[u8]) -> Seen {
        match parse(packet) {
            Some(Parsed::Whole(seen)) => seen,
            other => panic!("{other:?}"),
        }
    }

    fn part(packet: &[u8]) -> Fragment {
        match parse(packet) {
            Some(Parsed::Part(fragment)) => fragment,
            other => panic!("{other:?}"),
        }
    }

    fn udp6(first_header: u8, extensions: &[u8]) -> Vec<u8> {
        let payload = extensions.len() + 9;
        let mut packet = vec![0x60, 0, 0, 0, 0, u8::try_from(payload).unwrap(), first_header, 64];
        packet.extend([0xfd; 16]);
        packet.extend([0xfc; 16]);
        packet.extend(extensions);
        packet.extend([0x4e, 0x20, 0, 53, 0, 9, 0, 0, 1]);
        packet
    }

    #[test]
    fn a_udp_packet_counts_its_total_length() {
        let seen = whole(UDP4);
        assert_eq!(seen.bytes, 33);
        assert_eq!((seen.tuple.source_port, seen.tuple.destination_port), (20000, 53));
        assert_eq!(seen.tuple.source, IpAddr::from([10, 0, 0, 1]));
    }

    #[test]
    fn an_ipv6_packet_counts_its_header_too() {
        assert_eq!(whole(&udp6(17, &[])).bytes, 49);
    }

    #[test]
    fn extension_headers_are_passed_over_and_counted() {
        let extensions = [60, 0, 1, 4, 0, 0, 0, 0, 17, 0, 1, 4, 0, 0, 0, 0];
        let seen = whole(&udp6(0, &extensions));
        assert_eq!((seen.bytes, seen.tuple.protocol, seen.tuple.destination_port), (65, 17, 53));
    }

    #[test]
    fn a_part_says_where_it_belongs() {
        let first = part(&udp6(44, &[17, 0, 0, 1, 0, 0, 0, 9]));
        assert_eq!((first.headers, first.payload, first.offset, first.last), (40, 9, 0, false));
        assert_eq!(first.tuple.unwrap().destination_port, 53);
        let second = part(&udp6(44, &[17, 0, 0, 16, 0, 0, 0, 9]));
        assert_eq!((second.offset, second.last, second.tuple, second.of), (16, true, None, first.of));
    }

    #[test]
    fn parts_of_ipv4_packets_are_known() {
        let mut packet = UDP4.to_vec();
        packet[6] = 0x20;
        let first = part(&packet);
        assert_eq!((first.headers, first.payload, first.last), (20, 13, false));
        packet[6] = 0;
        packet[7] = 1;
        assert_eq!((part(&packet).offset, part(&packet).last), (8, true));
    }

    #[test]
    fn icmp_errors_and_multicast_are_no_flows_of_ours() {
        let mut error = UDP4.to_vec();
        error[9] = protocol::ICMP;
        error[20] = 3;
        assert_eq!(parse(&error), None);
        let mut multicast = UDP4.to_vec();
        multicast[16] = 224;
        assert_eq!(parse(&multicast), None);
    }

    #[test]
    fn every_truncation_is_refused_without_a_panic() {
        for length in 0..24 {
            assert_eq!(parse(&UDP4[..length]), None, "{length} bytes");
        }
        let packet = udp6(0, &[44, 0, 1, 4, 0, 0, 0, 0, 17, 0, 0, 1, 0, 0, 0, 9]);
        for length in 0..60 {
            assert_eq!(parse(&packet[..length]), None, "{length} bytes");
        }
    }
}
