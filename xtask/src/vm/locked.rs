//! `cargo xtask vm locked`: `check` and `run` in a guest whose kernel is locked down, so that it refuses to trace.

use anyhow::Result;

use crate::{kernels::Series, paths::Paths, test::Count};

const SCRIPT: &str = concat!(include_str!("test_that.sh"), include_str!("locked.sh"));

/// Boots the guest and counts what `locked.sh` tests there.
pub(crate) fn play(paths: &Paths, series: &Series) -> Result<Count> {
    let (count, _) = super::play_agent(paths, series, "locked", "lockdown=confidentiality", SCRIPT)?;
    Ok(count)
}
