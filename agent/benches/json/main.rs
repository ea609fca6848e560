//! Instructions that one record takes to become a line of JSON, beside what serde_json takes for the same line.
#![expect(clippy::print_stdout, reason = "its result")]

mod derived;
#[path = "../instructions/mod.rs"]
mod instructions;
#[path = "../outcome/mod.rs"]
mod outcome;
mod samples;

use std::{hint::black_box, process::ExitCode, sync::Arc};

use anyhow::{Context as _, Result, bail, ensure};
use conntally::sinks::json::{EncodeContext, Encoder};
use serde::Serialize;

/// Instructions of a record at most, its Community ID included.
const LIMIT: u64 = 2_500;

/// How many times as much serde_json must take.
const TIMES: f64 = 4.0;

/// Records of which the count is made; they differ in their digits.
const RECORDS: u64 = 512;

/// Records of a batch: as many as the output encodes at once.
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
    serde_json: u64,
    times: f64,
    at_least: f64,
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
    for &kind in samples::KINDS {
        let line = measure(kind)?;
        println!("{}", serde_json::to_string(&line)?);
        all_ok &= line.ok;
    }
    Ok(all_ok)
}

fn measure(kind: &'static str) -> Result<Line> {
    let bytes = same_line(kind)?;
    let count =
        |encoder| instructions::per_repetition(&format!("{kind} {encoder}"), RECORDS, 2 * RECORDS, || Ok(()));
    let (own, serde_json) = (count("own")?, count("serde_json")?);
    let times = serde_json as f64 / own.max(1) as f64;
    Ok(Line {
        bench: "json",
        record: kind,
        bytes,
        instructions: own,
        limit: LIMIT,
        serde_json,
        times: (times * 100.0).round() / 100.0,
        at_least: TIMES,
        ok: own <= LIMIT && times >= TIMES,
    })
}

/// Proves that both write the same, byte for byte.
fn same_line(kind: &str) -> Result<usize> {
    let (mut own, mut other) = (Vec::new(), Vec::new());
    let records = samples::of(kind, RECORDS)?;
    let (mut encoder, mut all) = (Encoder::new(context()), Vec::new());
    encoder.encode(&records, &mut all);
    let mut rest = all.as_slice();
    for record in &records {
        own.clear();
        other.clear();
        encoder.encode(std::slice::from_ref(record), &mut own);
        derived::encode(record, &context(), &mut other)?;
        rest = rest.strip_prefix(own.as_slice()).context("not the same line in a batch as alone")?;
        ensure!(
            own == other,
            "not the same line:\n{}{}",
            String::from_utf8_lossy(&own),
            String::from_utf8_lossy(&other)
        );
    }
    Ok(own.len())
}

fn context() -> EncodeContext {
    let name: Arc<str> = Arc::from("customer-17");
    EncodeContext {
        host: "gw1.example.net".to_owned(),
        netns_name: Box::new(move |_| Some(Arc::clone(&name))),
        networks: Arc::default(),
    }
}

/// The work that is counted: that many records into a buffer that is as big as it will be. The agent's encoder gets
/// them in batches, as from its queue.
fn work(what: &str, repetitions: u64) -> Result<()> {
    let Some((kind, encoder)) = what.split_once(' ') else { bail!("no such work: {what}") };
    let records = samples::of(kind, 2 * RECORDS)?;
    let records = records.get(..usize::try_from(repetitions)?).context("more repetitions than records")?;
    let (context, mut out) = (context(), Vec::with_capacity(1024 * 1024));
    if encoder == "own" {
        let mut encoder = Encoder::new(context);
        for batch in records.chunks(BATCH) {
            out.clear();
            encoder.encode(black_box(batch), &mut out);
            black_box(&out);
        }
        return Ok(());
    }
    for record in records {
        out.clear();
        derived::encode(black_box(record), &context, &mut out)?;
        black_box(&out);
    }
    Ok(())
}
