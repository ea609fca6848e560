//! Guests: a Debian kernel under QEMU's own emulation, which boots from an archive made here, runs one command
//! and powers off. No hardware virtualisation is needed, nor root.

mod archive;
mod base;
mod binaries;
mod boot;
mod emulator;
mod systemd;

use std::{path::PathBuf, time::Duration};

use anyhow::Result;

pub(crate) use binaries::{Binaries, Profile};

use crate::{kernels::Kernel, paths::Paths};

/// Among the words of [`Guest::append`]: leaves `nf_conntrack` out until somebody loads it.
pub(crate) const NO_CONNTRACK: &str = "conntally.no_conntrack";

/// What is booted, with what, and for how long.
pub(crate) struct Guest<'a> {
    /// The kernel.
    pub(crate) kernel: &'a Kernel,
    /// Number of CPUs; always 1 with `icount`.
    pub(crate) cpus: u32,
    /// Memory in MiB.
    pub(crate) memory: u32,
    /// One instruction takes one nanosecond of guest time, so that a clock counts instructions.
    pub(crate) icount: bool,
    /// More words for the kernel's command line.
    pub(crate) append: &'a str,
    /// The first process is systemd, which runs the command as a service beside others.
    pub(crate) systemd: bool,
    /// After this long the guest is ended and the run fails.
    pub(crate) limit: Duration,
    /// Where the guest's `/out` goes, with `console.log`.
    pub(crate) out: PathBuf,
    /// Programs and files for the guest's `/root`; programs are on its `PATH`.
    pub(crate) files: Vec<PathBuf>,
}

/// What came of it.
pub(crate) struct Outcome {
    /// The command's exit code.
    pub(crate) code: i32,
    /// What it printed, standard output and error as they came.
    pub(crate) printed: String,
}

impl Guest<'_> {
    /// Boots and runs a `bash` script; each line it prints is given to `line` at once.
    pub(crate) fn run(&self, paths: &Paths, script: &str, line: impl FnMut(&str)) -> Result<Outcome> {
        let base = base::find(paths, self.kernel)?;
        boot::run(paths, self, &base, script, line)
    }
}
