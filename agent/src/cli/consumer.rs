//! What stands behind a source: the flow table, and the way of its records to standard output.

use super::account::queue_losses;
use super::auditing::Auditing;
use super::counter_watch::CounterWatch;
use super::filtering::Filtering;
use super::loss_watch::LossWatch;
use super::netns_names::NetnsNames;
use super::offload_watch::OffloadWatch;
use super::outlets::Outlets;
use super::pump::Flow;
use super::reporters::Reporters;
use super::resume::Resumed;
use super::source_report::SourceReport;
use super::status_file::{Gauges, StatusFile};
use crate::audit::{Awaited, Evidence, Loss, doubts};
use crate::config::{Config, OutputFormat, RecordEvent, Stream};
use crate::flow::identity::parse_boot_id;
use crate::flow::{Anchor, FlowTable, FlowTableOptions, FlowTableStats, Visits, Wanted};
use crate::model::{Backlog, RateCurve, Record, Records, Sum, Visit};
use crate::pipeline::Networks;
use crate::pipeline::Offered;
use crate::sinks::json::EncodeContext;
use crate::sinks::stdio::{Output, SinkHandle, StdioSink};
use crate::sinks::tally::{SinkLosses, SinkReport};
use crate::source::{Batch, LongestRuns, Losses, Source};
use crate::state::{BATCH_RECORDS, State};
use anyhow::Context;
use nix::fcntl::{FcntlArg, fcntl};
use std::io::{self, IsTerminal, Write};
use std::os::fd::AsFd;
use std::sync::Arc;

/// Why it ends when a pipe breaks.
const READER_GONE: &str = "the reader of the output has gone";

/// Why it ends when, say, the disk is full; what failed is the error that the agent ends with.
const OUTPUT_FAILED: &str = "the output cannot be written";

const BOOT_ID: &str = "/proc/sys/kernel/random/boot_id";

/// Flows that the source is told at once to be due: at a million flows and a minute for each, ten times what comes
/// between two reads.
const DUE_AT_ONCE: usize = 16_384;

/// What anybody may make a pipe hold (`/proc/sys/fs/pipe-max-size`).
const PIPE_BYTES: i32 = 1 << 20;

/// Columns of a table whose reader has no terminal.
const DEFAULT_WIDTH: usize = 160;

/// Turns batches into records.
#[derive(Debug)]
pub(super) struct Consumer {
    table: FlowTable,
    records: Vec<Record>,
    filtering: Filtering,
    /// The wall clock of the last batch, nanoseconds since the Unix epoch.
    real_ns: i64,
    loss_watch: LossWatch,
    auditing: Auditing,
    /// Flows that are due and that the source had no room for yet.
    due: Vec<Visit>,
    state: Option<State>,
    /// For how long no agent ran before this one, milliseconds.
    gap_ms: u64,
    /// What of that one's state could not be read, by reason.
    unread: Losses,
    /// Only for flows of this machine, whose rules can be asked.
    offload_watch: Option<OffloadWatch>,
    /// Likewise: what a recording holds cannot be mended any more.
    counter_watch: Option<CounterWatch>,
}

impl Consumer {
    /// For a source of this machine that is in place now, as `place` tells.
    pub(super) fn live(config: &Config, place: &str, visits: Visits) -> anyhow::Result<Self> {
        let now = Anchor::now().context("cannot read the clocks")?;
        let consumer = Self::with(empty_table(config, boot_id()?, now, visits), config)?;
        Ok(consumer.of_this_machine(config, place))
    }

    /// For observations of the given boot, every flow's birth being seen since `since`.
    pub(super) fn new(config: &Config, boot_id: [u8; 16], since: Anchor) -> anyhow::Result<Self> {
        Self::with(empty_table(config, boot_id, since, Visits::Never), config)
    }

    /// The same, going on where the agent before stopped: what that one may not have written goes to `sink` first.
    pub(super) fn resumed(
        resumed: Resumed,
        config: &Config,
        place: &str,
        sink: &Outlets,
    ) -> anyhow::Result<Self> {
        let Resumed { table, state, gap_ms, losses: unread, unwritten } = resumed;
        let consumer = Self { state: Some(state), gap_ms, unread, ..Self::with(table, config)? };
        sink.meet(consumer.table.living().filter(|record| consumer.filtering.wants(record)));
        for (number, records) in unwritten {
            sink.admit(number, consumer.filtering.pass_again(records));
        }
        Ok(consumer.of_this_machine(config, place))
    }

    /// With a status file, and an eye on flows that are not counted.
    fn of_this_machine(self, config: &Config, place: &str) -> Self {
        let file = StatusFile::new(&config.run_dir, &host(), place);
        let offload_watch = Some(OffloadWatch::default());
        let counter_watch = Some(CounterWatch::default());
        Self { auditing: Auditing::new(Some(file)), offload_watch, counter_watch, ..self }
    }

