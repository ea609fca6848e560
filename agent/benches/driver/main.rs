//! Instructions that one record takes from being handed to a sink until it is delivered, encoding aside; and when it is
//! merged because its sink is slow.
#![expect(clippy::print_stdout, reason = "its result")]

#[path = "../instructions/mod.rs"]
mod instructions;
#[path = "../outcome/mod.rs"]
mod outcome;
#[path = "../comparison/samples.rs"]
mod samples;

use std::{process::ExitCode, sync::Arc};

use anyhow::{Context as _, Result, bail, ensure};
use conntally::config::{DeliveryConfig, QueueConfig};
use conntally::model::{FlowId, Record, RecordKind};
use conntally::pipeline::{Handle, Items, spawn};
use conntally::sinks::null::NullSink;
use serde::Serialize;

/// Instructions of a record at most, by way.
const WAYS: [(&str, u64); 2] = [("delivered", 500), ("merged", 900)];

/// Records of which the count is made.
const RECORDS: u64 = 200_000;

/// Records that come at once.
const BATCH: u64 = 256;

/// Flows of which they are, each in its turn.
const FLOWS: u64 = 8_192;

/// One line of the result.
#[derive(Serialize)]
struct Line {
    bench: &'static str,
    way: &'static str,
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
    for (way, limit) in WAYS {
        let instructions = instructions::per_repetition(way, RECORDS, 2 * RECORDS, || Ok(()))?;
        let line = Line { bench: "driver", way, instructions, limit, ok: instructions <= limit };
        println!("{}", serde_json::to_string(&line)?);
        all_ok &= line.ok;
    }
    Ok(all_ok)
}

/// The work that is counted.
fn work(way: &str, repetitions: u64) -> Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let batches = batches()?;
    runtime.block_on(async {
        match way {
            "delivered" => delivered(&batches, repetitions).await,
            "merged" => merged(&batches, repetitions).await,
            _ => bail!("no such work: {way}"),
        }
    })
}

/// A batch for each part of the flows.
fn batches() -> Result<Vec<Items<Record>>> {
    let kind = samples::KINDS.last().context("there are no samples")?;
    let mut records = samples::of(kind, FLOWS)?;
    for (flow, record) in (0..).zip(&mut records) {
        (record.flow_id, record.kind) = (FlowId(flow), RecordKind::Update);
    }
    Ok(records.chunks(usize::try_from(BATCH)?).map(|part| Arc::new(part.to_vec())).collect())
}

fn start() -> Handle<Record> {
    spawn("null", NullSink, &QueueConfig::default(), &DeliveryConfig::default())
}

async fn delivered(batches: &[Items<Record>], records: u64) -> Result<()> {
    let sink = start();
    for batch in batches.iter().cycle().take(usize::try_from(records / BATCH)?) {
        let _ = sink.offer(0, batch);
        tokio::task::yield_now().await;
    }
    sink.close();
    sink.ended().await;
    ensure!(sink.report().delivered.records == records / BATCH * BATCH, "something was not delivered");
    Ok(())
}

/// The driver gets no turn meanwhile.
async fn merged(batches: &[Items<Record>], records: u64) -> Result<()> {
    let queue = QueueConfig { records: 4 * u32::try_from(FLOWS)?, ..QueueConfig::default() };
    let sink = spawn("null", NullSink, &queue, &DeliveryConfig::default());
    let rounds = batches.iter().cycle().take(usize::try_from(records / BATCH)?);
    for batch in rounds {
        let _ = sink.offer(0, batch);
    }
    let merged = sink.report().merged;
    sink.close();
    sink.ended().await;
    ensure!(merged > records / 2, "little was merged");
    sink.report().delivered.records.checked_sub(1).context("nothing was delivered")?;
    Ok(())
}
