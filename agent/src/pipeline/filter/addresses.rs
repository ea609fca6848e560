//! A set of addresses.

use ipnetwork::IpNetwork;

use crate::model::Family;
use crate::pipeline::networks::number;

/// Ranges that neither overlap nor touch, ascending, both ends included.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Ranges<T>(Box<[(T, T)]>);

impl<T: Copy + Ord> Ranges<T> {
    /// `follows` tells whether the second number is right behind the first one.
    fn new(mut ranges: Vec<(T, T)>, follows: impl Fn(T, T) -> bool) -> Self {
        ranges.sort_unstable();
        let mut merged: Vec<(T, T)> = Vec::with_capacity(ranges.len());
        for (first, last) in ranges {
            match merged.last_mut() {
                Some(before) if first <= before.1 || follows(before.1, first) => {
                    before.1 = before.1.max(last);
                }
                _ => merged.push((first, last)),
            }
        }
        Self(merged.into())
    }

    fn contains(&self, number: T) -> bool {
        let above = self.0.partition_point(|(first, _)| *first <= number);
        above.checked_sub(1).and_then(|below| self.0.get(below)).is_some_and(|(_, last)| number <= *last)
    }
}

/// A set of addresses of both families. Looking one up takes as many steps as its size has binary digits.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct AddressSet {
    v4: Ranges<u32>,
    v6: Ranges<u128>,
}

impl AddressSet {
    pub(super) fn new<'a>(prefixes: impl IntoIterator<Item = &'a IpNetwork>) -> Self {
        let (mut v4, mut v6) = (Vec::new(), Vec::new());
        for prefix in prefixes {
            match prefix {
                IpNetwork::V4(prefix) => v4.push((prefix.network().into(), prefix.broadcast().into())),
                IpNetwork::V6(prefix) => v6.push((prefix.network().into(), prefix.broadcast().into())),
            }
        }
        Self {
            v4: Ranges::new(v4, |last: u32, first| last.checked_add(1) == Some(first)),
            v6: Ranges::new(v6, |last: u128, first| last.checked_add(1) == Some(first)),
        }
    }

    /// Whether an address, as it stands in a tuple, is in it.
    pub(super) fn contains(&self, family: Family, address: [u8; 16]) -> bool {
        match family {
            Family::V4 => self.v4.contains(number(family, address) as u32),
            Family::V6 => self.v6.contains(number(family, address)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use ipnetwork::Ipv4Network;
    use proptest::prelude::*;

    #[test]
    fn the_first_and_the_last_address_of_a_family_are_held() {
        let all = AddressSet::new(&["0.0.0.0/0".parse().unwrap(), "::/0".parse().unwrap()]);
        for bytes in [[0; 16], [255; 16]] {
            assert!(all.contains(Family::V6, bytes));
            assert!(all.contains(Family::V4, bytes));
        }
        let none = AddressSet::new(&[]);
        assert!(!none.contains(Family::V4, [0; 16]) && !none.contains(Family::V6, [0; 16]));
    }

    #[test]
    fn neighbours_become_one_range() {
        let halves = ["10.0.0.0/9", "10.128.0.0/9", "10.5.0.0/16"].map(|text| text.parse().unwrap());
        assert_eq!(AddressSet::new(&halves), AddressSet::new(&["10.0.0.0/8".parse().unwrap()]));
    }

    proptest! {
        #[test]
        fn an_address_is_held_if_any_prefix_holds_it(
            prefixes in prop::collection::vec((any::<u8>(), 24u8..=32), 0..12),
            address in any::<u8>(),
        ) {
            let prefixes: Vec<IpNetwork> = prefixes
                .iter()
                .map(|(last, length)| Ipv4Network::new([10, 0, 0, *last].into(), *length).unwrap().into())
                .collect();
            let mut bytes = [0; 16];
            bytes[..4].copy_from_slice(&[10, 0, 0, address]);
            let expected = prefixes.iter().any(|prefix| prefix.contains([10, 0, 0, address].into()));
            prop_assert_eq!(AddressSet::new(&prefixes).contains(Family::V4, bytes), expected);
        }
    }
}