    fn with(table: FlowTable, config: &Config) -> anyhow::Result<Self> {
        Ok(Self {
            table,
            records: Vec::new(),
            filtering: Filtering::new(config)?,
            real_ns: 0,
            loss_watch: LossWatch::default(),
            auditing: Auditing::new(None),
            due: Vec::new(),
            state: None,
            gap_ms: 0,
            unread: Losses::new(),
            offload_watch: None,
            counter_watch: None,
        })
    }

    /// Has the sinks told how complete the accounting is, whenever it is audited.
    pub(super) fn report_to(&mut self, reporters: Reporters) {
        self.auditing.report_to(reporters);
    }

    /// Offers the records of a batch that was read now. Never waits: what a slow reader has no room for is counted.
    pub(super) fn take(&mut self, batch: &Batch, sink: &Outlets) -> Flow {
        let now = Anchor::now();
        if let Ok(now) = now {
            self.re_anchor(now);
        }
        if let Some(state) = &mut self.state {
            state.note_settled(self.table.settled_batches());
        }
        self.apply(batch);
        // What did not fit shows in the sink's counters.
        let flow = if self.state.is_some() { self.offer_kept(sink) } else { self.offer(sink) };
        if let Ok(now) = now {
            sink.tick(now.real_ns);
        }
        if let Some(state) = &mut self.state {
            state.tick(&self.table, &sink.backlog());
        }
        flow
    }

    /// Has the source look at flows that are due although nothing made them speak. To be called after each batch.
    pub(super) fn visit_due(&mut self, source: &mut impl Source) {
        if self.due.is_empty()
            && let Ok(now) = Anchor::now()
        {
            self.table.take_due(now.boot_ns, DUE_AT_ONCE, &mut self.due);
        }
        let taken = source.visit(&self.due);
        self.due.drain(..taken.min(self.due.len()));
    }

    /// Says what was lost lately, here, by the source and on the way out. To be called after each batch.
    pub(super) fn tell_losses(&mut self, source: impl FnOnce() -> Losses, sink: &Outlets) {
        let Self { table, loss_watch, state, unread, .. } = self;
        let kept = state.as_ref().map(State::losses).unwrap_or_default();
        loss_watch.look(|| {
            [source(), table.losses(), kept, unread.clone(), queue_losses(&sink.tally().report())].concat()
        });
    }

    /// Audits, if it is time. To be called after each batch, with what the source says by then.
    pub(super) fn audit(&mut self, source: impl FnOnce() -> SourceReport, sink: &Outlets) {
        let Self { table, filtering, auditing, gap_ms, unread, offload_watch, real_ns, .. } = self;
        auditing.tick(|| {
            let source = source();
            let gauges = gauges(table, offload_watch.as_ref(), source.longest_runs, *real_ns);
            let before = before(*gap_ms, unread);
            (evidence(table, filtering.filtered(), source, &before, &sink.tally().report()), gauges)
        });
    }

    /// Sends the records of a recorded batch, at the pace of the reader.
    pub(super) async fn replay(&mut self, batch: &Batch, recorded: Anchor, sink: &Outlets) -> Flow {
        self.table.re_anchor(recorded);
        self.real_ns = recorded.real_ns;
        sink.tick(recorded.real_ns);
        self.apply(batch);
        self.filtering.retain(&mut self.records);
        if self.records.is_empty() {
            return Flow::Continue(());
        }
        let records = self.hand_over(sink);
        go_on(sink.send(0, records).await, sink)
    }

    /// What went through, and what was lost on the way; after a last audit, with what the source says.
    /// `backlog` is what the output did not write: the next agent hands it on again.
    pub(super) fn finish(
        self,
        source: SourceReport,
        output: &SinkReport,
        backlog: &Backlog,
    ) -> (FlowTableStats, Losses) {
        self.offload_watch.iter().for_each(OffloadWatch::conclude);
        let Self { table, filtering, auditing, gap_ms, unread, offload_watch, real_ns, .. } = self;
        let gauges = gauges(&table, offload_watch.as_ref(), source.longest_runs, real_ns);
        let now = evidence(&table, filtering.filtered(), source, &before(gap_ms, &unread), output);
        let (sinks, unwritten) = (sink_losses(output, true), output.unwritten_sum);
        let (waiting, reader_gone) = (waiting(output, true), output.broken_pipe);
        let last = Evidence { sinks, unwritten, waiting, reader_gone, is_final: true, ..now };
        auditing.finish(&last, gauges);
        let (stats, mut losses) = table.finish();
        losses.extend(unread);
        if let Some(state) = self.state {
            losses.extend(state.losses());
            state.finish(backlog);
        }
        (stats, losses)
    }

