//! What names a flow on both sides of the comparison: the namespace that tracks it and its original tuple.

use std::fmt;
use std::net::IpAddr;
use std::ops::AddAssign;

use serde::Serialize;

/// IP protocol numbers of the generator's traffic (IANA "Assigned Internet Protocol Numbers").
pub mod protocol {
    /// Internet Control Message Protocol.
    pub const ICMP: u8 = 1;
    /// Transmission Control Protocol.
    pub const TCP: u8 = 6;
    /// User Datagram Protocol.
    pub const UDP: u8 = 17;
    /// Generic Routing Encapsulation.
    pub const GRE: u8 = 47;
    /// ICMP for IPv6.
    pub const ICMPV6: u8 = 58;
    /// Stream Control Transmission Protocol.
    pub const SCTP: u8 = 132;
    /// Lightweight User Datagram Protocol.
    pub const UDPLITE: u8 = 136;
    /// "Use for experimentation and testing" (RFC 3692): stands for any protocol conntrack knows nothing of.
    pub const EXPERIMENT: u8 = 253;
}

/// Packets and bytes of one direction; bytes are IP total lengths.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Counter {
    /// IP packets.
    pub packets: u64,
    /// Bytes, IP headers included.
    pub bytes: u64,
}

impl Counter {
    /// One packet of this length.
    #[must_use]
    pub const fn packet(bytes: u64) -> Self {
        Self { packets: 1, bytes }
    }

    /// What is left after taking `other` away; `None` when that is more than there is.
    #[must_use]
    pub fn minus(self, other: Self) -> Option<Self> {
        Some(Self {
            packets: self.packets.checked_sub(other.packets)?,
            bytes: self.bytes.checked_sub(other.bytes)?,
        })
    }

    /// Whether either figure is above the other's.
    #[must_use]
    pub const fn exceeds(self, other: Self) -> bool {
        self.packets > other.packets || self.bytes > other.bytes
    }
}

impl AddAssign for Counter {
    fn add_assign(&mut self, other: Self) {
        self.packets += other.packets;
        self.bytes += other.bytes;
    }
}

impl fmt::Display for Counter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}p/{}B", self.packets, self.bytes)
    }
}

/// Packets and bytes of both directions.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Totals {
    /// From the opener.
    pub original: Counter,
    /// Towards the opener.
    pub reply: Counter,
}

impl Totals {
    /// The same with the directions changed.
    #[must_use]
    pub const fn swapped(self) -> Self {
        Self { original: self.reply, reply: self.original }
    }

    /// What is left after taking `other` away; `None` when that is more than there is.
    #[must_use]
    pub fn minus(self, other: Self) -> Option<Self> {
        Some(Self { original: self.original.minus(other.original)?, reply: self.reply.minus(other.reply)? })
    }

    /// Whether any figure is above the other's.
    #[must_use]
    pub const fn exceeds(self, other: Self) -> bool {
        self.original.exceeds(other.original) || self.reply.exceeds(other.reply)
    }
}

impl AddAssign for Totals {
    fn add_assign(&mut self, other: Self) {
        self.original += other.original;
        self.reply += other.reply;
    }
}

impl fmt::Display for Totals {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} + {}", self.original, self.reply)
    }
}

/// Addresses, ports and protocol of one direction.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Tuple {
    /// IP protocol number.
    pub protocol: u8,
    /// Source address.
    pub source: IpAddr,
    /// Destination address.
    pub destination: IpAddr,
    /// Source port, or the identifier of an ICMP echo; 0 for protocols without.
    pub source_port: u16,
    /// Destination port, or `type << 8 | code` of ICMP; 0 for protocols without.
    pub destination_port: u16,
}

impl Tuple {
    /// The tuple of the packets that answer this one.
    #[must_use]
    pub fn answer(self) -> Self {
        let (source_port, destination_port) = match self.protocol {
            protocol::ICMP | protocol::ICMPV6 => (self.source_port, echo_answer(self.destination_port)),
            _ => (self.destination_port, self.source_port),
        };
        Self {
            protocol: self.protocol,
            source: self.destination,
            destination: self.source,
            source_port,
            destination_port,
        }
    }
}

impl fmt::Display for Tuple {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { protocol, source, destination, source_port, destination_port } = self;
        write!(f, "proto {protocol} [{source}]:{source_port} > [{destination}]:{destination_port}")
    }
}

/// Echo request and reply change places: ICMP 8 and 0, ICMPv6 128 and 129 (code stays).
const fn echo_answer(type_code: u16) -> u16 {
    let code = type_code & 0xff;
    let answer = match type_code >> 8 {
        8 => 0,
        0 => 8,
        128 => 129,
        129 => 128,
        other => other,
    };
    answer << 8 | code
}

/// A flow's name: who tracks it, in which zone, and its original tuple.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct FlowKey {
    /// Inode of the network namespace.
    pub netns: u32,
    /// Conntrack zone: the same tuple in two of them is two flows. 0 unless rules say otherwise.
    pub zone: u16,
    /// Tuple of the original direction.
    pub tuple: Tuple,
}

impl fmt::Display for FlowKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "netns {} zone {} {}", self.netns, self.zone, self.tuple)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn echo(type_code: u16) -> Tuple {
        Tuple {
            protocol: protocol::ICMP,
            source: IpAddr::from([10, 0, 0, 1]),
            destination: IpAddr::from([10, 0, 0, 2]),
            source_port: 7,
            destination_port: type_code,
        }
    }

    #[test]
    fn the_answer_to_an_echo_keeps_the_identifier_and_changes_the_type() {
        let answer = echo(8 << 8).answer();
        assert_eq!((answer.source_port, answer.destination_port), (7, 0));
        assert_eq!(answer.answer(), echo(8 << 8));
    }

    #[test]
    fn a_smaller_counter_cannot_lose_more_than_it_has() {
        let small = Counter { packets: 1, bytes: 10 };
        assert_eq!(small.minus(Counter { packets: 1, bytes: 11 }), None);
    }
}
