//! Names for prefixes, and which way a flow goes as seen from the internal ones.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::Arc;

use ipnetwork::{IpNetwork, Ipv4Network, Ipv6Network};
use prefix_trie::PrefixMap;

use crate::model::{Family, Tuple};

/// The word for an address that is in no network; no network may be called so.
pub const NO_NETWORK: &str = "none";

/// The word for all that has no series of its own; no network may be called so.
pub const OTHER: &str = "other";

/// A network as it is configured.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NetworkDefinition {
    /// What it is called.
    pub name: String,
    /// Where it is; without host bits.
    pub prefixes: Vec<IpNetwork>,
    /// Whether it is on this side of the router; as the network around it when not said.
    pub internal: Option<bool>,
}

/// A prefix that two networks claim.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Conflict {
    /// The prefix.
    pub prefix: IpNetwork,
    /// Position of the definition that has it.
    pub first: usize,
    /// Position of the definition that has it too.
    pub second: usize,
}

/// Which way a flow goes: who opened it towards whom.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Direction {
    /// From outside to an internal network.
    Inbound,
    /// From an internal network to the outside.
    Outbound,
    /// Between internal addresses.
    Internal,
    /// Between others.
    External,
}

impl Direction {
    /// All, in the order of the documentation.
    pub const ALL: [Self; 4] = [Self::Inbound, Self::Outbound, Self::Internal, Self::External];

    /// The name in records: ECS `network.direction`.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Inbound => "inbound",
            Self::Outbound => "outbound",
            Self::Internal => "internal",
            Self::External => "external",
        }
    }
}

/// A network.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Network {
    /// What it is called.
    pub name: Arc<str>,
    /// A hash of the name, the same in every process.
    pub name_hash: u128,
    prefixes: Vec<IpNetwork>,
}

/// What is known about the addresses of a prefix.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Place {
    network: u32,
    pub(crate) is_internal: bool,
}

/// All networks. The longest prefix that holds an address names it.
#[derive(Debug, Default)]
pub struct Networks {
    v4: Ranges<u32>,
    v6: Ranges<u128>,
    networks: Vec<Network>,
    has_internal: bool,
}

/// Where each range of addresses is, by its first address, ascending: looking one up takes a fifth of the time that
/// going down a trie takes.
#[derive(Debug)]
struct Ranges<T> {
    first: Box<[T]>,
    places: Box<[Option<Place>]>,
}

impl<T> Default for Ranges<T> {
    fn default() -> Self {
        Self { first: Box::default(), places: Box::default() }
    }
}

impl<T: Copy + Ord> Ranges<T> {
    /// `bounds` is every address with which a prefix begins, or that follows the last of one; `place` finds one's.
    fn new(mut bounds: Vec<T>, place: impl Fn(T) -> Option<Place>) -> Self {
        bounds.sort_unstable();
        bounds.dedup();
        let places = bounds.iter().map(|first| place(*first)).collect();
        Self { first: bounds.into(), places }
    }

    fn find(&self, address: T) -> Option<Place> {
        let behind = self.first.partition_point(|first| *first <= address);
        *self.places.get(behind.checked_sub(1)?)?
    }
}

/// The networks while they are put together.
#[derive(Default)]
struct Tries {
    v4: PrefixMap<Ipv4Network, Place>,
    v6: PrefixMap<Ipv6Network, Place>,
}

impl Tries {
    fn insert(&mut self, prefix: IpNetwork, place: Place) {
        match prefix {
            IpNetwork::V4(prefix) => self.v4.insert(prefix, place),
            IpNetwork::V6(prefix) => self.v6.insert(prefix, place),
        };
    }

    fn find(&self, address: IpAddr) -> Option<Place> {
        match address {
            IpAddr::V4(address) => self.v4.get_lpm(&address.into()).map(|(_, place)| *place),
            IpAddr::V6(address) => self.v6.get_lpm(&address.into()).map(|(_, place)| *place),
        }
    }

    fn ranges(&self) -> (Ranges<u32>, Ranges<u128>) {
        let bounds = self.v4.keys().flat_map(|prefix| {
            let behind = u32::from(prefix.broadcast()).checked_add(1);
            [Some(u32::from(prefix.network())), behind].into_iter().flatten()
        });
        let v4 = Ranges::new(bounds.collect(), |first: u32| self.find(IpAddr::V4(first.into())));
        let bounds = self.v6.keys().flat_map(|prefix| {
            let behind = u128::from(prefix.broadcast()).checked_add(1);
            [Some(u128::from(prefix.network())), behind].into_iter().flatten()
        });
        (v4, Ranges::new(bounds.collect(), |first: u128| self.find(IpAddr::V6(first.into()))))
    }
}

