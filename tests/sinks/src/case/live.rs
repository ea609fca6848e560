//! Live flows, of which a replay cannot tell: agents that are killed while they move, and queues that are full.

use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, sleep};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, anyhow, ensure};
use conntally_tests::isolation::Turn;

use super::audit::{expect_sum, lost};
use crate::agent::Agent;
use crate::chance::seed;
use crate::live::{ADDRESSES, Live};
use crate::proxy::Fault;
use crate::scene::Scene;

/// Requests are small, so that many are under way, and figures as fresh as netlink has them.
const LINES: &str = "batch_records = 50\nwhen_full = \"spool\"\n";
const RATES: &str = "[source]\nrate_curve = [{ age = \"0s\", every = \"1s\" }]";

/// An agent has met the flows that were there before it, and what they moved, by then.
const HAS_MET: Duration = Duration::from_millis(2_500);

/// Something else moves beside what a case is about.
const BRIEFLY: Duration = Duration::from_millis(500);

/// An agent is killed at any moment of so many milliseconds after flows began to end.
const LIFE_MS: u64 = 1_500;

/// A request comes by then: its interval is over, and its batch has waited long enough.
const COMES_WITHIN: Duration = Duration::from_secs(15);

/// More flows than wait for a sink, also where it gets only their ends; and a few.
const MANY: u16 = 3_000;
const FEW: u16 = 50;

/// Every other agent is killed at any moment, the rest when the server has stored what the agent does not know of.
pub(super) fn kills(scene: &mut Scene<'_>) -> Result<()> {
    in_turn(scene, |scene, live| killed(scene, live))
}

/// What coalesces has lost what it counts.
pub(super) fn loses_coalesced(scene: &mut Scene<'_>) -> Result<()> {
    in_turn(scene, |scene, live| overrun(scene, live, "coalesce"))
}

/// So has what drops.
pub(super) fn loses_newest(scene: &mut Scene<'_>) -> Result<()> {
    in_turn(scene, |scene, live| overrun(scene, live, "drop_newest"))
}

/// Plays with flows that nothing else on this host disturbs, or is disturbed by.
pub(super) fn in_turn(
    scene: &mut Scene<'_>,
    play: impl FnOnce(&mut Scene<'_>, &mut Live) -> Result<()> + Send,
) -> Result<()> {
    // The thread that has its turn does not see the host's named namespaces again.
    let play = || {
        let _turn = Turn::take()?;
        let seed = seed();
        play(scene, &mut Live::open(seed)?).with_context(|| format!("the traffic was drawn with seed {seed}"))
    };
    thread::scope(|scope| scope.spawn(play).join()).map_err(|_| anyhow!("the case panicked: see above"))?
}

fn killed(scene: &Scene<'_>, live: &mut Live) -> Result<()> {
    let lines = format!("{LINES}include = [\"{ADDRESSES}\"]\n{RATES}");
    let mut agent = scene.follow(&lines)?;
    live.begin()?;
    for number in 0..scene.kills() {
        // All that are ended were there before this agent was, or have been quiet for long.
        let met = live.opened();
        live.move_for(HAS_MET)?;
        let is_told = number % 2 == 1;
        let before = scene.proxy()?.seen().len();
        if is_told {
            scene.proxy()?.order([Fault::ResetAnswer]);
        }
        let life = Duration::from_millis(live.draw(LIFE_MS));
        let begin = Instant::now();
        loop {
            live.end_older_than(met)?;
            live.move_for(Duration::from_millis(10))?;
            let is_due = if is_told { scene.proxy()?.seen().len() > before } else { begin.elapsed() >= life };
            if is_due {
                break;
            }
            ensure!(begin.elapsed() < COMES_WITHIN, "no request came; log of the agent:\n{}", agent.log());
        }
        // Killed.
        drop(agent);
        scene.proxy()?.behave();
        agent = follow_meanwhile(scene, &lines, live)?;
    }
    live.move_for(HAS_MET)?;
    let ledger = live.end()?;
    ensure!(ledger.flows > 0, "nothing moved");
    scene.until_still(ledger)?;
    let ended = scene.stop(agent)?;
    for trouble in ["damaged", "given up", "account: lost", "to be delivered by the next start"] {
        ensure!(!ended.log.contains(trouble), "{trouble}; its log:\n{}", ended.log);
    }
    scene.expect_stored(ledger, &ended)
}

/// Flows move while no agent is there, and while one starts.
fn follow_meanwhile(scene: &Scene<'_>, lines: &str, live: &mut Live) -> Result<Agent> {
    let pause = Duration::from_millis(live.draw(LIFE_MS));
    let is_there = AtomicBool::new(false);
    thread::scope(|scope| {
        let moving = scope.spawn(|| live.move_until(&is_there));
        sleep(pause);
        let agent = scene.follow(lines);
        is_there.store(true, Ordering::SeqCst);
        moving.join().map_err(|_| anyhow!("the traffic panicked"))??;
        agent
    })
}

/// The server is away until more flows have begun and ended than its sink may keep.
fn overrun(scene: &Scene<'_>, live: &mut Live, policy: &str) -> Result<()> {
    let apart = scene.subject().apart();
    let lines = format!(
        "queue_records = 1024\nbatch_records = 50\nwhen_full = \"{policy}\"\n{apart}include = [\"{ADDRESSES}\"]\n{RATES}"
    );
    let agent = scene.follow(&lines)?;
    live.begin()?;
    live.crowd(FEW)?;
    live.move_for(BRIEFLY)?;
    scene.proxy()?.go_away()?;
    live.crowd(MANY)?;
    live.move_for(BRIEFLY)?;
    live.disperse()?;
    live.move_for(BRIEFLY)?;
    scene.proxy()?.come_back()?;
    live.crowd(FEW)?;
    live.move_for(BRIEFLY)?;
    let ledger = live.end()?;
    let ended = scene.stop(agent)?;
    let lost = lost(&ended.log);
    ensure!(lost.bytes > 0, "nothing was lost of {ledger}; its log:\n{}", ended.log);
    expect_sum(scene, lost, ledger, &ended)
}
