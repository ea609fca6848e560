//! Instructions that one record takes to become a line of JSON, beside what serde_json takes for the same line.
#![expect(clippy::print_stdout, reason = "its result")]

#[path = "../comparison/mod.rs"]
mod comparison;

use std::{hint::black_box, process::ExitCode};

use anyhow::{Context as _, Result, ensure};
use conntally::{model::Record, sinks::json::Encoder};

use comparison::{Comparison, buffer, context, derived};

/// Records of a batch: as many as the output encodes at once.
const BATCH: usize = 256;

fn main() -> ExitCode {
    Comparison { bench: "json", limit: 2_500, same, own, serde_json }.run()
}

/// Alone, in a batch, and by serde_json.
fn same(records: &[Record]) -> Result<usize> {
    let (mut encoder, mut all) = (Encoder::new(context()), Vec::new());
    encoder.encode(records, &mut all);
    let (mut rest, mut first) = (all.as_slice(), None);
    for record in records {
        let (mut alone, mut other) = (Vec::new(), Vec::new());
        encoder.encode(std::slice::from_ref(record), &mut alone);
        derived::encode(record, &context(), &mut other)?;
        rest = rest.strip_prefix(alone.as_slice()).context("not the same line in a batch as alone")?;
        ensure!(
            alone == other,
            "not the same line:\n{}{}",
            String::from_utf8_lossy(&alone),
            String::from_utf8_lossy(&other)
        );
        first = first.or(Some(alone.len()));
    }
    first.context("no record")
}

/// In batches, as from the agent's queue.
fn own(records: &[Record]) -> Result<()> {
    let (mut encoder, mut out) = (Encoder::new(context()), buffer());
    for batch in records.chunks(BATCH) {
        out.clear();
        encoder.encode(black_box(batch), &mut out);
        black_box(&out);
    }
    Ok(())
}

fn serde_json(records: &[Record]) -> Result<()> {
    let (context, mut out) = (context(), buffer());
    for record in records {
        out.clear();
        derived::encode(black_box(record), &context, &mut out)?;
        black_box(&out);
    }
    Ok(())
}
