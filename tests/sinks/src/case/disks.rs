//! A disk that has no room for a spool any more.

use std::fs;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use nix::mount::{MsFlags, mount};

use super::audit::{expect_sum, lost};
use super::live::in_turn;
use crate::live::{ADDRESSES, Live};
use crate::scene::Scene;

/// Flows that end at once: fewer than wait in memory. So many times these fill the disk at the latest, and then memory.
const CROWD: u16 = 500;
const FILL: u16 = 60;
const OVERFLOW: u16 = 5;
const FEW: u16 = 50;

/// Something else moves beside what a case is about.
const BRIEFLY: Duration = Duration::from_millis(300);

/// The server is away for longer than the disk has room, and comes back.
pub(super) fn is_full(scene: &mut Scene<'_>) -> Result<()> {
    in_turn(scene, |scene, live| filled(scene, live))
}

fn filled(scene: &Scene<'_>, live: &mut Live) -> Result<()> {
    let disk = scene.folder().join("disk");
    fs::create_dir(&disk)?;
    // It goes with the thread's mount namespace.
    mount(Some("tmpfs"), &disk, Some("tmpfs"), MsFlags::empty(), Some("size=1m"))
        .with_context(|| format!("cannot mount a small file system at {}", disk.display()))?;
    let lines = format!(
        "queue_records = 1024\nbatch_records = 50\nwhen_full = \"spool\"\n{}\
         spool = {{ dir = \"{}\", segment_bytes = \"1MiB\" }}\ninclude = [\"{ADDRESSES}\"]\n\
         [source]\nrate_curve = [{{ age = \"0s\", every = \"1s\" }}]",
        scene.subject().apart(),
        disk.join("spool").display()
    );
    let agent = scene.follow(&lines)?;
    live.begin()?;
    live.crowd(FEW)?;
    live.move_for(BRIEFLY)?;
    scene.proxy()?.go_away()?;
    let mut crowds = 0;
    while !agent.log().contains("make room on the disk") {
        ensure!(crowds < FILL, "{crowds} crowds do not fill the disk; its log:\n{}", agent.log());
        come_and_go(live)?;
        crowds += 1;
    }
    for _ in 0..OVERFLOW {
        come_and_go(live)?;
    }
    scene.proxy()?.come_back()?;
    scene.until("the disk has room again", &agent, || Ok(agent.log().contains("takes records again")))?;
    live.crowd(FEW)?;
    live.move_for(BRIEFLY)?;
    let ledger = live.end()?;
    scene.until_still(ledger)?;
    let ended = scene.stop(agent)?;
    let told = ended.log.contains("what does not fit there is dropped and counted");
    ensure!(told, "the log does not say what becomes of records:\n{}", ended.log);
    let lost = lost(&ended.log);
    ensure!(lost.flows > 0, "nothing was lost of {ledger}; its log:\n{}", ended.log);
    expect_sum(scene, lost, ledger, &ended)
}

fn come_and_go(live: &mut Live) -> Result<()> {
    live.crowd(CROWD)?;
    live.move_for(BRIEFLY)?;
    live.scatter()
}
