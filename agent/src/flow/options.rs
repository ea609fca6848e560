//! What the flow table must know from the start.

use crate::model::{Anchor, RateCurve};

/// Which flows the table wants looked at, although no packet made them speak.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Visits {
    /// None: the source looks by itself, or cannot.
    #[default]
    Never,
    /// Each flow once after each record, when its next one could be due: it may have gone quiet since. A visit that
    /// brings nothing leaves it alone until its next packet makes it speak.
    Quiet,
    /// Every living flow at every step of the rate curve.
    Always,
}

/// Records that somebody wants beside ends. What flows move is in the deltas of those that are handed out, whichever
/// these are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Wanted {
    /// The first of each flow.
    pub new: bool,
    /// Updates. Without them everything that a flow moved is in the delta of its end.
    pub update: bool,
}

impl Wanted {
    /// All of them.
    pub const ALL: Self = Self { new: true, update: true };
}

/// What the table must know from the start.
#[derive(Clone, Debug)]
pub struct FlowTableOptions {
    /// Living flows at most.
    pub max_flows: usize,
    /// Ended flows that are remembered at most, so that late observations of them are recognised; the same again
    /// of flows whose end was missed.
    pub max_ended: usize,
    /// The boot id, part of each flow's identity.
    pub boot_id: [u8; 16],
    /// Since when every flow's birth is seen. What an older flow had moved when it is first seen is not billed.
    pub accounting_since: Anchor,
    /// Which flows [`super::FlowTable::take_due`] gives out.
    pub visits: Visits,
    /// How often a flow of a certain age is due.
    pub rate_curve: RateCurve,
    /// Which records are handed out.
    pub wanted: Wanted,
}

impl FlowTableOptions {
    /// Sensible limits for a machine that may hold `max_flows` flows, and no visits.
    #[must_use]
    pub fn new(max_flows: usize, boot_id: [u8; 16], accounting_since: Anchor) -> Self {
        Self {
            max_flows,
            max_ended: (max_flows / 4).max(65_536),
            boot_id,
            accounting_since,
            visits: Visits::Never,
            rate_curve: RateCurve::default(),
            wanted: Wanted::ALL,
        }
    }

    /// The same with visits at the times of a rate curve.
    #[must_use]
    pub fn with_visits(self, visits: Visits, rate_curve: RateCurve) -> Self {
        Self { visits, rate_curve, ..self }
    }

    /// The same with the given records only.
    #[must_use]
    pub fn with_wanted(self, wanted: Wanted) -> Self {
        Self { wanted, ..self }
    }
}
