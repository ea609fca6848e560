//! How long it takes from a record to an answer with it, by an agent and a server that have nothing else to do.

use std::io::{self, Write as _};
use std::time::{Duration, Instant};

use anyhow::Result;

use crate::scene::Scene;

/// What is in force where nothing is configured.
const DEFAULTS: &str = "batch_age = \"500ms\"\ntimeout = \"30s\"\nretry_max = \"60s\"\n";

const FLOWS: u64 = 20;

/// Tells it; how long it is depends on the machine, so that only minutes are a failure.
pub(super) fn is_found(scene: &mut Scene<'_>) -> Result<()> {
    let mut run = scene.start(DEFAULTS)?;
    let mut times = Vec::new();
    for number in 1..=FLOWS {
        let begin = Instant::now();
        run.feed.wave(1)?;
        scene.until("the record is found", &run, || Ok(scene.found()? >= number))?;
        times.push(begin.elapsed());
    }
    scene.finish(run)?;
    times.sort_unstable();
    let [median, longest] = [times.get(times.len() / 2), times.last()].map(seconds);
    let name = scene.subject().name();
    writeln!(
        io::stdout(),
        "{name}: found after {median:.2} s (median), {longest:.2} s (longest of {FLOWS})"
    )?;
    Ok(())
}

fn seconds(time: Option<&Duration>) -> f32 {
    time.map_or(0.0, Duration::as_secs_f32)
}
