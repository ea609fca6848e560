//! Memory of the flow table for a million flows, and of the kernel's slot table for each flow it has room for.
#![expect(clippy::print_stdout, reason = "its result")]

mod outcome;
#[path = "../tests/sights/mod.rs"]
mod sights;

use std::process::ExitCode;

use anyhow::{Context as _, Result};
use conntally::{
    flow::{Anchor, FlowTable, FlowTableOptions},
    model::{Counter, Family, Observation, ObservationKind, Totals, Tuple, protocol},
    source::Batch,
};
use conntally_common::Bucket;
use serde::Serialize;
use sights::sight;

const FLOWS: u32 = 1_000_000;

/// Bytes of a flow in user space at most.
const LIMIT: u64 = 300;

/// Bytes of kernel maps for each slot at most.
const KERNEL_LIMIT: u64 = 128;

#[derive(Serialize)]
struct Line {
    bench: &'static str,
    flows: u64,
    /// By how much this process has grown, for each flow.
    bytes_per_flow: u64,
    /// What the table itself says that it holds, for each flow.
    counted_bytes_per_flow: u64,
    limit: u64,
    /// Bytes of the slot table for each flow that `slots` says, where that is a power of two as its default mostly is.
    kernel_bytes_per_slot: u64,
    /// The same where it is just above one: buckets are a power of two.
    kernel_bytes_per_slot_at_worst: u64,
    kernel_limit: u64,
    ok: bool,
}

fn main() -> ExitCode {
    outcome::exit_code(measure())
}

fn measure() -> Result<bool> {
    let since = Anchor { real_ns: 0, boot_ns: 0 };
    let mut table = FlowTable::new(FlowTableOptions::new(FLOWS as usize, [0; 16], since));
    let (mut batch, mut records) = (Batch::default(), Vec::new());
    // What batches need is there before, and stays the same.
    fill(&mut batch, 0);
    records.reserve(BATCH as usize);
    let before = resident()?;
    for start in (0..FLOWS).step_by(BATCH as usize) {
        fill(&mut batch, start);
        records.clear();
        table.apply(&batch, &mut records);
    }
    let grown = resident()?.saturating_sub(before);
    let flows = table.len() as u64;
    let bytes_per_flow = grown / flows.max(1);
    let counted_bytes_per_flow = table.memory() as u64 / flows.max(1);
    // One bucket for each flow that `slots` says.
    let kernel_bytes_per_slot = size_of::<Bucket>() as u64;
    let ok = flows == u64::from(FLOWS)
        && bytes_per_flow.max(counted_bytes_per_flow) <= LIMIT
        && kernel_bytes_per_slot <= KERNEL_LIMIT;
    let line = Line {
        bench: "memory",
        flows,
        bytes_per_flow,
        counted_bytes_per_flow,
        limit: LIMIT,
        kernel_bytes_per_slot,
        kernel_bytes_per_slot_at_worst: 2 * kernel_bytes_per_slot,
        kernel_limit: KERNEL_LIMIT,
        ok,
    };
    println!("{}", serde_json::to_string(&line)?);
    Ok(ok)
}

const BATCH: u32 = 10_000;

fn fill(batch: &mut Batch, start: u32) {
    batch.clear();
    batch.observations.extend((start..start + BATCH).map(birth));
}

fn birth(number: u32) -> Observation {
    let [_, a, b, c] = number.to_be_bytes();
    let mut original = Tuple {
        family: Family::V4,
        protocol: protocol::UDP,
        src_port: 40_000,
        dst_port: 53,
        ..Tuple::default()
    };
    for (place, byte) in original.src.iter_mut().zip([10, a, b, c]) {
        *place = byte;
    }
    let totals = Totals { original: Counter { packets: 1, bytes: 76 }, reply: Counter::default() };
    let conntrack = u64::from(number) << 8;
    Observation {
        conntrack,
        born_ns: 1_000,
        start_ns: 1_000,
        totals,
        ..sight(ObservationKind::New, original, 1_000)
    }
}

/// Bytes of this process that are in memory.
fn resident() -> Result<u64> {
    let status = std::fs::read_to_string("/proc/self/status").context("cannot read /proc/self/status")?;
    let kib = status.lines().find_map(|line| line.strip_prefix("VmRSS:")?.trim().strip_suffix(" kB"));
    let kib: u64 = kib.context("no VmRSS")?.trim().parse().context("no number at VmRSS")?;
    Ok(kib * 1024)
}
