//! Requests are as large as they may be.

use anyhow::{Result, ensure};

use crate::proxy::Fault;
use crate::scene::Scene;

pub(super) fn keeps_limits(scene: &mut Scene<'_>) -> Result<()> {
    let mut run = scene.start("batch_bytes = \"4KiB\"\ncompress = false\n")?;
    run.feed.wave(300)?;
    let (ended, ledger) = scene.finish(run)?;
    let seen = scene.proxy()?.seen();
    let largest = seen.iter().map(|seen| seen.bytes).max().unwrap_or(0);
    ensure!(seen.len() > 1, "all went in one request of {largest} bytes");
    ensure!(largest <= 4 << 10, "a request had {largest} bytes");
    scene.expect_stored(ledger, &ended)
}

pub(super) fn halves(scene: &mut Scene<'_>) -> Result<()> {
    scene.proxy()?.order([Fault::Answer { status: 413, retry_after: None, body: "" }]);
    let mut run = scene.start("compress = false\nbatch_age = \"2s\"\n")?;
    run.feed.wave(300)?;
    let (ended, ledger) = scene.finish(run)?;
    let seen = scene.proxy()?.seen();
    let refused = seen.first().map_or(0, |seen| seen.bytes);
    let largest = seen.iter().skip(1).map(|seen| seen.bytes).max().unwrap_or(0);
    ensure!(seen.len() > 2 && largest < refused, "after one of {refused} bytes came one of {largest}");
    scene.expect_stored(ledger, &ended)
}
