//! How long it takes from a record to an answer with it, by an agent and a server that have nothing else to do.

use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};

use super::live::in_turn;
use crate::live::ADDRESSES;
use crate::scene::Scene;

/// What is in force where nothing is configured.
const DEFAULTS: &str = "batch_age = \"500ms\"\ntimeout = \"30s\"\nretry_max = \"60s\"\n";

/// 99 of so many have to be found within the limit.
const FLOWS: usize = 100;
const LIMIT: Duration = Duration::from_secs(3);

/// Between two flows. Points of groups are of two seconds where nothing is configured: of that this is no part, so that
/// flows end at all moments of it.
const APART: Duration = Duration::from_millis(403);

/// Who asks all the time keeps the server from what it is asked for.
const ASKED_EVERY: Duration = Duration::from_millis(20);
const IN_VAIN: Duration = Duration::from_mins(2);

/// By the clock of a recording, which this one does not wait for.
pub(super) fn is_found(scene: &mut Scene<'_>) -> Result<()> {
    let mut run = scene.start(DEFAULTS)?;
    let times = times(scene, || run.feed.wave(1))?;
    scene.finish(run)?;
    judge(scene, times)
}

/// By the clock on the wall, where points come when their interval is over.
pub(super) fn is_found_in_time(scene: &mut Scene<'_>) -> Result<()> {
    in_turn(scene, |scene, live| {
        let agent = scene.follow(&format!("{DEFAULTS}include = [\"{ADDRESSES}\"]\n"))?;
        let times = times(scene, || {
            live.crowd(1)?;
            live.end_latest()
        })?;
        scene.stop(agent)?;
        judge(scene, times)
    })
}

/// From the end of each flow until as many are found as had ended by then. Others wait for the first one, for which a
/// server may have to make an index.
fn times(scene: &Scene<'_>, mut end_one: impl FnMut() -> Result<()>) -> Result<Vec<Duration>> {
    let begin = Instant::now();
    let (mut ended, mut times) = (Vec::with_capacity(FLOWS), Vec::with_capacity(FLOWS));
    let mut next = begin;
    while times.len() < FLOWS {
        ensure!(begin.elapsed() < IN_VAIN, "{} of {FLOWS} flows are found", times.len());
        let may_end = ended.is_empty() || !times.is_empty();
        if may_end && ended.len() < FLOWS && Instant::now() >= next {
            next = Instant::now() + APART;
            ended.push(Instant::now());
            end_one()?;
        }
        let found = usize::try_from(scene.found()?)?;
        ensure!(found <= ended.len(), "{found} flows are found of {} that ended", ended.len());
        times.extend(ended.iter().take(found).skip(times.len()).map(Instant::elapsed));
        sleep(ASKED_EVERY);
    }
    Ok(times)
}

/// Tells the times, and whether they are short enough.
fn judge(scene: &Scene<'_>, mut times: Vec<Duration>) -> Result<()> {
    times.sort_unstable();
    let of_100 = |place: usize| times.get(place - 1).copied().unwrap_or_default();
    let (median, most) = (of_100(50), of_100(99));
    let told = format!(
        "found after {:.2} s (median), {:.2} s (99 of {FLOWS}), {:.2} s (all)",
        median.as_secs_f32(),
        most.as_secs_f32(),
        of_100(100).as_secs_f32()
    );
    scene.say(&told)?;
    ensure!(most <= LIMIT, "{told}; 99 have to be within {} s", LIMIT.as_secs());
    Ok(())
}