    fn re_anchor(&mut self, now: Anchor) {
        self.real_ns = now.real_ns;
        let step = self.table.re_anchor(now);
        if let Some(state) = &mut self.state {
            state.note_clock(now, step.is_some());
        }
        if let Some(step) = step {
            tracing::info!(step_ns = step, "the wall clock was set; durations do not depend on it");
        }
    }

    fn apply(&mut self, batch: &Batch) {
        self.records.clear();
        self.table.apply(batch, &mut self.records);
        if let Some(watch) = &mut self.offload_watch {
            watch.flag(&mut self.records);
        }
        if let Some(watch) = &mut self.counter_watch {
            watch.look(&self.records);
        }
    }

    fn offer(&mut self, sink: &Outlets) -> Flow {
        self.filtering.retain(&mut self.records);
        if self.records.is_empty() {
            return Flow::Continue(());
        }
        let records = self.hand_over(sink);
        go_on(sink.offer(0, records), sink)
    }

    /// The records, in whose place comes the memory of some that were written.
    fn hand_over(&mut self, sink: &Outlets) -> Records {
        std::mem::replace(&mut self.records, sink.spare()).into()
    }

    /// What is handed on is kept first, with the flows as they are by then: all of it, also when nobody reads any more
    /// and what is not wanted, as its flows go on from there.
    fn offer_kept(&mut self, sink: &Outlets) -> Flow {
        let Some(state) = &mut self.state else { return Flow::Continue(()) };
        let flows = self.table.journal().chunks(BATCH_RECORDS);
        let mut flow = Flow::Continue(());
        for (records, flows) in self.records.chunks(BATCH_RECORDS).zip(flows) {
            let number = state.append(records, flows);
            let mut wanted = records.to_vec();
            self.filtering.retain(&mut wanted);
            if wanted.is_empty() {
                continue;
            }
            let offered = go_on(sink.offer(number, wanted.into()), sink);
            flow = if flow.is_break() { flow } else { offered };
        }
        flow
    }
}

fn wanted(config: &Config) -> Wanted {
    let is_wanted = |event| config.wants(event);
    Wanted { new: is_wanted(RecordEvent::New), update: is_wanted(RecordEvent::Update) }
}

fn gauges(
    table: &FlowTable,
    offload_watch: Option<&OffloadWatch>,
    longest_runs: Option<LongestRuns>,
    real_ns: i64,
) -> Gauges {
    let offloaded_uncounted = offload_watch.map_or(0, OffloadWatch::uncounted);
    Gauges { real_ns, live_flows: table.len(), offloaded_uncounted, longest_runs }
}

/// What happened before this agent counted.
fn before(gap_ms: u64, unread: &Losses) -> Losses {
    let gap = [("gap_without_agent_ms", gap_ms)];
    gap.into_iter().chain(unread.iter().copied()).collect()
}

/// What an audit rests on while records are being written.
fn evidence(
    table: &FlowTable,
    filtered: Sum,
    source: SourceReport,
    before: &Losses,
    output: &SinkReport,
) -> Evidence {
    let SourceReport { counted, mut losses, .. } = source;
    losses.extend(table.losses());
    losses.extend(before);
    let mut doubts = doubts(&losses);
    let of_sinks = output.sinks.iter().flat_map(|sink| sink.doubts.iter().chain(&sink.unacknowledged));
    doubts.extend(of_sinks.filter(|(_, count)| *count > 0));
    Evidence {
        books: table.books(),
        counted,
        settled_batches: table.settled_batches(),
        filtered,
        dropped: output.dropped_sum,
        sinks: sink_losses(output, false),
        waiting: waiting(output, false),
        inherited: most_inherited(output),
        doubts,
        ..Evidence::default()
    }
}

/// The highest of each figure that a sink has lost of what an earlier agent had told of.
fn most_inherited(output: &SinkReport) -> Sum {
    let of_each = output.sinks.iter().map(|sink| sink.inherited);
    of_each.fold(Sum::default(), |most, sum| most + sum.beyond(most))
}

/// What waits for each configured sink; in the end only what the next agent delivers.
fn waiting(output: &SinkReport, is_final: bool) -> Vec<Awaited> {
    let of = |sink: &SinkLosses| {
        let unwritten = sink.unwritten.iter().filter(|_| is_final);
        let left = unwritten.fold(sink.waiting, |left, (_, records, sum)| left.beyond(*records, *sum));
        (sink.sink, left)
    };
    output.sinks.iter().map(of).collect()
}

/// What each configured sink has lost; in the end what it did not write, too.
fn sink_losses(output: &SinkReport, is_final: bool) -> Vec<Vec<Loss>> {
    let of = |sink: &SinkLosses| {
        let unwritten = sink.unwritten.iter().filter(|_| is_final);
        sink.lost.iter().chain(unwritten).map(|(reason, _, sum)| (*reason, *sum)).collect()
    };
    output.sinks.iter().map(of).collect()
}

