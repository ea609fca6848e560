//! Addresses, ports and protocol of one direction of a flow.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

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
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
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
