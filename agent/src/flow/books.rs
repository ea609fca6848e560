//! Double-entry sums of all flows the table has met, kept up to date with every change of a flow.
//!
//! For every flow, whatever becomes of it: what is known of its totals = its baseline + what was delivered of it +
//! what is held back for a later record + what a walk has seen beyond. So at any moment, in packets and bytes,
//!
//! `ended + reset + missed + live = baseline + delivered + held + ahead`
//!
//! and in flows the same: there the baseline is the flows that an agent before this one has told of.

use super::slab::Entry;
use crate::model::{Sum, Totals};

/// Sums since the start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Books {
    /// Flows whose end was told, with the final totals it told.
    pub ended: Sum,
    /// By how much those fell short of totals seen before: somebody reset the counters.
    pub reset: Sum,
    /// Flows that were found gone and whose end was not told until now, with the last totals known.
    pub missed: Sum,
    /// What walks had seen beyond those totals.
    pub forgone: Sum,
    /// Living flows, with the highest totals known.
    pub live: Sum,
    /// The part of those that a walk saw and no record has told yet.
    pub ahead: Sum,
    /// The part of the living flows' totals that is held back until a record is wanted.
    pub held: Sum,
    /// What flows had moved before the accounting began, or an agent before this one has billed: in no delta.
    pub baseline: Sum,
    /// Flows that had a record, and all deltas.
    pub delivered: Sum,
}

impl Books {
    /// Whether the two sides are equal, as they always are.
    #[must_use]
    pub fn balance(&self) -> bool {
        let known = self.ended + self.reset + self.missed + self.live;
        known == self.baseline + self.delivered + self.held + self.ahead
    }

    /// A living flow changed, or came in, or is about to leave: its share before, and its share now.
    #[inline]
    pub(super) fn change_living(&mut self, before: Share, after: Share) {
        self.live += after.live - before.live;
        self.ahead += after.ahead - before.ahead;
        self.held += after.held - before.held;
    }

    /// The baseline of a flow changed.
    pub(super) fn change_baseline(&mut self, before: &Totals, after: &Totals) {
        self.baseline += Sum::moved(after) - Sum::moved(before);
    }

    /// The end of a flow was told, with these final totals.
    pub(super) fn end(&mut self, entry: &Entry, told: &Totals) {
        self.ended += Sum::of_flow(told);
        self.reset += Sum::moved(&entry.flow.totals) - Sum::moved(told);
    }

    /// An end came again that an agent before this one had told: the kernel side counts it, and nobody bills it.
    pub(super) fn end_again(&mut self, entry: &Entry) {
        let known = Sum::of_flow(&entry.flow.totals);
        self.ended += known;
        self.baseline += known;
    }

    /// A flow is about to be told of that an agent before this one had found gone.
    pub(super) fn follow_on(&mut self, entry: &Entry) {
        self.baseline += Sum::of_flow(&entry.flow.totals);
    }

    /// A flow was found gone.
    pub(super) fn miss(&mut self, entry: &Entry) {
        self.missed += Sum::of_flow(&entry.flow.totals);
        self.forgone += entry.ahead.sum();
    }

    /// The end of a flow that had been found gone was told after all; `entry` is as it was until now.
    pub(super) fn unmiss(&mut self, entry: &Entry) {
        self.missed -= Sum::of_flow(&entry.flow.totals);
        self.forgone -= entry.ahead.sum();
    }
}

/// What a living flow has in the sums of that; nothing by default, as if it did not live.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Share {
    /// The highest totals known.
    pub(super) live: Sum,
    pub(super) ahead: Sum,
    held: Sum,
}

impl Share {
    #[inline]
    pub(super) fn of(entry: &Entry) -> Self {
        let ahead = entry.ahead.sum();
        Self {
            live: Sum::of_flow(&entry.flow.totals) + ahead,
            ahead,
            held: entry.flow.held().map_or(Sum::default(), |held| Sum::moved(&held)),
        }
    }
}
