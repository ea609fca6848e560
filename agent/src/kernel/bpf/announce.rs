//! Announces flows that a probe could only give a slot: their first packet may be their last for a long time.

use anyhow::Context;
use aya::{
    Ebpf, TestRun,
    maps::Array,
    programs::{RawTracePoint, RawTracePointRunOptions},
};
use conntally_common::ANNOUNCE_BATCH;

/// Runs of the program in one go, so that a flood cannot keep the reader from the rings.
const RUNS: usize = 2048;

/// Loads the program that announces.
pub(super) fn load(ebpf: &mut Ebpf) -> anyhow::Result<()> {
    let program = program(ebpf)?;
    if program.fd().is_err() {
        program.load().context("the program announce cannot be loaded")?;
    }
    Ok(())
}

/// Announces what waits in the queue.
pub(super) fn run(ebpf: &mut Ebpf) -> anyhow::Result<()> {
    for _ in 0..RUNS {
        program(ebpf)?
            .test_run(RawTracePointRunOptions::new())
            .context("the program announce cannot be run")?;
        let map = ebpf.map("TAKEN").context("the kernel programs have no map TAKEN")?;
        let taken: u32 = Array::try_from(map)?.get(&0, 0)?;
        if taken < ANNOUNCE_BATCH {
            break;
        }
    }
    Ok(())
}

fn program(ebpf: &mut Ebpf) -> anyhow::Result<&mut RawTracePoint> {
    Ok(ebpf.program_mut("announce").context("the kernel programs have no program announce")?.try_into()?)
}
