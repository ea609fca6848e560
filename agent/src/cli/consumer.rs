//! What stands behind a source: the flow table, and the way of its records to standard output.

use super::account::queue_losses;
use super::auditing::Auditing;
use super::loss_watch::LossWatch;
use super::netns_names::NetnsNames;
use super::pump::Flow;
use super::status_file::StatusFile;
use crate::audit::{Evidence, doubts};
use crate::config::{Config, OutputFormat, RecordEvent};
use crate::flow::identity::parse_boot_id;
use crate::flow::{Anchor, FlowTable, FlowTableOptions, FlowTableStats, Visits, Wanted};
use crate::model::{RateCurve, Record, Visit};
use crate::sinks::json::EncodeContext;
use crate::sinks::stdout::{Offered, Output, SinkHandle, StdoutSink};
use crate::sinks::tally::SinkReport;
use crate::source::{Batch, Counted, Losses, Source};
use anyhow::Context;
use std::io::{self, IsTerminal};
use std::sync::Arc;

/// Why it ends when a pipe breaks.
const READER_GONE: &str = "the reader of the output has gone";

/// Why it ends when, say, the disk is full; what failed is the error that the agent ends with.
const OUTPUT_FAILED: &str = "the output cannot be written";

const BOOT_ID: &str = "/proc/sys/kernel/random/boot_id";

/// Flows that the source is told at once to be due: at a million flows and a minute for each, ten times what comes
/// between two reads.
const DUE_AT_ONCE: usize = 16_384;

/// Columns of a table whose reader has no terminal.
const DEFAULT_WIDTH: usize = 160;

/// Turns batches into records.
#[derive(Debug)]
pub(super) struct Consumer {
    table: FlowTable,
    records: Vec<Record>,
    loss_watch: LossWatch,
    auditing: Auditing,
    /// Flows that are due, until the source took them.
    due: Vec<Visit>,
}

impl Consumer {
    /// For a source of this machine that is in place now, as `place` tells, and wants to be told such flows.
    pub(super) fn live(config: &Config, place: &str, visits: Visits) -> anyhow::Result<Self> {
        let since = Anchor::now().context("cannot read the clocks")?;
        let steps: Vec<_> = config.source.rate_curve.iter().map(|step| (step.age, step.every)).collect();
        let options = FlowTableOptions::new(config.flow.max_flows as usize, boot_id()?, since)
            .with_visits(visits, RateCurve::new(&steps))
            .with_wanted(wanted(config));
        let file = StatusFile::new(&config.run_dir, place);
        Ok(Self::with(options, Auditing::new(Some(file))))
    }

    /// For observations of the given boot, every flow's birth being seen since `since`.
    pub(super) fn new(config: &Config, boot_id: [u8; 16], since: Anchor) -> Self {
        let max_flows = config.flow.max_flows as usize;
        let options = FlowTableOptions::new(max_flows, boot_id, since).with_wanted(wanted(config));
        Self::with(options, Auditing::new(None))
    }

    fn with(options: FlowTableOptions, auditing: Auditing) -> Self {
        Self {
            table: FlowTable::new(options),
            records: Vec::new(),
            loss_watch: LossWatch::default(),
            auditing,
            due: Vec::new(),
        }
    }

    /// Tells the source which flows are due. To be called after each batch.
    pub(super) fn visit_due(&mut self, source: &mut impl Source) {
        let Ok(now) = Anchor::now() else { return };
        let room = DUE_AT_ONCE.saturating_sub(self.due.len());
        self.table.take_due(now.boot_ns, room, &mut self.due);
        let taken = source.visit(&self.due);
        self.due.drain(..taken.min(self.due.len()));
    }

    /// Offers the records of a batch that was read now. Never waits: what a slow reader has no room for is counted.
    pub(super) fn take(&mut self, batch: &Batch, sink: &SinkHandle) -> Flow {
        if let Some(step) = Anchor::now().ok().and_then(|now| self.table.re_anchor(now)) {
            tracing::info!(step_ns = step, "the wall clock was set; durations do not depend on it");
        }
        // What did not fit shows in the sink's counters.
        self.records_of(batch).map_or(Flow::Continue(()), |records| go_on(sink.offer(records), sink))
    }

