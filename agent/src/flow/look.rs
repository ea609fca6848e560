//! What follows from a complete look at the kernel's table: who is not there any more has ended unseen.
//!
//! One look is not enough. An entry can be between two buckets, or on its way into the table, just when the look
//! comes by; so a flow ends as missed when two looks one after the other did not see it and nothing else did.

use super::matching::is_clash;
use super::state::{Facts, FlowState};
use super::table::{Ending, FlowTable};
use crate::model::Record;
use crate::source::{Look, Scope};

/// No look sees the entry of a clashing flow: only the tuple of the reply is in the kernel's table. It lives for a
/// second, and nothing prolongs that.
///
/// <https://github.com/torvalds/linux/blob/v6.12/net/netfilter/nf_conntrack_core.c#L1041>
const CLASH_LIFE_NS: u64 = 60_000_000_000;

impl FlowTable {
    /// Marks the flows that the look should have seen and did not; ends those that were marked already.
    pub(super) fn apply_look(&mut self, look: &Look, records: &mut Vec<Record>) {
        let mut from = 0;
        while let Some(position) = self.wheel.unseen_since(from, look.began_boot_ns) {
            from = position + 1;
            self.note_absent(position, look, records);
        }
    }

    fn note_absent(&mut self, position: u32, look: &Look, records: &mut Vec<Record>) {
        let Some(entry) = self.flows.entry_mut(position) else { return };
        let flow = &mut entry.flow;
        if !should_be_seen(flow, look) {
            return;
        }
        if flow.facts.has(Facts::ABSENT) {
            flow.last_seen_ns = flow.last_seen_ns.max(look.began_boot_ns);
            self.end(position, Ending::MISSED, records);
        } else {
            flow.facts.set(Facts::ABSENT, true);
        }
    }
}

/// Whether the look would have seen the flow if it lived.
fn should_be_seen(flow: &FlowState, look: &Look) -> bool {
    if is_clash(flow) {
        return flow.last_seen_ns.saturating_add(CLASH_LIFE_NS) < look.began_boot_ns;
    }
    match &look.scope {
        Scope::All => true,
        // A dump says too little to tell a flow without stamp and address from others of its tuple.
        Scope::Namespaces(inodes) => {
            inodes.contains(&flow.netns) && (flow.start_ns != 0 || flow.conntrack != 0)
        }
    }
}
