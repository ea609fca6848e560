//! What an audit rests on.

use super::statement::Loss;
use crate::flow::Books;
use crate::model::{Sum, Waiting};
use crate::source::{Counted, Losses};

/// Everything that is known at one moment. All sums since the start.
#[derive(Clone, Debug, Default)]
pub struct Evidence {
    /// The flow table's sums.
    pub books: Books,
    /// What the kernel side counted; read after the table took in what it had handed over. `None` where it counts
    /// nothing by itself.
    pub counted: Option<Counted>,
    /// Settled batches that the table has taken in.
    pub settled_batches: u64,
    /// Deltas that the user does not want.
    pub filtered: Sum,
    /// Deltas of records for which the output had no room.
    pub dropped: Sum,
    /// Deltas of records that the output will not write any more; 0 while it works.
    pub unwritten: Sum,
    /// Whether the output will not write them because its reader has gone, as it may.
    pub reader_gone: bool,
    /// What each configured sink has lost, by reason.
    pub sinks: Vec<Vec<Loss>>,
    /// What waits for each configured sink.
    pub waiting: Vec<Awaited>,
    /// The most that one of the sinks has lost of what an earlier agent had told of.
    pub inherited: Sum,
    /// What makes the amount uncertain, and how often it happened.
    pub doubts: Vec<Doubt>,
    /// The source has ended: nothing is under way any more.
    pub is_final: bool,
}

/// A sink, and what it has and has not delivered.
pub type Awaited = (&'static str, Waiting);

/// Something after which it cannot be known how much is missing, and how often it happened.
pub type Doubt = (&'static str, u64);

/// Reasons of loss whose amount nobody counted.
const UNCOUNTED: [&str; 19] = [
    "hook_skipped",
    "end_read_failed",
    "flow_table_full",
    "module_reloaded",
    "netlink_overflow",
    "netlink_malformed",
    "netlink_table_full",
    "netlink_namespace_refused",
    "netlink_events_off",
    "totals_regressed",
    "end_of_forgotten_flow",
    "ended_flows_forgotten_early",
    "gap_without_agent_ms",
    "state_damaged",
    "state_set_aside",
    "state_missing",
    "recording_damaged_blocks",
    "recording_records_skipped",
    "recording_bytes_skipped",
];

/// Those of the losses whose amount cannot be known.
#[must_use]
pub fn doubts(losses: &Losses) -> Vec<Doubt> {
    let is_doubt = |(reason, count): &&(&'static str, u64)| *count > 0 && UNCOUNTED.contains(reason);
    losses.iter().filter(is_doubt).copied().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_losses_of_unknown_amount_make_doubts() {
        let losses = vec![
            ("no_slot", 5),
            ("end_reason_unknown", 4),
            ("hook_skipped", 2),
            ("netlink_overflow", 0),
            ("output_queue_full", 7),
        ];
        assert_eq!(doubts(&losses), [("hook_skipped", 2)]);
    }
}
