//! A server that does what it should.

use anyhow::{Result, ensure};

use crate::scene::Scene;

/// More than fit one request in some cases, few enough for a second.
const FLOWS: u64 = 2_000;

fn flows(scene: &Scene<'_>) -> u64 {
    FLOWS.min(scene.subject().most_flows())
}

pub(super) fn accounts(scene: &mut Scene<'_>) -> Result<()> {
    let mut run = scene.start("")?;
    run.feed.wave(flows(scene))?;
    let (ended, _) = scene.finish(run)?;
    ensure!(ended.log.contains("nothing was lost"), "the log does not say it:\n{}", ended.log);
    Ok(())
}

pub(super) fn delivers(scene: &mut Scene<'_>) -> Result<()> {
    let mut run = scene.start("")?;
    run.feed.wave(flows(scene))?;
    let (ended, ledger) = scene.finish(run)?;
    scene.expect_stored(ledger, &ended)
}

/// A step back brings the same intervals once more, and one forth skips some.
pub(super) fn clock_step(scene: &mut Scene<'_>) -> Result<()> {
    const STEPS: [i64; 5] = [-3, -65, 40, -7, 3];
    let mut run = scene.start("")?;
    for seconds in STEPS {
        run.feed.wave(flows(scene) / STEPS.len() as u64)?;
        run.feed.step_clock(seconds);
    }
    run.feed.wave(1)?;
    let (ended, ledger) = scene.finish(run)?;
    scene.expect_stored(ledger, &ended)
}

pub(super) fn batches(scene: &mut Scene<'_>) -> Result<()> {
    let mut run = scene.start("batch_records = 100000\nbatch_bytes = \"16MiB\"\nbatch_age = \"2s\"\n")?;
    run.feed.wave(FLOWS)?;
    let (ended, ledger) = scene.finish(run)?;
    let requests = scene.proxy()?.seen().len();
    ensure!((1..=6).contains(&requests), "{requests} requests for {FLOWS} flows");
    scene.expect_stored(ledger, &ended)
}
