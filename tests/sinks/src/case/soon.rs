//! How long it takes from a record to an answer with it, by an agent and a server that have nothing else to do.

use std::io::{self, Write as _};
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};

use super::live::in_turn;
use crate::live::ADDRESSES;
use crate::scene::Scene;

/// What is in force where nothing is configured.
const DEFAULTS: &str = "batch_age = \"500ms\"\ntimeout = \"30s\"\nretry_max = \"60s\"\n";

/// The longest time of so many has to be within the limit that 99 of 100 have to keep.
const FLOWS: u64 = 20;
const LIMIT: Duration = Duration::from_secs(3);

/// Points of groups are of so many milliseconds where nothing is configured.
const INTERVAL_MS: u64 = 2_000;

/// By the clock of a recording, which this one does not wait for.
pub(super) fn is_found(scene: &mut Scene<'_>) -> Result<()> {
    let mut run = scene.start(DEFAULTS)?;
    let mut times = Vec::new();
    for number in 1..=FLOWS {
        let begin = Instant::now();
        run.feed.wave(1)?;
        scene.until("the record is found", &run.agent, || Ok(scene.found()? >= number))?;
        times.push(begin.elapsed());
    }
    scene.finish(run)?;
    judge(scene, times)
}

/// By the clock on the wall, where points come when their interval is over.
pub(super) fn is_found_in_time(scene: &mut Scene<'_>) -> Result<()> {
    in_turn(scene, |scene, live| {
        let agent = scene.follow(&format!("{DEFAULTS}include = [\"{ADDRESSES}\"]\n"))?;
        let mut times = Vec::new();
        for number in 1..=FLOWS {
            live.crowd(1)?;
            // At any moment of an interval.
            sleep(Duration::from_millis(live.draw(INTERVAL_MS)));
            let begin = Instant::now();
            live.end_latest()?;
            scene.until("the record is found", &agent, || Ok(scene.found()? >= number))?;
            times.push(begin.elapsed());
        }
        scene.stop(agent)?;
        judge(scene, times)
    })
}

/// Tells the times, and whether they are short enough.
fn judge(scene: &Scene<'_>, mut times: Vec<Duration>) -> Result<()> {
    times.sort_unstable();
    let [median, longest] =
        [times.get(times.len() / 2), times.last()].map(|time| time.copied().unwrap_or_default());
    let told = format!(
        "found after {:.2} s (median), {:.2} s (longest of {FLOWS})",
        median.as_secs_f32(),
        longest.as_secs_f32()
    );
    writeln!(io::stdout(), "{}: {told}", scene.subject().name())?;
    ensure!(longest <= LIMIT, "{told}, which has to be {} s at most", LIMIT.as_secs());
    Ok(())
}
