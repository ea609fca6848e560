//! `cargo xtask vm service`: the unit that is shipped, started by a real systemd in a guest.

use std::time::Duration;

use anyhow::{Result, bail, ensure};
use clap::Args;

use crate::{
    guest::{Binaries, Guest, Profile},
    kernels::{Kernel, Series},
    paths::Paths,
    setup,
    test::Count,
};

const SCRIPT: &str = include_str!("service.sh");

/// What to boot.
#[derive(Args)]
pub(crate) struct Options {
    /// The kernel's series
    #[arg(long, default_value = "6.12")]
    kernel: Series,
}

/// Plays it; fails if a test does.
pub(crate) fn run(paths: &Paths, options: &Options) -> Result<()> {
    let count = play(paths, &options.kernel)?;
    if count.failed > 0 {
        bail!("{} tests of the service failed", count.failed);
    }
    Ok(())
}

/// Boots the guest and counts what `service.sh` tests there.
pub(crate) fn play(paths: &Paths, series: &Series) -> Result<Count> {
    setup::ensure(&["systemd"])?;
    let binaries = Binaries::build(paths, Profile::Quick)?;
    let kernel = Kernel::find(paths, series)?;
    let configs = paths.root.join("configs");
    let guest = Guest {
        kernel: &kernel,
        cpus: 2,
        memory: 1024,
        icount: false,
        no_conntrack: false,
        systemd: true,
        limit: Duration::from_secs(900),
        out: paths.target.join("vm").join(format!("service-{series}")),
        files: vec![
            binaries.path("conntally"),
            configs.join("conntally.service"),
            configs.join("examples/router.toml"),
        ],
    };
    let outcome = guest.run(paths, SCRIPT, |line| println!("{line}"))?;
    let count = Count::of_tests(&outcome.printed);
    ensure!(outcome.code == 0 || count.failed > 0, "the tests broke off, see {}", guest.out.display());
    ensure!(count.passed + count.failed > 0, "no test was played");
    Ok(count)
}
