//! Keys that a server refuses by itself, until somebody puts the right one into the agent's file.

use anyhow::{Context as _, Result, ensure};

use crate::scene::Scene;
use crate::sum::Sum;

pub(super) fn are_read_again(scene: &mut Scene<'_>) -> Result<()> {
    let keys = scene.subject().keys(&scene.target())?.context("its server asks for no key")?;
    scene.hand_over(&keys.right)?;
    let mut run = scene.start("")?;
    run.feed.wave(50)?;
    scene.until("something is stored", &run.agent, || Ok(scene.stored()? != Sum::default()))?;
    for (key, told) in &keys.wrong {
        let said = run.agent.log().len();
        scene.hand_over(key)?;
        run.feed.wave(50)?;
        for words in *told {
            scene.until(&format!("its log says \"{words}\""), &run.agent, || {
                Ok(run.agent.log().get(said..).unwrap_or_default().contains(words))
            })?;
        }
    }
    scene.hand_over(&keys.right)?;
    run.feed.wave(50)?;
    let (ended, ledger) = scene.finish(run)?;
    ensure!(ended.log.contains("account: nothing was lost"), "its log:\n{}", ended.log);
    scene.expect_stored(ledger, &ended)
}
