//! Connections that break, hang or answer nonsense.

use std::time::{Duration, Instant};

use anyhow::{Result, ensure};

use crate::proxy::Fault;
use crate::scene::Scene;

/// Two tries of 2 s each time out in the worst case, with pauses of a second; the rest is for a busy machine.
const SOON: Duration = Duration::from_secs(45);

/// Two requests in a row meet the fault; then all passes and everything is stored once.
fn survives(scene: &Scene<'_>, fault: &Fault) -> Result<()> {
    scene.proxy()?.order([fault.clone(), fault.clone()]);
    let begin = Instant::now();
    let mut run = scene.start("")?;
    run.feed.wave(100)?;
    let (ended, ledger) = scene.finish(run)?;
    let left = scene.proxy()?.left();
    ensure!(left == 0, "{left} faults met no request; log of the agent:\n{}", ended.log);
    ensure!(begin.elapsed() < SOON, "it took {:?}; log of the agent:\n{}", begin.elapsed(), ended.log);
    let told = ended.log.lines().any(|line| line.contains("sink test") && line.contains("retrying"));
    ensure!(told, "the log does not tell the failure:\n{}", ended.log);
    scene.expect_stored(ledger, &ended)
}

pub(super) fn reset_request(scene: &mut Scene<'_>) -> Result<()> {
    survives(scene, &Fault::ResetRequest)
}

pub(super) fn reset_answer(scene: &mut Scene<'_>) -> Result<()> {
    survives(scene, &Fault::ResetAnswer)
}

pub(super) fn truncated(scene: &mut Scene<'_>) -> Result<()> {
    survives(scene, &Fault::Truncate)
}

pub(super) fn scrambled(scene: &mut Scene<'_>) -> Result<()> {
    survives(scene, &Fault::ScrambleBody)
}

pub(super) fn garbage(scene: &mut Scene<'_>) -> Result<()> {
    survives(scene, &Fault::Garbage)
}

pub(super) fn half_closed(scene: &mut Scene<'_>) -> Result<()> {
    survives(scene, &Fault::HalfClose)
}

pub(super) fn silence(scene: &mut Scene<'_>) -> Result<()> {
    survives(scene, &Fault::Silence)
}

pub(super) fn slow_loris(scene: &mut Scene<'_>) -> Result<()> {
    survives(scene, &Fault::Trickle(Duration::from_millis(200)))
}
