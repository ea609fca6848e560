//! What each panel has to show of what was played.

use anyhow::{Result, bail, ensure};

use super::answer::{Answer, Series};
use super::board::{Board, INTERVALS_MS, Panel};
use super::play::Played;
use crate::sum::Sum;

/// Fields that only some documents have.
const SOMETIMES: [&str; 2] = ["source.nat.ip", "destination.nat.ip"];

/// What one query has to return.
#[derive(Debug)]
pub(super) enum Expected {
    /// Values that add up to a figure, by the unit of the panel.
    Total(Figure),
    /// Rows whose columns add up to figures, by the units of the columns.
    Columns(&'static [(&'static str, Figure)]),
    /// The same of all queries of the panel.
    Together(&'static Self),
    /// No row.
    Nothing,
    /// At one moment so many, and never more.
    Most(Figure),
    /// One row, whose time is the last statement's.
    Age,
    /// Documents that have all fields which are shown, and whose numbers add up to figures.
    Documents(&'static [(&'static str, Figure)]),
}

/// A figure of what was played.
#[derive(Clone, Copy, Debug)]
pub(super) enum Figure {
    Bytes,
    SourceBytes,
    DestinationBytes,
    Packets,
    SourcePackets,
    DestinationPackets,
    Flows,
    Started,
    Ended,
    /// Open at the same time.
    Open,
    StillOpen,
    LostBytes,
    /// Records of which the sink that is away has all in its spool.
    WaitingRecords,
    /// For how long the oldest of them waits: no longer than the test takes.
    Oldest,
    /// The sum of a figure by reason, and in all.
    Twice(Loss),
    /// Which part of a figure of the second agent is not lost.
    Part(Loss),
    /// For how many reasons something of unknown amount was lost.
    Doubts,
    Missed,
    Uncounted,
    Midlife,
    /// When the second agent made its last statement.
    Told,
}

/// What is lost.
#[derive(Clone, Copy, Debug)]
pub(super) enum Loss {
    Bytes,
    Packets,
    Flows,
}

use Expected::{Age, Columns, Documents, Most, Nothing, Together, Total};
use Figure::{
    Bytes, DestinationBytes, DestinationPackets, Doubts, Ended, Flows, LostBytes, Midlife, Missed, Oldest,
    Open, Packets, Part, SourceBytes, SourcePackets, Started, StillOpen, Told, Twice, Uncounted,
    WaitingRecords,
};

const GROUPS: &[(&str, Figure)] =
    &[("Bytes", Bytes), ("Packets", Packets), ("Started", Started), ("Ended", Ended)];

const RECORDS: &[(&str, Figure)] = &[("Bytes", Bytes), ("Packets", Packets), ("Records", Flows)];

/// What the sink that is away did not get is what the one without a spool has lost.
const WAITS: &[(&str, Figure)] = &[("Records", WaitingRecords), ("Bytes", LostBytes), ("Oldest", Oldest)];

const LIVE: &[(&str, &[Expected])] = &[
    ("Completeness", &[Nothing, Total(Part(Loss::Bytes))]),
    ("Longest wait", &[Total(Oldest)]),
    ("Last status", &[Age]),
    (
        "Completeness by agent",
        &[Columns(&[
            ("Bytes", Part(Loss::Bytes)),
            ("Packets", Part(Loss::Packets)),
            ("Flows", Part(Loss::Flows)),
            ("Lost", LostBytes),
            ("Parts are", Doubts),
            ("Open flows", StillOpen),
            ("Told", Told),
        ])],
    ),
    ("Waiting to be delivered", &[Columns(WAITS)]),
    ("Age of the oldest that waits", &[Total(Oldest)]),
    (
        "Lost, by reason",
        // What is lost by reason, and in all.
        &[Columns(&[
            ("Bytes", Twice(Loss::Bytes)),
            ("Packets", Twice(Loss::Packets)),
            ("Flows", Twice(Loss::Flows)),
            ("Times", Missed),
        ])],
    ),
    ("Lost within each interval", &[Total(LostBytes)]),
    ("Throughput by network that opened", &[Together(&Total(Bytes))]),
    ("Throughput by network that answered", &[Together(&Total(Bytes))]),
    ("Throughput by direction", &[Total(SourceBytes), Total(DestinationBytes)]),
    ("Packets by direction", &[Total(SourcePackets), Total(DestinationPackets)]),
    ("Throughput by service", &[Together(&Total(Bytes))]),
    ("Throughput by protocol", &[Together(&Total(Bytes))]),
    ("Flows per second", &[Total(Started), Total(Ended)]),
    ("Open flows by agent", &[Total(StillOpen)]),
    ("Open flows by network that opened", &[Together(&Most(Open))]),
    ("Top talkers", &[Columns(GROUPS)]),
    ("Ports and services", &[Columns(GROUPS)]),
    ("Flows by group", &[Columns(GROUPS)]),
    // There are not that many groups.
    ("Groups without series of their own", &[Nothing]),
];