impl Networks {
    /// Takes them in.
    ///
    /// # Errors
    /// Every prefix that stands under two names. One prefix inside of another is fine.
    pub fn new(definitions: &[NetworkDefinition]) -> Result<Self, Vec<Conflict>> {
        let mut conflicts = Vec::new();
        let mut claims: HashMap<IpNetwork, usize> = HashMap::new();
        for (second, definition) in definitions.iter().enumerate() {
            for &prefix in &definition.prefixes {
                let first = *claims.entry(prefix).or_insert(second);
                if first != second {
                    conflicts.push(Conflict { prefix, first, second });
                }
            }
        }
        if conflicts.is_empty() { Ok(Self::of(definitions)) } else { Err(conflicts) }
    }

    fn of(definitions: &[NetworkDefinition]) -> Self {
        let (mut networks, mut tries) = (Self::default(), Tries::default());
        let mut places = Vec::new();
        for (network, definition) in (0..).zip(definitions) {
            networks.networks.push(Network {
                name: definition.name.as_str().into(),
                name_hash: xxhash_rust::xxh3::xxh3_128(definition.name.as_bytes()),
                prefixes: definition.prefixes.clone(),
            });
            places.extend(definition.prefixes.iter().map(|prefix| (*prefix, network, definition.internal)));
        }
        // The ones around come first, as those inside take after them.
        places.sort_by_key(|(prefix, ..)| prefix.prefix());
        for (prefix, network, internal) in places {
            let around = tries.find(prefix.network());
            let is_internal = internal.or(around.map(|place| place.is_internal)).unwrap_or(false);
            networks.has_internal |= is_internal;
            tries.insert(prefix, Place { network, is_internal });
        }
        (networks.v4, networks.v6) = tries.ranges();
        networks
    }

    /// Whether there is none.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.networks.is_empty()
    }

    /// Whether any is internal: else no flow has a direction.
    #[must_use]
    pub const fn has_internal(&self) -> bool {
        self.has_internal
    }

    /// The network that an address is in: that of the longest prefix.
    #[must_use]
    pub fn find(&self, address: IpAddr) -> Option<&Network> {
        self.network(self.place(address)?)
    }

    /// The network of a place.
    pub(crate) fn network(&self, place: Place) -> Option<&Network> {
        self.networks.get(place.network as usize)
    }

    /// What is known of an address as it stands in a tuple.
    pub(crate) fn locate(&self, family: Family, address: [u8; 16]) -> Option<Place> {
        let number = number(family, address);
        match family {
            Family::V4 => self.v4.find(number as u32),
            Family::V6 => self.v6.find(number),
        }
    }

    /// The prefixes of a network; `None` when there is none of that name.
    #[must_use]
    pub fn prefixes(&self, name: &str) -> Option<&[IpNetwork]> {
        let network = self.networks.iter().find(|network| &*network.name == name)?;
        Some(&network.prefixes)
    }

    /// The names.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.networks.iter().map(|network| &*network.name)
    }

    /// Whether an address is in an internal network.
    #[must_use]
    pub fn is_internal(&self, address: IpAddr) -> bool {
        self.place(address).is_some_and(|place| place.is_internal)
    }

    /// Which way a flow goes: from who opened it to who answers, behind any translation; `None` where no network is
    /// internal.
    #[must_use]
    pub fn direction(&self, original: &Tuple, reply: &Tuple) -> Option<Direction> {
        if !self.has_internal {
            return None;
        }
        let is_internal =
            |tuple: &Tuple| self.locate(tuple.family, tuple.src).is_some_and(|place| place.is_internal);
        Some(match (is_internal(original), is_internal(reply)) {
            (false, true) => Direction::Inbound,
            (true, false) => Direction::Outbound,
            (true, true) => Direction::Internal,
            (false, false) => Direction::External,
        })
    }

    fn place(&self, address: IpAddr) -> Option<Place> {
        match address {
            IpAddr::V4(address) => self.v4.find(address.into()),
            IpAddr::V6(address) => self.v6.find(address.into()),
        }
    }
}

