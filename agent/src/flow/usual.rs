//! The short way of the usual observation.

use super::due::due_ns;
use super::slab::Ahead;
use super::table::FlowTable;
use crate::model::{Observation, ObservationKind, Record, RecordKind, Sum};

impl FlowTable {
    /// Takes in an update as nearly all are: the flow at this place is meant beyond doubt, lives, and has nothing held
    /// back. It is asked nothing that only other cases need; of those it takes nothing and returns false, and
    /// [`FlowTable::observe`], which does the same for all, has to take them in.
    #[inline(always)]
    pub(super) fn observe_usual(
        &mut self,
        position: u32,
        o: &Observation,
        records: &mut Vec<Record>,
    ) -> bool {
        if o.kind != ObservationKind::Update || !self.options.wanted.update {
            return false;
        }
        let Some(entry) = self.flows.entry_mut(position) else { return false };
        if entry.ahead != Ahead::default() {
            return false;
        }
        let Some(change) = entry.flow.merge_usual(o) else { return false };
        self.newest_ns = self.newest_ns.max(o.boot_ns);
        self.books.live += Sum::moved(&change.delta);
        let due_ns = due_ns(&self.options, &entry.flow, o.kind);
        self.wheel.note(position, o.boot_ns, due_ns);
        if change.is_worth_a_record() {
            self.tell(position, RecordKind::Update, change.delta, None, records);
        }
        true
    }
}
