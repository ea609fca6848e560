//! Instructions that one record takes to become an item of a bulk request, beside what serde_json takes for the same.
#![expect(clippy::print_stdout, reason = "its result")]

#[path = "../comparison/mod.rs"]
mod comparison;

use std::{hint::black_box, process::ExitCode};

use anyhow::{Context as _, Result, ensure};
use conntally::{
    model::Record,
    sinks::{
        elasticsearch::{BulkEncoder, Counters, DataStream},
        json::EncodeContext,
        names::event_type,
    },
};
use serde::Serialize;

use comparison::{Comparison, buffer, context, derived};

/// Records that the driver has encoded at once.
const BATCH: usize = 64;

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
    Comparison { bench: "bulk", limit: 2_800, same, own, serde_json }.run()
}

fn same(records: &[Record]) -> Result<usize> {
    let (mut own, mut ends, mut other) = (Vec::new(), Vec::new(), Vec::new());
    encoder().encode(records, &mut own, &mut ends);
    for record in records {
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

fn own(records: &[Record]) -> Result<()> {
    let (mut encoder, mut out, mut ends) = (encoder(), buffer(), Vec::with_capacity(1024));
    for batch in records.chunks(BATCH) {
        out.clear();
        ends.clear();
        encoder.encode(black_box(batch), &mut out, &mut ends);
        black_box((&out, &ends));
    }
    Ok(())
}

fn serde_json(records: &[Record]) -> Result<()> {
    let (context, mut out) = (context(), buffer());
    for record in records {
        out.clear();
        derived_item(black_box(record), &context, &mut out)?;
        black_box(&out);
    }
    Ok(())
}