/// The address of a family in the bytes of a tuple as a number.
#[must_use]
pub(crate) fn number(family: Family, bytes: [u8; 16]) -> u128 {
    match family {
        Family::V4 => u128::from_be_bytes(bytes) >> 96,
        Family::V6 => u128::from_be_bytes(bytes),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sinks::samples::end_of_tcp;
    use proptest::prelude::*;

    fn define(name: &str, prefixes: &[&str], internal: Option<bool>) -> NetworkDefinition {
        let prefixes = prefixes.iter().map(|prefix| prefix.parse().unwrap()).collect();
        NetworkDefinition { name: name.into(), prefixes, internal }
    }

    fn name(networks: &Networks, address: &str) -> Option<String> {
        networks.find(address.parse().unwrap()).map(|network| network.name.to_string())
    }

    #[test]
    fn the_longest_prefix_names_an_address_whatever_the_order() {
        for turned in [false, true] {
            let mut definitions = [
                define("site", &["10.0.0.0/8", "2001:db8::/32"], None),
                define("team-7", &["10.32.7.0/24", "2001:db8:7::/48"], None),
            ];
            if turned {
                definitions.reverse();
            }
            let networks = Networks::new(&definitions).unwrap();
            assert_eq!(name(&networks, "10.32.7.9").as_deref(), Some("team-7"));
            assert_eq!(name(&networks, "10.32.8.9").as_deref(), Some("site"));
            assert_eq!(name(&networks, "2001:db8:7::1").as_deref(), Some("team-7"));
            assert_eq!(name(&networks, "2001:db8:8::1").as_deref(), Some("site"));
            assert_eq!(name(&networks, "192.0.2.1"), None);
        }
    }

    #[test]
    fn a_prefix_under_two_names_is_refused() {
        let definitions =
            [define("a", &["10.0.0.0/8", "10.0.0.0/8"], None), define("b", &["::/0", "10.0.0.0/8"], None)];
        let conflicts = Networks::new(&definitions).unwrap_err();
        assert_eq!(conflicts, [Conflict { prefix: "10.0.0.0/8".parse().unwrap(), first: 0, second: 1 }]);
    }

    #[test]
    fn a_network_inside_of_an_internal_one_is_internal_unless_it_says_otherwise() {
        let networks = Networks::new(&[
            define("guests", &["10.9.0.0/16"], Some(false)),
            define("team-7", &["10.32.7.0/24"], None),
            define("site", &["10.0.0.0/8"], Some(true)),
        ])
        .unwrap();
        let internal = |address: &str| networks.is_internal(address.parse().unwrap());
        assert!(internal("10.1.1.1") && internal("10.32.7.1"));
        assert!(!internal("10.9.0.1") && !internal("11.0.0.1"));
    }

    #[test]
    fn the_direction_is_that_from_the_opener_to_who_answers_behind_translation() {
        let networks = Networks::new(&[define("site", &["10.0.0.0/8"], Some(true))]).unwrap();
        let direction = |from: [u8; 4], to: [u8; 4], answers: [u8; 4]| {
            let mut record = end_of_tcp();
            record.original.src[..4].copy_from_slice(&from);
            record.original.dst[..4].copy_from_slice(&to);
            record.reply.src[..4].copy_from_slice(&answers);
            networks.direction(&record.original, &record.reply).unwrap()
        };
        let (inside, outside) = ([10, 0, 0, 1], [192, 0, 2, 1]);
        assert_eq!(direction(inside, outside, outside), Direction::Outbound);
        assert_eq!(direction(outside, outside, inside), Direction::Inbound);
        assert_eq!(direction(inside, outside, inside), Direction::Internal);
        assert_eq!(direction(outside, outside, outside), Direction::External);
    }

    #[test]
    fn without_an_internal_network_no_flow_has_a_direction() {
        let networks = Networks::new(&[define("site", &["10.0.0.0/8"], None)]).unwrap();
        let record = end_of_tcp();
        assert_eq!(networks.direction(&record.original, &record.reply), None);
    }

    proptest! {
        #[test]
        fn the_trie_finds_what_looking_at_each_prefix_finds(
            prefixes in prop::collection::btree_set((0u32..64, 26u8..=32), 1..24),
            address in 0u32..64,
        ) {
            let definitions: Vec<_> = prefixes
                .iter()
                .map(|(bits, length)| {
                    let prefix = Ipv4Network::new((*bits).into(), *length).unwrap();
                    let network = Ipv4Network::new(prefix.network(), *length).unwrap();
                    NetworkDefinition {
                        name: network.to_string(), prefixes: vec![IpNetwork::V4(network)], internal: None,
                    }
                })
                .collect::<Vec<_>>();
            let mut distinct = definitions.clone();
            distinct.sort_by(|a, b| a.name.cmp(&b.name));
            distinct.dedup();
            let networks = Networks::new(&distinct).unwrap();
            let address = IpAddr::V4(address.into());
            let expected = distinct
                .iter()
                .filter(|definition| definition.prefixes[0].contains(address))
                .max_by_key(|definition| definition.prefixes[0].prefix());
            prop_assert_eq!(
                networks.find(address).map(|network| network.name.to_string()),
                expected.map(|definition| definition.name.clone())
            );
        }
    }
}
