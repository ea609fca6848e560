//! A server that does what it should.

use anyhow::{Result, ensure};

use crate::scene::Scene;

/// More than fit one request in some cases, few enough for a second.
const FLOWS: u64 = 2_000;

pub(super) fn accounts(scene: &mut Scene<'_>) -> Result<()> {
    let mut run = scene.start("")?;
    run.feed.wave(FLOWS)?;
    let (ended, _) = scene.finish(run)?;
    ensure!(ended.log.contains("nothing was lost"), "the log does not say it:\n{}", ended.log);
    Ok(())
}

pub(super) fn delivers(scene: &mut Scene<'_>) -> Result<()> {
    let mut run = scene.start("")?;
    run.feed.wave(FLOWS)?;
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
