//! What is remembered of flows that are not in the table although the kernel programs may speak of them.

use crate::model::Observation;

/// Flows that were forgotten or refused.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Strangers {
    /// Somebody was forgotten or refused, whether or not it is known when it was born.
    any: bool,
    /// The latest birth among the missed flows that were forgotten; 0 for none.
    forgotten: u64,
    /// The earliest and the latest birth among the flows that a full table refused.
    refused: Option<(u64, u64)>,
}

impl Strangers {
    /// Whether every flow that was ever met is in the table or has had its end.
    pub(super) const fn is_empty(&self) -> bool {
        !self.any
    }

    /// A flow of which something was delivered is not known any more. `born_ns` is 0 when its birth is unknown.
    pub(super) fn forget(&mut self, born_ns: u64) {
        self.any = true;
        self.forgotten = self.forgotten.max(born_ns);
    }

    /// A full table did not take in the flow of this observation.
    pub(super) fn refuse(&mut self, o: &Observation) {
        self.any = true;
        let born = o.born_ns;
        if born != 0 {
            let (earliest, latest) = self.refused.unwrap_or((born, born));
            self.refused = Some((earliest.min(born), latest.max(born)));
        }
    }

    /// Whether the end of an unknown flow may be that of a flow which was delivered, found gone and forgotten; to
    /// bill it whole could then bill it twice. A younger flow was not: its announcement is merely still under way.
    /// What a full table refused is billed whole.
    pub(super) fn may_be_forgotten(&self, o: &Observation) -> bool {
        let was_refused = self.refused.is_some_and(|(from, to)| (from..=to).contains(&o.born_ns));
        o.announced && o.born_ns != 0 && o.born_ns <= self.forgotten && !was_refused
    }
}
