//! Servers that are not there for a while.

use std::thread::sleep;
use std::time::Duration;

use anyhow::Result;

use crate::scene::Scene;
use crate::sum::Sum;

pub(super) fn away(scene: &mut Scene<'_>) -> Result<()> {
    scene.proxy()?.go_away()?;
    let mut run = scene.start("")?;
    run.feed.wave(100)?;
    scene.until("the log tells that the server is away", &run.agent, || {
        Ok(run.agent.log().contains("retrying"))
    })?;
    scene.proxy()?.come_back()?;
    run.feed.wave(100)?;
    let (ended, ledger) = scene.finish(run)?;
    scene.expect_stored(ledger, &ended)
}

/// Waves go on while the server is killed, is down, and comes back.
pub(super) fn restart(scene: &mut Scene<'_>) -> Result<()> {
    let mut run = scene.start("")?;
    run.feed.wave(500)?;
    scene.until("something is stored", &run.agent, || Ok(scene.stored()? != Sum::default()))?;
    run.feed.wave(2_000)?;
    scene.server()?.kill()?;
    run.feed.wave(500)?;
    sleep(Duration::from_secs(1));
    scene.server()?.resume()?;
    run.feed.wave(500)?;
    scene.until_still(run.feed.ledger())?;
    let (ended, ledger) = scene.finish(run)?;
    scene.expect_stored(ledger, &ended)
}
