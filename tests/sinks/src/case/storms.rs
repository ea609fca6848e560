//! A server that has more to do than it can, for a real while.

use std::time::{Duration, SystemTime};

use anyhow::{Context as _, Result, ensure};
use httpdate::fmt_http_date;

use crate::chance::{Chance, seed};
use crate::proxy::Fault;
use crate::scene::Scene;

/// So many requests in a row are refused, answered too late or let through, for each time that others are killed.
const REQUESTS: usize = 15;

/// Flows for each of them: some are let through.
const FLOWS: u64 = 10;

/// Requests are small and many are under way, so that they meet many of them.
const LINES: &str = "batch_records = 10\nconcurrency = 8\n";

/// One refusal in so many asks for a pause, and all requests obey it.
const SELDOM: u64 = 15;

pub(super) fn passes(scene: &mut Scene<'_>) -> Result<()> {
    let seed = seed();
    weathered(scene, Chance::of(seed)).with_context(|| format!("the storm was drawn with seed {seed}"))
}

fn weathered(scene: &Scene<'_>, mut chance: Chance) -> Result<()> {
    let requests = REQUESTS * scene.kills();
    let storm: Vec<_> = (0..requests).map(|_| gust(&mut chance)).collect();
    let refused = storm.iter().filter(|fault| **fault != Fault::Pass).count();
    scene.proxy()?.order(storm);
    let mut run = scene.start(&format!("{LINES}{}", scene.subject().apart()))?;
    run.feed.wave(FLOWS * requests as u64)?;
    scene.until("the storm is over", &run.agent, || Ok(scene.proxy()?.left() == 0))?;
    let (ended, ledger) = scene.finish(run)?;
    let seen = scene.proxy()?.seen();
    let told = seen.iter().filter(|one| one.status.is_some_and(|status| status >= 400)).count();
    ensure!(told >= refused, "only {told} of {refused} refusals were told");
    ensure!(ended.log.contains("status 429") || ended.log.contains("status 503"), "its log:\n{}", ended.log);
    scene.expect_stored(ledger, &ended)?;
    scene.say(&format!("stored {ledger} over {told} refusals of {} requests", seen.len()))
}

/// What happens to one request.
fn gust(chance: &mut Chance) -> Fault {
    let wish = (chance.below(SELDOM) == 0).then(|| match chance.below(4) {
        0 => "0".to_owned(),
        1 => "1".to_owned(),
        // Dates have no fractions of a second, and some have passed when they are met.
        further => fmt_http_date(SystemTime::now() + Duration::from_secs(2 * (further - 2))),
    });
    let retry_after = wish.map(Into::into);
    let one_of = |chance: &mut Chance, [one, other]: [u16; 2]| if chance.below(2) == 0 { one } else { other };
    match chance.below(4) {
        0 => Fault::Pass,
        1 => Fault::AnswerLate { status: one_of(chance, [503, 504]), retry_after },
        _ => Fault::Answer {
            status: one_of(chance, [429, 503]),
            retry_after,
            body: "{\"error\":\"too much\"}",
        },
    }
}
