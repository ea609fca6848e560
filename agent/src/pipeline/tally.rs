//! What a sink did so far.

use super::Weight;

/// What became of all items that were offered to a sink.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Report {
    /// Taken in, merged ones included.
    pub taken: Weight,
    /// Of those, how many records fewer they are because they were merged into what waited. Their deltas are in that.
    pub merged: u64,
    /// Stored.
    pub delivered: Weight,
    /// Never taken in: there was no room.
    pub dropped: Weight,
    /// Never to be stored: the server refuses them, or they cannot be encoded.
    pub given_up: Weight,
    /// On disk, and neither stored nor given up: the next agent delivers it if this one does not.
    pub spooled: Weight,
    /// Taken out of the spool, or found there, and not to be read any more.
    pub damaged: Weight,
    /// Of what is given up or damaged: what an earlier agent had taken in.
    pub inherited: Weight,
    /// Requests that are missing in the spool, and nobody knows what was in them.
    pub missing: u64,
    /// Requests that were tried, each try by itself.
    pub tries: u64,
    /// How often the sink panicked.
    pub panics: u64,
}

impl Report {
    /// What was taken in, has no fate yet, and is nowhere but in memory.
    #[must_use]
    pub fn unwritten(&self) -> Weight {
        let Self { taken, merged, delivered, given_up, spooled, damaged, .. } = self;
        let mut left = Weight { records: taken.records.saturating_sub(*merged), ..*taken };
        [delivered, given_up, spooled, damaged].into_iter().for_each(|part| left -= *part);
        left
    }
}