/// A flow table as it is configured, for flows of the given boot, every flow's birth being seen since `since`.
pub(super) fn empty_table(config: &Config, boot_id: [u8; 16], since: Anchor, visits: Visits) -> FlowTable {
    let steps: Vec<_> = config.source.rate_curve.iter().map(|step| (step.age, step.every)).collect();
    let options = FlowTableOptions::new(config.flow.max_flows as usize, boot_id, since);
    FlowTable::new(options.with_visits(visits, RateCurve::new(&steps)).with_wanted(wanted(config)))
}

/// The machine's boot.
pub(super) fn boot_id() -> anyhow::Result<[u8; 16]> {
    let text = std::fs::read_to_string(BOOT_ID).with_context(|| format!("cannot read {BOOT_ID}"))?;
    parse_boot_id(&text).with_context(|| format!("{BOOT_ID} holds no boot id"))
}

/// It goes on as long as something can be written.
fn go_on(offered: Offered, sink: &Outlets) -> Flow {
    if offered == Offered::Closed { Flow::Break(why_closed(sink)) } else { Flow::Continue(()) }
}

/// Waits until nothing can be written any more; tells why.
pub(super) async fn closed(sink: &Outlets) -> &'static str {
    sink.closed().await;
    why_closed(sink)
}

fn why_closed(sink: &Outlets) -> &'static str {
    if sink.tally().report().broken_pipe { READER_GONE } else { OUTPUT_FAILED }
}

/// Starts to write to a standard stream.
pub(super) fn stdio(
    stream: Stream,
    format: OutputFormat,
    queue_records: u32,
    networks: Arc<Networks>,
) -> SinkHandle {
    let context = context(networks);
    match stream {
        Stream::Stdout => to(io::stdout(), format, context, queue_records),
        // Who writes to it holds its lock, so that no line of the log stands within a line of a record.
        Stream::Stderr => to(io::stderr(), format, context, queue_records),
    }
}

fn to<W>(out: W, format: OutputFormat, context: EncodeContext, queue_records: u32) -> SinkHandle
where
    W: Write + AsFd + Send + 'static,
{
    make_roomy(&out);
    StdioSink::spawn(output(format, &out), context, out, queue_records)
}

/// A pipe gets room for more than its 64 KiB, so that writer and reader take turns less often.
fn make_roomy(out: &impl AsFd) {
    if fcntl(out, FcntlArg::F_GETPIPE_SZ).is_ok_and(|bytes| bytes < PIPE_BYTES) {
        // Where no more is allowed it stays as it is.
        let _ = fcntl(out, FcntlArg::F_SETPIPE_SZ(PIPE_BYTES));
    }
}

fn output(format: OutputFormat, out: &impl AsFd) -> Output {
    match format {
        OutputFormat::Auto if out.as_fd().is_terminal() => Output::Table { width: width(out) },
        OutputFormat::Auto | OutputFormat::Json => Output::Json,
        OutputFormat::Table => Output::Table { width: width(out) },
        OutputFormat::Logfmt => Output::Logfmt,
        OutputFormat::LineProtocol => Output::LineProtocol,
        OutputFormat::Null => Output::Null,
    }
}

fn width(out: &impl AsFd) -> usize {
    let terminal = terminal_size::terminal_size_of(out);
    terminal.map_or(DEFAULT_WIDTH, |(terminal_size::Width(columns), _)| usize::from(columns))
}

/// The name of this machine.
pub(super) fn host() -> String {
    nix::sys::utsname::uname().map(|name| name.nodename().to_string_lossy().into_owned()).unwrap_or_default()
}

pub(super) fn context(networks: Arc<Networks>) -> EncodeContext {
    let names = NetnsNames::default();
    EncodeContext { host: host(), netns_name: Box::new(move |inode| names.get(inode)), networks }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::audit::Auditor;

    #[test]
    fn a_state_that_could_not_be_read_leaves_the_audit_in_doubt() {
        let since = Anchor { boot_ns: 1, real_ns: 1 };
        let table = empty_table(&Config::default(), [1; 16], since, Visits::Never);
        let audit = |unread: Losses| {
            let (source, output) = (SourceReport::default(), SinkReport::default());
            Auditor::default().audit(&evidence(&table, Sum::default(), source, &before(0, &unread), &output))
        };
        assert!(audit(vec![("state_damaged", 0)]).completeness.is_whole());
        for reason in ["state_damaged", "state_set_aside"] {
            let statement = audit(vec![(reason, 3)]);
            assert!(!statement.completeness.is_whole());
            assert_eq!(statement.doubts, [(reason, 3)]);
        }
    }
}
