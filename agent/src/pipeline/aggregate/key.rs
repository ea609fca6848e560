//! Which group a record belongs to, as numbers that are quick to compare and the same in every process.

use std::sync::Arc;

use super::grouping::{AddressBy, Ends, Grouping, PortBy};
use super::point::TagName;
use crate::model::{Family, NatKind, Record, protocol};
use crate::pipeline::filter::NetnsName;
use crate::pipeline::networks::{Direction, NO_NETWORK, Networks, OTHER, Place};
use crate::pipeline::services::{self, FIRST_DYNAMIC};
use crate::sinks::names::protocol_name;

/// A group: two ends of two words each, then the small things.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub(super) struct Key(pub(super) [u64; 7]);

/// What a port is grouped as, 32 bits: the kind above, the number of the port below.
const PORT_NUMBER: u32 = 1 << 16;
const PORT_SERVICE: u32 = 2 << 16;
const PORT_DYNAMIC: u32 = 3 << 16;

/// What an end is grouped as.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum EndKind {
    V4 = 1,
    V6 = 2,
    Network = 3,
    NoNetwork = 4,
}

/// Makes keys of records, and tags for keys.
pub(super) struct Keys {
    grouping: Grouping,
    networks: Arc<Networks>,
    netns_name: NetnsName,
}

/// An end of a flow: its address and what is known of it.
#[derive(Clone, Copy)]
struct End {
    address: [u8; 16],
    place: Option<Place>,
}

impl Keys {
    pub(super) fn new(grouping: Grouping, networks: Arc<Networks>, netns_name: NetnsName) -> Self {
        Self { grouping, networks, netns_name }
    }

    /// The group of a record; `None` for one that can only go to the group of all others.
    pub(super) fn key(&self, record: &Record) -> Option<Key> {
        let grouping = &self.grouping;
        let tuple = &record.original;
        let (one, other) = self.ends(record);
        let by = self.by();
        let [first, second] =
            [(one, by.0), (other, by.1)].map(|(end, by)| self.end_words(tuple.family, end, by));
        let direction = if grouping.direction { self.direction(record) } else { None };
        let small = u64::from(first.0) << 56
            | u64::from(second.0) << 48
            | u64::from(if grouping.proto { tuple.protocol } else { 0 }) << 40
            | direction.map_or(0, |direction| direction as u64 + 1) << 32
            | u64::from(self.port(record));
        let numbers = u64::from(if grouping.mark { record.mark } else { 0 }) << 16
            | u64::from(if grouping.zone { record.zone } else { 0 });
        let netns = if grouping.netns { self.netns(record.netns)? } else { 0 };
        let [a, b] = halves(first.1);
        let [c, d] = halves(second.1);
        Some(Key([a, b, c, d, small, numbers, netns]))
    }

    /// The tags of the group of a record, by ascending name.
    pub(super) fn tags(&self, record: &Record) -> Box<[(TagName, Box<str>)]> {
        let tags = self.grouping.tags().into_iter();
        tags.filter_map(|tag| Some((tag, self.value(tag, record)?.into_boxed_str()))).collect()
    }

    fn value(&self, tag: TagName, record: &Record) -> Option<String> {
        let family = record.original.family;
        Some(match tag {
            TagName::Src | TagName::Local => self.end_name(family, self.ends(record).0, self.by().0?),
            TagName::Dst | TagName::Remote => self.end_name(family, self.ends(record).1, self.by().1?),
            TagName::Port => self.port_name(record)?,
            TagName::Proto => {
                let number = record.original.protocol;
                protocol_name(number).map_or_else(|| number.to_string(), str::to_owned)
            }
            TagName::Direction => self.direction(record)?.name().to_owned(),
            TagName::Mark => format!("{:#x}", record.mark),
            TagName::Zone => record.zone.to_string(),
            TagName::Netns => self.netns_text(record.netns),
        })
    }

    const fn by(&self) -> (Option<AddressBy>, Option<AddressBy>) {
        match self.grouping.ends {
            Ends::Opened { src, dst } => (src, dst),
            Ends::Internal { local, remote } => (local, remote),
        }
    }

    fn ends(&self, record: &Record) -> (End, End) {
        let (src, dst) = (record.original.src, record.original.dst);
        let family = record.original.family;
        let (first, second) = self.by();
        match self.grouping.ends {
            Ends::Opened { .. } => (self.end(family, src, first), self.end(family, dst, second)),
            Ends::Internal { .. } => {
                let opener = End { address: src, place: self.networks.locate(family, src) };
                let answers = self.answerer(record);
                if is_internal(answers) && !is_internal(opener) {
                    return (answers, opener);
                }
                (opener, self.end(family, dst, second))
            }
        }
    }

    fn end(&self, family: Family, address: [u8; 16], by: Option<AddressBy>) -> End {
        let place = match by {
            Some(AddressBy::Network) => self.networks.locate(family, address),
            _ => None,
        };
        End { address, place }
    }

    /// Who answers, behind any translation.
    fn answerer(&self, record: &Record) -> End {
        let is_translated = matches!(record.nat, NatKind::Destination | NatKind::Both);
        let address = if is_translated { record.reply.src } else { record.original.dst };
        End { address, place: self.networks.locate(record.original.family, address) }
    }

