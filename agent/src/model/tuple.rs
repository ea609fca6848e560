//! Addresses, ports and protocol of one direction of a flow.

use std::hash::{BuildHasher, Hash, Hasher};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use foldhash::quality::FixedState;

/// IP protocol numbers that the agent treats specially (IANA "Assigned Internet Protocol Numbers").
pub mod protocol {
    /// Internet Control Message Protocol.
    pub const ICMP: u8 = 1;
    /// Transmission Control Protocol.
    pub const TCP: u8 = 6;
    /// User Datagram Protocol.
    pub const UDP: u8 = 17;
    /// Datagram Congestion Control Protocol.
    pub const DCCP: u8 = 33;
    /// Generic Routing Encapsulation.
    pub const GRE: u8 = 47;
    /// ICMP for IPv6.
    pub const ICMPV6: u8 = 58;
    /// Stream Control Transmission Protocol.
    pub const SCTP: u8 = 132;
    /// Lightweight User Datagram Protocol.
    pub const UDPLITE: u8 = 136;
}

/// Address family of a tuple.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[repr(u8)]
pub enum Family {
    /// IPv4
    #[default]
    V4 = 4,
    /// IPv6
    V6 = 6,
}

/// One direction of a flow.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tuple {
    /// Address family.
    pub family: Family,
    /// IP protocol number.
    pub protocol: u8,
    /// Source address in network byte order; IPv4 in the first 4 bytes, the rest zero.
    pub src: [u8; 16],
    /// Destination address, likewise.
    pub dst: [u8; 16],
    /// Source port, ICMP identifier or GRE key; 0 for protocols without.
    pub src_port: u16,
    /// Destination port or GRE key; for ICMP `type << 8 | code`.
    pub dst_port: u16,
}

/// In few words: the flow table hashes the tuple of each observation.
impl Hash for Tuple {
    #[inline]
    fn hash<H: Hasher>(&self, hasher: &mut H) {
        let Self { family, protocol, src, dst, src_port, dst_port } = *self;
        let ports = u64::from(src_port) << 16 | u64::from(dst_port);
        hasher.write_u128(u128::from_ne_bytes(src));
        hasher.write_u128(u128::from_ne_bytes(dst));
        hasher.write_u64(ports << 16 | u64::from(protocol) << 8 | family as u64);
    }
}

impl Tuple {
    /// Source address.
    #[must_use]
    pub fn source(&self) -> IpAddr {
        address(self.family, self.src)
    }

    /// Destination address.
    #[must_use]
    pub fn destination(&self) -> IpAddr {
        address(self.family, self.dst)
    }

    /// Whether this is ICMP or ICMPv6, whose "ports" are an identifier, a type and a code.
    #[must_use]
    pub const fn is_icmp(&self) -> bool {
        matches!(self.protocol, protocol::ICMP | protocol::ICMPV6)
    }

    /// A number that another tuple hardly ever has.
    #[must_use]
    pub fn fingerprint(&self) -> u32 {
        FixedState::default().hash_one(self) as u32
    }

    /// Whether the protocol has ports.
    #[must_use]
    pub const fn has_ports(&self) -> bool {
        matches!(
            self.protocol,
            protocol::TCP | protocol::UDP | protocol::DCCP | protocol::SCTP | protocol::UDPLITE
        )
    }
}

fn address(family: Family, bytes: [u8; 16]) -> IpAddr {
    match family {
        Family::V4 => {
            let [a, b, c, d, ..] = bytes;
            IpAddr::V4(Ipv4Addr::new(a, b, c, d))
        }
        Family::V6 => IpAddr::V6(Ipv6Addr::from(bytes)),
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn every_part_of_a_tuple_changes_its_fingerprint() {
        let at = |place: usize| std::array::from_fn(|i| u8::from(i == place));
        let none = Tuple::default();
        let one_byte = (0..16).flat_map(|i| [Tuple { src: at(i), ..none }, Tuple { dst: at(i), ..none }]);
        let rest = [
            none,
            Tuple { family: Family::V6, ..none },
            Tuple { protocol: 1, ..none },
            Tuple { src_port: 1, ..none },
            Tuple { dst_port: 1, ..none },
        ];
        let fingerprints: BTreeSet<u32> = one_byte.chain(rest).map(|tuple| tuple.fingerprint()).collect();
        assert_eq!(fingerprints.len(), 2 * 16 + 5);
    }
}
