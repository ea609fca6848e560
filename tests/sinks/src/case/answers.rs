//! Servers that answer with a failure.

use std::time::Duration;

use anyhow::{Result, ensure};

use crate::proxy::Fault;
use crate::scene::Scene;

/// What a server, or a proxy before it, answers while it cannot.
const PASSING: [u16; 6] = [429, 500, 502, 503, 504, 408];

/// What a person has to mend: a token, a right, a name.
const TO_BE_MENDED: [u16; 3] = [401, 403, 404];

pub(super) fn retries(scene: &mut Scene<'_>) -> Result<()> {
    scene.proxy()?.order(PASSING.map(Fault::status));
    let mut run = scene.start("")?;
    run.feed.wave(100)?;
    let (ended, ledger) = scene.finish(run)?;
    let left = scene.proxy()?.left();
    ensure!(left == 0, "{left} failures met no request; log of the agent:\n{}", ended.log);
    scene.expect_stored(ledger, &ended)
}

pub(super) fn obeys_retry_after(scene: &mut Scene<'_>) -> Result<()> {
    scene.proxy()?.order([Fault::busy(429, "3"), Fault::busy(503, "3")]);
    let mut run = scene.start("")?;
    run.feed.wave(100)?;
    // An agent that is about to end does not wait that long.
    scene.until("all pauses are over", &run.agent, || Ok(scene.proxy()?.seen().len() >= 3))?;
    let (ended, ledger) = scene.finish(run)?;
    let seen = scene.proxy()?.seen();
    for pair in seen.windows(2).take(2) {
        let [before, after] = pair else { continue };
        let pause = after.at - before.at;
        ensure!(pause >= Duration::from_millis(2_900), "after {:?} it waited {pause:?} only", before.status);
        ensure!(pause < Duration::from_secs(10), "after {:?} it waited {pause:?}", before.status);
    }
    scene.expect_stored(ledger, &ended)
}

pub(super) fn waits_for_a_person(scene: &mut Scene<'_>) -> Result<()> {
    scene.proxy()?.order(TO_BE_MENDED.map(Fault::status));
    let mut run = scene.start("")?;
    run.feed.wave(100)?;
    let (ended, ledger) = scene.finish(run)?;
    let told = ended.log.lines().any(|line| line.contains("sink test") && line.contains("401"));
    ensure!(told, "the log does not tell the 401:\n{}", ended.log);
    scene.expect_stored(ledger, &ended)
}