    fn direction(&self, record: &Record) -> Option<Direction> {
        self.networks.direction(&record.original, &record.reply)
    }

    /// The kind of the end and its number.
    fn end_words(&self, family: Family, end: End, by: Option<AddressBy>) -> (u8, u128) {
        match by {
            None => (0, 0),
            Some(AddressBy::Network) => match end.place.and_then(|place| self.networks.network(place)) {
                Some(network) => (EndKind::Network as u8, network.name_hash),
                None => (EndKind::NoNetwork as u8, 0),
            },
            Some(AddressBy::Prefix { v4, v6 }) => {
                let (kind, length) = match family {
                    Family::V4 => (EndKind::V4, v4),
                    Family::V6 => (EndKind::V6, v6),
                };
                (kind as u8, u128::from_be_bytes(end.address) & mask(length))
            }
        }
    }

    fn end_name(&self, family: Family, end: End, by: AddressBy) -> String {
        let AddressBy::Prefix { v4, v6 } = by else {
            let network = end.place.and_then(|place| self.networks.network(place));
            return network.map_or(NO_NETWORK, |network| &network.name).to_owned();
        };
        let length = if family == Family::V4 { v4 } else { v6 };
        let bits = u128::from_be_bytes(end.address) & mask(length);
        let (address, most): (std::net::IpAddr, _) = match family {
            Family::V4 => (std::net::Ipv4Addr::from((bits >> 96) as u32).into(), 32),
            Family::V6 => (std::net::Ipv6Addr::from(bits).into(), 128),
        };
        if length == most { address.to_string() } else { format!("{address}/{length}") }
    }

    fn port(&self, record: &Record) -> u32 {
        let tuple = &record.original;
        let Some(by) = self.grouping.port.filter(|_| tuple.has_ports()) else { return 0 };
        let port = tuple.dst_port;
        let number = PORT_NUMBER | u32::from(port);
        if by == PortBy::Number {
            return number;
        }
        if port >= FIRST_DYNAMIC {
            return PORT_DYNAMIC;
        }
        match services::service(tuple.protocol, port) {
            // A port that means two things is two services.
            Some(_) if services::is_by_transport(port) => {
                PORT_SERVICE | u32::from(is_datagram(tuple.protocol)) << 24 | u32::from(port)
            }
            Some(_) => PORT_SERVICE | u32::from(port),
            None => number,
        }
    }

    fn port_name(&self, record: &Record) -> Option<String> {
        let tuple = &record.original;
        let port = tuple.dst_port;
        let service = services::service(tuple.protocol, port);
        Some(match self.grouping.port.filter(|_| tuple.has_ports())? {
            PortBy::Service if port >= FIRST_DYNAMIC => "dynamic".to_owned(),
            PortBy::Service if service.is_some() => service?.to_owned(),
            PortBy::Service | PortBy::Number => port.to_string(),
        })
    }

    /// A namespace is the same as long as its name is, whatever its number.
    fn netns(&self, inode: u32) -> Option<u64> {
        match (self.netns_name)(inode) {
            Some(name) if &*name == OTHER => None,
            Some(name) => Some(xxhash_rust::xxh3::xxh3_64(name.as_bytes())),
            None => Some(xxhash_rust::xxh3::xxh3_64(inode.to_string().as_bytes())),
        }
    }

    fn netns_text(&self, inode: u32) -> String {
        (self.netns_name)(inode).map_or_else(|| inode.to_string(), |name| name.to_string())
    }
}

const fn is_datagram(number: u8) -> bool {
    matches!(number, protocol::UDP | protocol::UDPLITE)
}

fn is_internal(end: End) -> bool {
    end.place.is_some_and(|place| place.is_internal)
}

const fn halves(number: u128) -> [u64; 2] {
    [(number >> 64) as u64, number as u64]
}

/// The first bits; addresses of IPv4 stand in the first 32.
const fn mask(length: u8) -> u128 {
    if length == 0 { 0 } else { u128::MAX << (128 - length as u32) }
}

impl Key {
    /// A quick hash: each word is mixed in by a multiplication with 128 bits of result. It is not keyed: only for
    /// tables in which keys that collide do no harm.
    pub(super) const fn hash(&self) -> u64 {
        let [a, b, c, d, e, f, g] = self.0;
        let one = fold(a ^ 0x9e37_79b9_7f4a_7c15, b ^ 0xbf58_476d_1ce4_e5b9);
        let two = fold(c ^ 0x94d0_49bb_1331_11eb, d ^ 0xd6e8_feb8_6659_fd93);
        let three = fold(e ^ 0xa076_1d64_78bd_642f, f ^ 0xe703_7ed1_a0b4_28db);
        fold(one ^ three.rotate_left(21), two ^ g ^ 0x8ebc_6af0_9c88_c6e3)
    }
}

const fn fold(a: u64, b: u64) -> u64 {
    let product = a as u128 * b as u128;
    (product >> 64) as u64 ^ product as u64
}
