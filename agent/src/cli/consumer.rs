//! What stands behind a source: the flow table, and the way of its records to standard output.

use super::netns_names::NetnsNames;
use super::pump::Flow;
use crate::config::{Config, OutputFormat};
use crate::flow::identity::parse_boot_id;
use crate::flow::{Anchor, FlowTable, FlowTableOptions, FlowTableStats};
use crate::model::Record;
use crate::sinks::json::EncodeContext;
use crate::sinks::stdout::{Offered, Output, SinkHandle, StdoutSink};
use crate::source::{Batch, Losses};
use anyhow::Context;
use std::io::{self, IsTerminal};
use std::sync::Arc;

/// Why it ends when a pipe breaks.
pub(super) const READER_GONE: &str = "the reader of the output has gone";

const BOOT_ID: &str = "/proc/sys/kernel/random/boot_id";

/// Columns of a table whose reader has no terminal.
const DEFAULT_WIDTH: usize = 160;

/// Turns batches into records.
#[derive(Debug)]
pub(super) struct Consumer {
    table: FlowTable,
    records: Vec<Record>,
}

impl Consumer {
    /// For a source of this machine that is in place now.
    pub(super) fn live(config: &Config) -> anyhow::Result<Self> {
        Ok(Self::new(config, boot_id()?, Anchor::now().context("cannot read the clocks")?))
    }

    /// For observations of the given boot, every flow's birth being seen since `since`.
    pub(super) fn new(config: &Config, boot_id: [u8; 16], since: Anchor) -> Self {
        let max_flows = config.flow.max_flows as usize;
        let table = FlowTable::new(FlowTableOptions::new(max_flows, boot_id, since));
        Self { table, records: Vec::new() }
    }

    /// Offers the records of a batch that was read now. Never waits: what a slow reader has no room for is counted.
    pub(super) fn take(&mut self, batch: &Batch, sink: &SinkHandle) -> Flow {
        if let Some(step) = Anchor::now().ok().and_then(|now| self.table.re_anchor(now)) {
            tracing::info!(step_ns = step, "the wall clock was set; durations do not depend on it");
        }
        // What did not fit shows in the sink's report.
        go_on(self.records_of(batch).map(|records| sink.offer(records)))
    }

    /// Sends the records of a recorded batch, at the pace of the reader.
    pub(super) async fn replay(&mut self, batch: &Batch, recorded: Anchor, sink: &SinkHandle) -> Flow {
        self.table.re_anchor(recorded);
        match self.records_of(batch) {
            Some(records) => go_on(Some(sink.send(records).await)),
            None => Flow::Continue(()),
        }
    }

    /// What went through, and what was lost on the way.
    pub(super) fn finish(self) -> (FlowTableStats, Losses) {
        self.table.finish()
    }

    fn records_of(&mut self, batch: &Batch) -> Option<Arc<[Record]>> {
        self.records.clear();
        self.table.apply(batch, &mut self.records);
        (!self.records.is_empty()).then(|| Arc::from(self.records.as_slice()))
    }
}

/// The machine's boot.
pub(super) fn boot_id() -> anyhow::Result<[u8; 16]> {
    let text = std::fs::read_to_string(BOOT_ID).with_context(|| format!("cannot read {BOOT_ID}"))?;
    parse_boot_id(&text).with_context(|| format!("{BOOT_ID} holds no boot id"))
}

/// Nobody writes any more once the reader of the output has gone.
fn go_on(offered: Option<Offered>) -> Flow {
    if offered == Some(Offered::Closed) { Flow::Break(READER_GONE) } else { Flow::Continue(()) }
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
