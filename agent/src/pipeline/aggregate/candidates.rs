//! Groups without a series of their own, as many as fit, the largest ones likely among them.

use super::key::Key;

/// Groups that compete for the same places.
const WAYS: usize = 8;

/// A group and how much it moved, never more than it did by more than `error`.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
struct Candidate {
    key: Key,
    score: f64,
    error: f64,
}

/// A bounded list of heavy hitters: the method of "space saving" (Metwally, Agrawal, El Abbadi: Efficient Computation
/// of Frequent and Top-k Elements in Data Streams, 2005) within each bucket of a hash table. A newcomer takes the place
/// of the least and inherits its score as its error, so that no group can grow large without having a place.
#[derive(Debug)]
pub(super) struct Candidates(Box<[[Candidate; WAYS]]>);

impl Candidates {
    /// For about this many groups.
    pub(super) fn new(groups: usize) -> Self {
        let buckets = groups.div_ceil(WAYS).next_power_of_two();
        Self(vec![[Candidate::default(); WAYS]; buckets].into())
    }

    /// Adds to what a group moved.
    pub(super) fn add(&mut self, key: Key, score: f64) {
        let Some(places) = self.bucket(key) else { return };
        if let Some(known) = places.iter_mut().find(|place| place.key == key) {
            known.score += score;
            return;
        }
        let least = places.iter_mut().min_by(|a, b| a.score.total_cmp(&b.score));
        if let Some(place) = least {
            *place = Candidate { key, score: place.score + score, error: place.score };
        }
    }

    /// Forgets a group; returns how much it moved for certain.
    pub(super) fn take(&mut self, key: Key) -> f64 {
        let place = self.bucket(key).and_then(|places| places.iter_mut().find(|place| place.key == key));
        place.map_or(0.0, |place| {
            let certain = place.score - place.error;
            *place = Candidate { key: Key::default(), error: place.score, score: place.score };
            certain
        })
    }

    fn bucket(&mut self, key: Key) -> Option<&mut [Candidate; WAYS]> {
        let buckets = self.0.len();
        self.0.get_mut((key.hash() >> 32) as usize & (buckets - 1))
    }

    /// Those that moved more than `least` for certain, the largest first.
    pub(super) fn beyond(&self, least: f64) -> Vec<(Key, f64)> {
        let all = self.0.iter().flatten();
        let mut found: Vec<_> = all
            .map(|candidate| (candidate.key, candidate.score - candidate.error))
            .filter(|(_, certain)| *certain > least)
            .collect();
        found.sort_by(|a, b| b.1.total_cmp(&a.1));
        found
    }

    /// Multiplies all scores.
    pub(super) fn scale(&mut self, factor: f64) {
        for place in self.0.iter_mut().flatten() {
            place.score *= factor;
            place.error *= factor;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::HashMap;

    fn key(number: u64) -> Key {
        Key([number, 1, 2, 3, 4, 5, 6])
    }

    #[test]
    fn the_largest_is_found_among_many_small_ones() {
        let mut candidates = Candidates::new(64);
        for round in 0..100 {
            for small in 0..1_000 {
                candidates.add(key(1_000 * round + small), 1.0);
            }
            candidates.add(key(u64::MAX), 300.0);
        }
        let found = candidates.beyond(10_000.0);
        assert_eq!(found.iter().map(|(key, _)| *key).collect::<Vec<_>>(), [key(u64::MAX)]);
        assert!(candidates.take(key(u64::MAX)) > 10_000.0);
        assert_eq!(candidates.beyond(10_000.0), []);
    }

    proptest! {
        #[test]
        fn no_group_is_said_to_have_moved_more_than_it_did(
            added in prop::collection::vec((0u64..200, 1u32..100), 0..800),
        ) {
            let mut candidates = Candidates::new(16);
            let mut moved: HashMap<Key, f64> = HashMap::new();
            for (group, score) in added {
                candidates.add(key(group), f64::from(score));
                *moved.entry(key(group)).or_default() += f64::from(score);
            }
            for (key, certain) in candidates.beyond(0.0) {
                prop_assert!(certain <= moved[&key] + 1e-6);
            }
        }
    }
}
