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
    /// Requests that were tried, each try by itself.
    pub tries: u64,
    /// How often the sink panicked.
    pub panics: u64,
}

impl Report {
    /// What was taken in and has no fate yet.
    #[must_use]
    pub fn unwritten(&self) -> Weight {
        let Self { taken, merged, delivered, given_up, .. } = self;
        Weight {
            records: taken.records.saturating_sub(merged + delivered.records + given_up.records),
            ends: taken.ends.saturating_sub(delivered.ends + given_up.ends),
            moved: taken.moved - delivered.moved - given_up.moved,
        }
    }
}
