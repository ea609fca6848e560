//! The account given at exit: what was seen, what was delivered, what was lost.

use crate::flow::FlowTableStats;
use crate::sinks::stdout::SinkReport;
use crate::source::Losses;

/// What went through the agent.
#[derive(Clone, Debug, Default)]
pub(super) struct Account {
    /// What the flow table saw.
    pub(super) flows: FlowTableStats,
    /// Records written to the output.
    pub(super) written: u64,
    /// Everything that was lost or not as it should be, by reason.
    pub(super) losses: Losses,
}

impl Account {
    /// Adds up what each stage tells.
    pub(super) fn new(table: (FlowTableStats, Losses), source: Losses, output: Option<&SinkReport>) -> Self {
        let (flows, mut losses) = table;
        losses.extend(source);
        losses.extend(output.map(|report| ("output_queue_full", report.dropped)));
        Self { flows, written: output.map_or(0, |report| report.written), losses }
    }

    /// Logs it: as a warning when something was lost.
    pub(super) fn log(&self) {
        let lost: Vec<_> = self.losses.iter().filter(|(_, count)| *count > 0).collect();
        let FlowTableStats { live, flows, ends, records, bytes } = self.flows;
        let written = self.written;
        if lost.is_empty() {
            tracing::info!(flows, ends, live, records, written, bytes, "account: nothing was lost");
            return;
        }
        let list: Vec<_> = lost.iter().map(|(reason, count)| format!("{reason} {count}")).collect();
        tracing::warn!(flows, ends, live, records, written, bytes, "account: lost {}", list.join(", "));
    }
}
