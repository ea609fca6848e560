//! The account given at exit: what was seen, what was delivered, what was lost.

use super::loss_watch::list;
use crate::audit::{OUTPUT_READER_GONE, is_of_reader};
use crate::flow::FlowTableStats;
use crate::sinks::tally::SinkReport;
use crate::source::Losses;

/// A reader may go when it has seen enough.
const NOT_TAKEN: &str = "lost is only what a reader that has gone did not take";

/// What went through the agent.
#[derive(Clone, Debug, Default)]
pub(super) struct Account {
    /// What the flow table saw.
    flows: FlowTableStats,
    /// Records written to the output.
    written: u64,
    /// Records that lie in spools.
    spooled: u64,
    /// Everything that was lost or not as it should be, by reason.
    losses: Losses,
}

impl Account {
    /// Adds up what each stage tells.
    pub(super) fn new(table: (FlowTableStats, Losses), source: Losses, output: &SinkReport) -> Self {
        let (flows, mut losses) = table;
        losses.extend(source);
        losses.extend(queue_losses(output));
        let unwritten = if output.broken_pipe { OUTPUT_READER_GONE } else { "output_unwritten" };
        losses.push((unwritten, output.unwritten));
        let unwritten = output.sinks.iter().flat_map(|sink| &sink.unwritten);
        losses.extend(unwritten.map(|(reason, records, _)| (*reason, *records)));
        let spooled = output.sinks.iter().map(|sink| sink.spooled).sum();
        Self { flows, written: output.written, spooled, losses }
    }

    /// Logs it: as a warning when something was lost.
    pub(super) fn log(mut self) {
        self.losses.retain(|(_, count)| *count > 0);
        let FlowTableStats { live, flows, ends, records, bytes } = self.flows;
        let written = self.written;
        if self.losses.is_empty() {
            tracing::info!(flows, ends, live, records, written, bytes, "account: nothing was lost");
        } else if self.losses.iter().all(|(reason, _)| is_of_reader(reason)) {
            let left = list(&self.losses);
            tracing::info!(flows, ends, live, records, written, bytes, "account: {NOT_TAKEN}: {left}");
        } else {
            let lost = list(&self.losses);
            tracing::warn!(flows, ends, live, records, written, bytes, "account: lost {lost}");
        }
        if self.spooled > 0 {
            tracing::info!(records = self.spooled, "account: spooled, to be delivered by the next start");
        }
    }
}

/// What readers that are too slow have cost, and what sinks cannot store.
pub(super) fn queue_losses(output: &SinkReport) -> Losses {
    let own = [("output_queue_full", output.dropped), ("output_queue_full_ends", output.dropped_ends)];
    let sinks = output.sinks.iter().flat_map(|sink| &sink.lost);
    let doubts = output.sinks.iter().flat_map(|sink| &sink.doubts).copied();
    own.into_iter().chain(sinks.map(|(reason, records, _)| (*reason, *records))).chain(doubts).collect()
}
