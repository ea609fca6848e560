//! `cargo xtask vm locked`: `check` and `run` in a guest whose kernel is locked down, so that it refuses to trace.

use std::time::Duration;

use anyhow::Result;

use crate::{
    guest::{Binaries, Guest, Profile},
    kernels::{Kernel, Series},
    paths::Paths,
    test::Count,
};

const SCRIPT: &str = concat!(include_str!("test_that.sh"), include_str!("locked.sh"));

/// Boots the guest and counts what `locked.sh` tests there.
pub(crate) fn play(paths: &Paths, series: &Series) -> Result<Count> {
    let binaries = Binaries::build(paths, Profile::Quick)?;
    let kernel = Kernel::find(paths, series)?;
    let guest = Guest {
        kernel: &kernel,
        cpus: 1,
        memory: 1024,
        icount: false,
        append: "lockdown=confidentiality",
        systemd: false,
        limit: Duration::from_secs(300),
        out: paths.target.join("vm").join(format!("locked-{series}")),
        files: vec![binaries.path("conntally")],
    };
    super::play_script(paths, &guest, SCRIPT)
}