    /// Says what was lost lately, here, by the source and on the way out. To be called after each batch.
    pub(super) fn tell_losses(&mut self, source: impl FnOnce() -> Losses, sink: &SinkHandle) {
        let Self { table, loss_watch, .. } = self;
        loss_watch.look(|| [source(), table.losses(), queue_losses(&sink.tally().report())].concat());
    }

    /// Audits, if it is time. To be called after each batch, with what the source counted and lost by then.
    pub(super) fn audit(&mut self, source: impl FnOnce() -> (Option<Counted>, Losses), sink: &SinkHandle) {
        let Self { table, auditing, .. } = self;
        auditing.tick(|| evidence(table, source(), &sink.tally().report()));
    }

    /// Sends the records of a recorded batch, at the pace of the reader.
    pub(super) async fn replay(&mut self, batch: &Batch, recorded: Anchor, sink: &SinkHandle) -> Flow {
        self.table.re_anchor(recorded);
        match self.records_of(batch) {
            Some(records) => go_on(sink.send(records).await, sink),
            None => Flow::Continue(()),
        }
    }

    /// What went through, and what was lost on the way; after a last audit, with what the source counted and lost.
    pub(super) fn finish(
        self,
        source: (Option<Counted>, Losses),
        output: &SinkReport,
    ) -> (FlowTableStats, Losses) {
        let Self { table, auditing, .. } = self;
        let now = evidence(&table, source, output);
        auditing.finish(&Evidence { unwritten: output.unwritten_sum, is_final: true, ..now });
        table.finish()
    }

    fn records_of(&mut self, batch: &Batch) -> Option<Arc<[Record]>> {
        self.records.clear();
        self.table.apply(batch, &mut self.records);
        (!self.records.is_empty()).then(|| Arc::from(self.records.as_slice()))
    }
}

fn wanted(config: &Config) -> Wanted {
    let is_wanted = |event| config.output.events.contains(&event);
    Wanted { new: is_wanted(RecordEvent::New), update: is_wanted(RecordEvent::Update) }
}

/// What an audit rests on while records are being written.
fn evidence(table: &FlowTable, source: (Option<Counted>, Losses), output: &SinkReport) -> Evidence {
    let (counted, losses) = source;
    Evidence {
        books: table.books(),
        counted,
        settled_batches: table.settled_batches(),
        dropped: output.dropped_sum,
        doubts: doubts(&[losses, table.losses()].concat()),
        ..Evidence::default()
    }
}

/// The machine's boot.
pub(super) fn boot_id() -> anyhow::Result<[u8; 16]> {
    let text = std::fs::read_to_string(BOOT_ID).with_context(|| format!("cannot read {BOOT_ID}"))?;
    parse_boot_id(&text).with_context(|| format!("{BOOT_ID} holds no boot id"))
}

/// It goes on as long as something can be written.
fn go_on(offered: Offered, sink: &SinkHandle) -> Flow {
    if offered == Offered::Closed { Flow::Break(why_closed(sink)) } else { Flow::Continue(()) }
}

/// Waits until nothing can be written any more; tells why.
pub(super) async fn closed(sink: &SinkHandle) -> &'static str {
    sink.closed().await;
    why_closed(sink)
}

fn why_closed(sink: &SinkHandle) -> &'static str {
    if sink.tally().report().broken_pipe { READER_GONE } else { OUTPUT_FAILED }
}

/// Starts to write to standard output.
pub(super) fn sink(config: &Config) -> SinkHandle {
    StdoutSink::spawn(
        output(config.output.format),
        context(),
        tokio::io::stdout(),
        config.output.queue_records,
    )
}

fn output(format: OutputFormat) -> Output {
    match format {
        OutputFormat::Auto if io::stdout().is_terminal() => Output::Table { width: width() },
        OutputFormat::Auto | OutputFormat::Json => Output::Json,
        OutputFormat::Table => Output::Table { width: width() },
        OutputFormat::Null => Output::Null,
    }
}

fn width() -> usize {
    let terminal = terminal_size::terminal_size_of(io::stdout());
    terminal.map_or(DEFAULT_WIDTH, |(terminal_size::Width(columns), _)| usize::from(columns))
}

fn context() -> EncodeContext {
    let host = nix::sys::utsname::uname()
        .map(|name| name.nodename().to_string_lossy().into_owned())
        .unwrap_or_default();
    let names = NetnsNames::default();
    EncodeContext { host, netns_name: Box::new(move |inode| names.get(inode)) }
}
