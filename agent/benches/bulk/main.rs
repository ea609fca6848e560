//! Instructions that one record takes to become an item of a bulk request, beside what serde_json takes for the same.
#![expect(clippy::print_stdout, reason = "its result")]

#[path = "../json/derived.rs"]
mod derived;
#[path = "../instructions/mod.rs"]
mod instructions;
#[path = "../json/samples.rs"]
mod samples;

use std::{hint::black_box, process::ExitCode, sync::Arc};

use anyhow::{Context as _, Result, bail, ensure};
use conntally::{
    model::Record,
    sinks::{
        elasticsearch::{BulkEncoder, Counters, DataStream},
        json::EncodeContext,
        names::event_type,
    },
};
use serde::Serialize;

/// Instructions of an item at most, its Community ID included.
const LIMIT: u64 = 2_800;

/// How many times as much serde_json must take.
const TIMES: f64 = 4.0;

/// Records of which the count is made; they differ in their digits.
const RECORDS: u64 = 512;

/// Records that the driver has encoded at once.
const BATCH: usize = 64;

/// One line of the result.
#[derive(Serialize)]
struct Line {
    bench: &'static str,
    record: &'static str,
    /// Bytes of the first item of that kind.
    bytes: usize,
    instructions: u64,
    limit: u64,
    serde_json: u64,
    times: f64,
    at_least: f64,
    ok: bool,
}

#[derive(Serialize)]
struct Action {
    create: Create,
}

#[derive(Serialize)]
struct Create {
    _id: String,
}

#[derive(Serialize)]
struct Beginning {
    data_stream: Stream,
}

#[derive(Serialize)]
struct Stream {
    r#type: &'static str,
    dataset: &'static str,
    namespace: &'static str,
}

fn main() -> ExitCode {
    match run() {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            println!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
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
    let bytes = same_item(kind)?;
    let count =
        |encoder| instructions::per_repetition(&format!("{kind} {encoder}"), RECORDS, 2 * RECORDS, || Ok(()));
    let (own, serde_json) = (count("own")?, count("serde_json")?);
    let times = serde_json as f64 / own.max(1) as f64;
    Ok(Line {
        bench: "bulk",
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
fn same_item(kind: &str) -> Result<usize> {
    let records = samples::of(kind, RECORDS)?;
    let (mut own, mut ends, mut other) = (Vec::new(), Vec::new(), Vec::new());
    encoder().encode(&records, &mut own, &mut ends);
    for record in &records {
        derived_item(record, &context(), &mut other)?;
    }
    ensure!(own == other, "not the same items");
    ends.first().map(|end| *end as usize).context("no record")
}

/// The same item as one would write it without an encoder of one's own.
fn derived_item(record: &Record, context: &EncodeContext, out: &mut Vec<u8>) -> Result<()> {
    let id = format!("{}-{}-{}", record.flow_id, event_type(record.kind), record.observed_boot_ns);
    serde_json::to_writer(&mut *out, &Action { create: Create { _id: id } })?;
    out.push(b'\n');
    let stream = Stream { r#type: "logs", dataset: "conntally.flow", namespace: "default" };
    serde_json::to_writer(&mut *out, &Beginning { data_stream: stream })?;
    // Two objects become one.
    let seam = out.len() - 1;
    derived::encode(record, context, out)?;
    if let Some(comma) = out.get_mut(seam) {
        *comma = b',';
    }
    out.remove(seam + 1);
    Ok(())
}

fn encoder() -> BulkEncoder {
    BulkEncoder::new(context(), Counters::Total, &DataStream::of("default"))
}

fn context() -> EncodeContext {
    let name: Arc<str> = Arc::from("customer-17");
    EncodeContext {
        host: "gw1.example.net".to_owned(),
        netns_name: Box::new(move |_| Some(Arc::clone(&name))),
        networks: Arc::default(),
    }
}

/// The work that is counted: that many records into a buffer that is as big as it will be.
fn work(what: &str, repetitions: u64) -> Result<()> {
    let Some((kind, by)) = what.split_once(' ') else { bail!("no such work: {what}") };
    let records = samples::of(kind, 2 * RECORDS)?;
    let records = records.get(..usize::try_from(repetitions)?).context("more repetitions than records")?;
    let (mut out, mut ends) = (Vec::with_capacity(1024 * 1024), Vec::with_capacity(1024));
    if by == "own" {
        let mut encoder = encoder();
        for batch in records.chunks(BATCH) {
            out.clear();
            ends.clear();
            encoder.encode(black_box(batch), &mut out, &mut ends);
            black_box((&out, &ends));
        }
        return Ok(());
    }
    let context = context();
    for record in records {
        out.clear();
        derived_item(black_box(record), &context, &mut out)?;
        black_box(&out);
    }
    Ok(())
}
