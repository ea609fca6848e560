//! What servers refuse by themselves: requests that are too large for them, and too many.

use std::thread::sleep;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use conntally_servers::Server;

use crate::scene::Scene;
use crate::subject::Narrow;
use crate::sum::Sum;

/// A server of its own that is set up so, where that takes settings.
pub(super) fn are_kept(scene: &mut Scene<'_>) -> Result<()> {
    let subject = scene.subject();
    let narrow = subject.narrow().context("it has no limits")?;
    if narrow.settings.is_empty() {
        return kept(scene, &narrow);
    }
    let home = std::env::temp_dir().join(format!("conntally-sinks-{}", scene.target().tag));
    let own = scene.server()?;
    let mut server = Server::start(own.kind(), &own.place().installed, &home, narrow.settings)?;
    kept(&mut scene.with_server(&mut server)?, &narrow)?;
    server.discard()
}

fn kept(scene: &mut Scene<'_>, narrow: &Narrow) -> Result<()> {
    scene.subject().prepare_narrow(&scene.target())?;
    scene.lead_to(narrow.url)?;
    let mut run = scene.start(narrow.lines)?;
    run.feed.wave(narrow.flows)?;
    let ledger = run.feed.ledger();
    // An agent that is about to end does not wait as long for a server.
    until_all(scene, &run.agent, ledger)?;
    let (ended, ledger) = scene.finish(run)?;
    let seen = scene.proxy()?.seen();
    let times = |status: u16| seen.iter().filter(|one| one.status == Some(status)).count();
    for &status in narrow.statuses {
        ensure!(times(status) > 0, "its server never answered {status}; log of the agent:\n{}", ended.log);
    }
    for words in narrow.told {
        ensure!(ended.log.contains(words), "the log does not say \"{words}\":\n{}", ended.log);
    }
    for trouble in ["gave up", "account: lost"] {
        ensure!(!ended.log.contains(trouble), "{trouble}; its log:\n{}", ended.log);
    }
    scene.expect_stored(ledger, &ended)?;
    let refusals: Vec<_> =
        narrow.statuses.iter().map(|&status| format!("{} times {status}", times(status))).collect();
    scene.say(&format!("stored {ledger} over {}", refusals.join(" and ")))
}

fn until_all(scene: &Scene<'_>, agent: &crate::agent::Agent, ledger: Sum) -> Result<()> {
    scene.until("all of it is stored", agent, || {
        // The question is work for the server, too.
        sleep(Duration::from_millis(300));
        Ok(scene.stored()? == ledger)
    })
}
