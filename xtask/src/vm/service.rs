//! `cargo xtask vm service`: the unit that is shipped, started by a real systemd in a guest.

use std::time::Duration;

use anyhow::Result;

use crate::{
    guest::{Binaries, Guest, Profile},
    kernels::{Kernel, Series},
    paths::Paths,
    setup,
    test::Count,
};

const SCRIPT: &str = concat!(include_str!("test_that.sh"), include_str!("service.sh"));

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
        append: "",
        systemd: true,
        limit: Duration::from_secs(900),
        out: paths.target.join("vm").join(format!("service-{series}")),
        files: vec![
            binaries.path("conntally"),
            configs.join("conntally.service"),
            configs.join("examples/router.toml"),
        ],
    };
    super::play_script(paths, &guest, SCRIPT)
}
