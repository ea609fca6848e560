//! What waits on disk: over an outage that is longer than the queue, and over kills.

use std::fs;
use std::path::Path;
use std::thread::sleep;
use std::time::Duration;

use anyhow::{Result, ensure};

use crate::proxy::Fault;
use crate::scene::{Run, Scene};
use crate::sum::Sum;

/// Queue and files are as small as they may be, and so are requests, so that there are many.
const SMALL: &str = "queue_records = 1024\nbatch_records = 50\nwhen_full = \"spool\"\n";

/// Flows of a wave: more than the queue holds, also where a sink gets only their ends.
const WAVE: u64 = 2_000;

/// An outage is as long as the queue and three files of the spool last, and longer.
const SEGMENTS: usize = 4;

/// So many waves fill them.
const WAVES: usize = 4;

/// So many requests pass before an agent is killed, one agent after the other.
const PASSES: [usize; 5] = [2, 0, 5, 1, 3];

fn lines(scene: &Scene<'_>) -> String {
    format!(
        "{SMALL}{}spool = {{ dir = \"{}\", segment_bytes = \"1MiB\" }}",
        scene.subject().apart(),
        spool(scene).display()
    )
}

fn spool(scene: &Scene<'_>) -> std::path::PathBuf {
    scene.folder().join("spool")
}

/// An agent fills its spool while the server is away, and ends.
fn fill(scene: &Scene<'_>, waves: usize) -> Result<Sum> {
    scene.proxy()?.go_away()?;
    let mut run = scene.start(&lines(scene))?;
    for _ in 0..waves {
        run.feed.wave(WAVE)?;
    }
    let (ended, ledger) = scene.finish(run)?;
    ensure!(ended.log.contains("account: nothing was lost"), "its log:\n{}", ended.log);
    ensure!(ended.log.contains("to be delivered by the next start"), "its log:\n{}", ended.log);
    ensure!(bytes(&spool(scene)) > 0, "there is no spool");
    scene.proxy()?.come_back()?;
    Ok(ledger)
}

/// The next agent delivers what the one before could not.
pub(super) fn outage(scene: &mut Scene<'_>) -> Result<()> {
    let ledger = fill(scene, WAVES)?;
    let segments = segments(&spool(scene));
    ensure!(segments >= SEGMENTS, "the spool has {segments} segments of {} bytes", bytes(&spool(scene)));
    let run = scene.start(&lines(scene))?;
    until_stored(scene, &run, ledger)?;
    let (ended, _) = scene.finish(run)?;
    ensure!(!ended.log.contains("to be delivered by the next start"), "its log:\n{}", ended.log);
    scene.expect_stored(ledger, &ended)
}

/// Agents are killed while they empty the spool, each with a request of which the server took all and the agent knows
/// nothing.
pub(super) fn kills(scene: &mut Scene<'_>) -> Result<()> {
    let ledger = fill(scene, 2 * scene.kills().div_ceil(PASSES.len()))?;
    for &passes in PASSES.iter().cycle().take(scene.kills()) {
        let before = scene.proxy()?.seen().len();
        let faults = std::iter::repeat_n(Fault::Pass, passes);
        scene.proxy()?.order(faults.chain([Fault::ResetAnswer]));
        let run = scene.start(&lines(scene))?;
        until_seen(scene, &run, before + passes + 1)?;
        // Killed.
        drop(run);
        scene.proxy()?.behave();
        // What the next agent meets is in an index behind which there is another one.
        if let Some(indices) = scene.subject().indices() {
            indices.roll_over(&scene.target())?;
        }
    }
    let run = scene.start(&lines(scene))?;
    until_stored(scene, &run, ledger)?;
    let (ended, _) = scene.finish(run)?;
    for trouble in ["damaged", "given up", "account: lost"] {
        ensure!(!ended.log.contains(trouble), "{trouble}; its log:\n{}", ended.log);
    }
    scene.expect_stored(ledger, &ended)
}

/// An agent that is about to end leaves the rest to the next one after a single failure. However much it is, some of it
/// has to be stored within the usual time.
fn until_stored(scene: &Scene<'_>, run: &Run, ledger: Sum) -> Result<()> {
    loop {
        let before = scene.stored()?;
        if before == ledger {
            return Ok(());
        }
        scene.until("more is stored", &run.agent, || {
            // The question is work for the server, too.
            sleep(Duration::from_millis(500));
            Ok(scene.stored()? != before)
        })?;
    }
}

/// Waits until the server was sent so many requests; where there are not as many, until all have come.
fn until_seen(scene: &Scene<'_>, run: &Run, requests: usize) -> Result<()> {
    let seen = || scene.proxy().map(|proxy| proxy.seen().len());
    scene.until("requests", &run.agent, || {
        let before = seen()?;
        if before >= requests {
            return Ok(true);
        }
        sleep(Duration::from_secs(1));
        Ok(seen()? == before && before > 0)
    })
}

fn bytes(dir: &Path) -> u64 {
    let Ok(files) = fs::read_dir(dir) else { return 0 };
    files.flatten().map(|file| file.metadata().map_or(0, |data| data.len())).sum()
}

/// Files of requests, as docs/spool.md names them.
fn segments(dir: &Path) -> usize {
    let Ok(files) = fs::read_dir(dir) else { return 0 };
    files.flatten().filter(|file| file.file_name().to_string_lossy().starts_with("segment.")).count()
}