const ARCHIVE: &[(&str, &[Expected])] = &[
    (
        "Completeness by agent",
        &[Columns(&[
            ("Bytes", Part(Loss::Bytes)),
            ("Packets", Part(Loss::Packets)),
            ("Flows", Part(Loss::Flows)),
            ("Lost", LostBytes),
            ("Parts are", Doubts),
            ("Told", Told),
        ])],
    ),
    (
        "Waiting to be delivered",
        &[Columns(&[("Records", WaitingRecords), ("Bytes", LostBytes), ("Longest", Oldest)])],
    ),
    ("Age of the oldest that waits", &[Total(Oldest)]),
    ("Ends that were missed", &[Total(Missed)]),
    ("Flows without counters", &[Total(Uncounted)]),
    ("Met in mid-life", &[Total(Midlife)]),
    ("Bytes of finished flows, by protocol", &[Total(Bytes)]),
    ("Flows that ended, by reason", &[Total(Flows)]),
    ("Top openers", &[Columns(RECORDS)]),
    ("Top answerers", &[Columns(RECORDS)]),
    ("Ports", &[Columns(RECORDS)]),
    (
        "Flows",
        &[Documents(&[
            ("source.bytes", SourceBytes),
            ("destination.bytes", DestinationBytes),
            ("source.packets", SourcePackets),
            ("destination.packets", DestinationPackets),
        ])],
    ),
];

/// What the queries of a panel have to return.
pub(super) fn of(board: &Board, title: &str) -> Option<&'static [Expected]> {
    let all = if board.uid() == "conntally-live" { LIVE } else { ARCHIVE };
    all.iter().find(|(name, _)| *name == title).map(|(_, expected)| *expected)
}

/// The panel by which the variables are tried.
pub(super) fn narrowed(board: &Board) -> (&'static str, Narrowed) {
    if board.uid() == "conntally-live" {
        ("Flows by group", Narrowed("Bytes"))
    } else {
        ("Top openers", Narrowed("Sum network.bytes"))
    }
}

