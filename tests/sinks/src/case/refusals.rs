//! What cannot be delivered.

use std::time::Duration;

use anyhow::{Result, ensure};

use crate::scene::Scene;

/// Between two waves: the first is older than what some servers keep.
const OLD: Duration = Duration::from_secs(7_000);

/// The poison hits some flows only: the others are stored.
pub(super) fn gives_up_loudly(scene: &mut Scene<'_>) -> Result<()> {
    scene.subject().poison(&scene.target())?;
    let mut run = scene.start("")?;
    run.feed.wave(150)?;
    run.feed.pass(OLD);
    run.feed.wave(150)?;
    let (ended, ledger) = scene.end(run)?;
    let stored = scene.stored()?;
    ensure!(stored.source.bytes > 0 && stored != ledger, "stored {stored} of {ledger}:\n{}", ended.log);
    let missing = ledger - stored;
    ensure!(ended.log.contains("gave up"), "the log tells nothing of it:\n{}", ended.log);
    expect_loss(&ended.log, missing.source.bytes + missing.destination.bytes)
}

/// The server never comes.
pub(super) fn counts(scene: &mut Scene<'_>) -> Result<()> {
    scene.hurry(Duration::from_secs(2));
    scene.proxy()?.go_away()?;
    let mut run = scene.start("")?;
    run.feed.wave(300)?;
    scene.until("the log tells that the server is away", &run.agent, || {
        Ok(run.agent.log().contains("retrying"))
    })?;
    run.agent.terminate()?;
    let (ended, ledger) = scene.end(run)?;
    expect_loss(&ended.log, ledger.source.bytes + ledger.destination.bytes)
}

/// Nobody knows the server's name.
pub(super) fn no_such_name(scene: &mut Scene<'_>) -> Result<()> {
    scene.hurry(Duration::from_secs(2));
    scene.point_at("http://nowhere.invalid:8086");
    let mut run = scene.start("")?;
    run.feed.wave(100)?;
    let told = || {
        let log = run.agent.log();
        Ok(log.lines().any(|line| line.contains("sink test") && line.contains("nowhere.invalid")))
    };
    scene.until("the log tells the name that nobody knows", &run.agent, told)?;
    run.agent.terminate()?;
    let (ended, ledger) = scene.end(run)?;
    expect_loss(&ended.log, ledger.source.bytes + ledger.destination.bytes)
}

/// The log names the bytes that are missing.
fn expect_loss(log: &str, bytes: u64) -> Result<()> {
    let digits: String = log.chars().filter(|c| *c != ',' && *c != '_').collect();
    ensure!(digits.contains(&bytes.to_string()), "the log does not tell the loss of {bytes} bytes:\n{log}");
    Ok(())
}
