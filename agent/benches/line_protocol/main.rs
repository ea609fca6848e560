//! Instructions that one record, or one point of a group, takes to become a line of line protocol.
#![expect(clippy::print_stdout, reason = "its result")]

#[path = "../instructions/mod.rs"]
mod instructions;
#[path = "../outcome/mod.rs"]
mod outcome;
#[path = "../comparison/samples.rs"]
mod samples;

use std::hint::black_box;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use anyhow::{Context as _, Result};
use conntally::model::Record;
use conntally::pipeline::{Group, Point, Sums, TagName};
use conntally::sinks::influxdb::{Series, ToLine};
use serde::Serialize;

/// Instructions of a record at most.
const LIMIT: u64 = 1_500;

/// Records of which the count is made; they differ in their digits.
const RECORDS: u64 = 512;

/// Records of a batch.
const BATCH: usize = 256;

/// One line of the result.
#[derive(Serialize)]
struct Line {
    bench: &'static str,
    record: &'static str,
    /// Bytes of the first line of that kind.
    bytes: usize,
    instructions: u64,
    limit: u64,
    ok: bool,
}

fn main() -> ExitCode {
    outcome::exit_code(run())
}

fn run() -> Result<bool> {
    if instructions::answer(work)? {
        return Ok(true);
    }
    let mut all_ok = true;
    for &kind in samples::KINDS.iter().chain(&["point"]) {
        let instructions = instructions::per_repetition(kind, RECORDS, 2 * RECORDS, || Ok(()))?;
        let mut first = Vec::new();
        match kind {
            "point" => point(samples::of("udp6_update", 1)?.first().context("no record")?)
                .to_line(&series(), &mut first),
            _ => samples::of(kind, 1)?.first().context("no record")?.to_line(&series(), &mut first),
        }
        let ok = instructions <= LIMIT;
        let bytes = first.len();
        let line = Line { bench: "line_protocol", record: kind, bytes, instructions, limit: LIMIT, ok };
        println!("{}", serde_json::to_string(&line)?);
        all_ok &= ok;
    }
    Ok(all_ok)
}

fn series() -> Series {
    Series::new("flows", "gw1.example.net", Duration::from_secs(10), SystemTime::UNIX_EPOCH)
}

/// A group by networks, service and protocol.
fn point(record: &Record) -> Point {
    let tags = [
        (TagName::Dst, "198.51.100.0/24"),
        (TagName::Port, "https"),
        (TagName::Proto, "tcp"),
        (TagName::Src, "customer-17"),
    ];
    let tags = tags.into_iter().map(|(name, value)| (name, value.into())).collect();
    Point {
        group: Arc::new(Group { series: 1, tags, is_other: false }),
        start_ns: record.observed_ns,
        end_ns: record.observed_ns.saturating_add(10_000_000_000),
        sums: Sums::of(record),
        open_flows: 12,
    }
}

/// The work that is counted: that many lines into a buffer that is as big as it will be.
fn work(kind: &str, repetitions: u64) -> Result<()> {
    let of = if kind == "point" { "udp6_update" } else { kind };
    let records = samples::of(of, 2 * RECORDS)?;
    let points: Vec<Point> = records.iter().map(point).collect();
    let repetitions = usize::try_from(repetitions)?;
    match kind {
        "point" => write(points.get(..repetitions).context("too many repetitions")?),
        _ => write(records.get(..repetitions).context("too many repetitions")?),
    }
    Ok(())
}

fn write(items: &[impl ToLine]) {
    let (series, mut out) = (series(), Vec::with_capacity(1024 * 1024));
    for batch in items.chunks(BATCH) {
        out.clear();
        for item in batch {
            black_box(item).to_line(&series, &mut out);
        }
        black_box(&out);
    }
}