/// The column that a choice makes smaller.
pub(super) struct Narrowed(&'static str);

impl Narrowed {
    #[expect(clippy::unused_self, reason = "both columns hold bytes")]
    pub(super) fn whole(&self, played: &Played) -> f64 {
        Bytes.of(played)
    }

    pub(super) fn measured(&self, panel: &Panel, answer: &Answer) -> Result<f64> {
        ensure!(panel.unit(&panel.shown(self.0)) == "bytes", "it is not in bytes");
        Ok(answer.numbers(Some(self.0)).sum())
    }
}

impl Expected {
    pub(super) fn check(
        &self,
        panel: &Panel,
        answer: &Answer,
        played: &Played,
        interval_ms: u64,
    ) -> Result<()> {
        let scale = |unit: &str, figure| scale(unit, figure, interval_ms as f64 / 1_000.0);
        match self {
            Together(expected) => expected.check(panel, answer, played, interval_ms),
            Total(figure) => {
                let sum: f64 = answer.numbers(None).sum();
                same_figure(*figure, panel.title(), sum * scale(&panel.unit(""), *figure)?, figure.of(played))
            }
            Nothing => {
                ensure!(answer.rows() == 0, "there is something");
                Ok(())
            }
            Age => same("time", latest(answer)?, Told.of(played)),
            Columns(columns) => columns.iter().try_for_each(|(shown, figure)| {
                if panel.shown("Time") == *shown {
                    scale(&panel.unit(shown), *figure)?;
                    return same(shown, latest(answer)?, figure.of(played));
                }
                let names = answer.0.iter().flat_map(|series| &series.rows).flat_map(|(_, row)| row.keys());
                let name = names.into_iter().find(|name| panel.shown(name) == *shown);
                ensure!(name.is_some(), "there is no column {shown}");
                let sum: f64 = answer.numbers(name.map(String::as_str)).sum();
                same_figure(*figure, shown, sum * scale(&panel.unit(shown), *figure)?, figure.of(played))
            }),
            Most(figure) => {
                let most = answer.by_time().into_values().fold(0.0, f64::max);
                // In longer intervals the end of flows may hide that they were open.
                let [finest, ..] = INTERVALS_MS;
                ensure!(most <= figure.of(played), "{most} is more than there were");
                if interval_ms > finest { Ok(()) } else { same(panel.title(), most, figure.of(played)) }
            }
            Documents(columns) => {
                for (field, figure) in *columns {
                    let unit = panel.unit(&panel.shown(field));
                    let sum: f64 = answer.numbers(Some(field)).sum();
                    same(field, sum * scale(&unit, *figure)?, figure.of(played))?;
                }
                let shown = panel.columns();
                let missing = shown.iter().filter(|field| {
                    !SOMETIMES.contains(&field.as_str())
                        && !answer.0.iter().all(|one| {
                            one.tags.contains_key(*field)
                                || one.rows.iter().all(|(_, row)| row.contains_key(*field))
                                || (is_counter(field) && is_uncounted(one))
                        })
                });
                let missing: Vec<_> = missing.collect();
                ensure!(missing.is_empty(), "documents lack {missing:?}");
                same("documents", answer.rows() as f64, Flows.of(played))
            }
        }
    }
}

/// The time of the only row.
fn latest(answer: &Answer) -> Result<f64> {
    let times: Vec<_> = answer.0.iter().flat_map(|series| &series.rows).map(|(time, _)| *time).collect();
    let [time] = times.as_slice() else { bail!("there is not one row, but {}", times.len()) };
    Ok(*time as f64)
}

fn is_counter(field: &str) -> bool {
    field.ends_with(".bytes") || field.ends_with(".packets")
}

/// Whether a document says of its flow that nobody knows what it moved.
fn is_uncounted(document: &Series) -> bool {
    document.tags.get("conntally.flags").is_some_and(|flags| flags.contains("no_counters"))
}

fn same_figure(figure: Figure, what: &str, shown: f64, expected: f64) -> Result<()> {
    if matches!(figure, Oldest) {
        ensure!(shown > 0.0 && shown < expected, "{what}: {shown} is not below {expected}, or nothing");
        return Ok(());
    }
    same(what, shown, expected)
}

/// Rates are floats: a sum of quotients is what was divided but for the last digits.
fn same(what: &str, shown: f64, expected: f64) -> Result<()> {
    ensure!((shown - expected).abs() <= 1e-9 * expected.max(1.0), "{what}: {shown} instead of {expected}");
    Ok(())
}

/// What a value in this unit has to be multiplied by to be the figure, summed over intervals where it is a rate.
fn scale(unit: &str, figure: Figure, seconds: f64) -> Result<f64> {
    let is_bytes = matches!(figure, Bytes | SourceBytes | DestinationBytes | LostBytes | Twice(Loss::Bytes));
    let is_packets = matches!(figure, Packets | SourcePackets | DestinationPackets | Twice(Loss::Packets));
    let is_flows = matches!(
        figure,
        Flows | Started | Ended | Open | StillOpen | Missed | Uncounted | Midlife | Twice(Loss::Flows)
    );
    match unit {
        "bps" if is_bytes => Ok(seconds / 8.0),
        "bytes" if is_bytes => Ok(1.0),
        "pps" if is_packets => Ok(seconds),
        "suffix: flows/s" if is_flows => Ok(seconds),
        "short" if is_packets || is_flows || matches!(figure, Doubts | WaitingRecords) => Ok(1.0),
        "ms" if matches!(figure, Oldest) => Ok(1.0),
        "percentunit" if matches!(figure, Part(_)) => Ok(1.0),
        "dateTimeFromNow" if matches!(figure, Told) => Ok(1.0),
        other => bail!("{figure:?} is shown in {other:?}"),
    }
}

impl Figure {
    fn of(self, played: &Played) -> f64 {
        let Played { sent, lost, counted, .. } = played;
        let figure = match self {
            Bytes => Loss::Bytes.of(sent),
            SourceBytes => sent.source.bytes,
            DestinationBytes => sent.destination.bytes,
            Packets => Loss::Packets.of(sent),
            SourcePackets => sent.source.packets,
            DestinationPackets => sent.destination.packets,
            Flows => sent.flows,
            Started => played.started,
            Ended => played.ended,
            Open => played.open,
            StillOpen => played.still_open,
            LostBytes => Loss::Bytes.of(lost),
            // Each flow was told of when it was born, when it moved and when it ended.
            WaitingRecords => 3 * lost.flows,
            Oldest => 120_000,
            Twice(loss) => 2 * loss.of(lost),
            Part(loss) => return 1.0 - loss.of(lost) as f64 / loss.of(counted) as f64,
            Doubts => 1,
            Missed => played.missed,
            Uncounted => played.uncounted,
            Midlife => played.midlife,
            Told => {
                let [.., last] = played.told_ms;
                return last as f64;
            }
        };
        figure as f64
    }
}

impl Loss {
    const fn of(self, sum: &Sum) -> u64 {
        match self {
            Self::Bytes => sum.source.bytes + sum.destination.bytes,
            Self::Packets => sum.source.packets + sum.destination.packets,
            Self::Flows => sum.flows,
        }
    }
}
