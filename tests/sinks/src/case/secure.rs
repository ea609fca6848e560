//! Certificates.

use std::time::Duration;

use anyhow::{Result, ensure};

use crate::proxy::Certificate;
use crate::scene::Scene;

pub(super) fn takes_the_right(scene: &mut Scene<'_>) -> Result<()> {
    scene.secure(Certificate::Right)?;
    let mut run = scene.start("")?;
    run.feed.wave(100)?;
    let (ended, ledger) = scene.finish(run)?;
    scene.expect_stored(ledger, &ended)
}

pub(super) fn refuses_wrong_ones(scene: &mut Scene<'_>) -> Result<()> {
    scene.hurry(Duration::from_secs(2));
    for certificate in [Certificate::Expired, Certificate::WrongName, Certificate::Stranger] {
        scene.secure(certificate)?;
        let mut run = scene.start("")?;
        run.feed.wave(100)?;
        let told = || {
            let log = run.agent.log();
            Ok(log.lines().any(|line| line.contains("sink test") && line.contains("certificate")))
        };
        scene.until(
            &format!("the log tells that the certificate is wrong: {certificate:?}"),
            &run.agent,
            told,
        )?;
        run.agent.terminate()?;
        scene.end(run)?;
        let seen = scene.proxy()?.seen();
        ensure!(seen.is_empty(), "it wrote to a server with a certificate that is {certificate:?}");
    }
    Ok(())
}
