//! `cargo xtask vm`: one guest, or all of them.

mod locked;
mod service;
mod unloaded;

use std::{path::PathBuf, time::Duration};

use anyhow::{Context as _, Result, ensure};
use clap::{Args, Subcommand};

use crate::{
    command::quote,
    guest::{Binaries, Guest, NO_CONNTRACK, Outcome, Profile},
    kernels::{Kernel, Series},
    matrix,
    paths::Paths,
    test::Count,
};

pub(crate) use locked::play as play_locked;
pub(crate) use service::play as play_service;
pub(crate) use unloaded::play as play_unloaded;

/// What to do with guests.
#[derive(Subcommand)]
pub(crate) enum Task {
    /// Boot one guest and run a command in it; its exit code is this command's
    Run(Run),
    /// Run the scenarios on all kernels, with all hooks, with one and two CPUs
    Matrix(matrix::Options),
    /// Have a systemd start, watch and stop the service in a guest
    Service(Which),
    /// Have `check` and `run` meet a guest in which conntrack is not loaded
    Unloaded(Which),
    /// Have `check` and `run` meet a guest whose kernel is locked down
    Locked(Which),
}

/// Which guest.
#[derive(Args)]
pub(crate) struct Which {
    /// The kernel's series
    #[arg(long, default_value = "6.12")]
    kernel: Series,
}

/// One guest.
#[derive(Args)]
pub(crate) struct Run {
    /// The kernel's series, for example 6.12
    #[arg(long)]
    kernel: Series,
    /// Number of CPUs
    #[arg(long, default_value_t = 2)]
    smp: u32,
    /// Memory in MiB
    #[arg(long, default_value_t = 1024)]
    mem: u32,
    /// One instruction takes one nanosecond of guest time (one CPU)
    #[arg(long)]
    icount: bool,
    /// Do not load nf_conntrack before the command runs
    #[arg(long)]
    no_conntrack: bool,
    /// More words for the kernel's command line, for example lockdown=confidentiality
    #[arg(long, default_value = "")]
    append: String,
    /// Build what users get, not what tests use
    #[arg(long)]
    release: bool,
    /// Seconds after which the guest is ended
    #[arg(long, default_value_t = 600)]
    limit: u64,
    /// Where the guest's /out, its console.log and its dmesg go
    #[arg(long)]
    out: Option<PathBuf>,
    /// A file for the guest's /root; programs come with their libraries and are on PATH
    #[arg(long = "file", value_name = "FILE")]
    files: Vec<PathBuf>,
    /// The command, run in /root with the agent and the test programs on PATH
    #[arg(last = true, required = true)]
    command: Vec<String>,
}

/// Does what the command line says.
pub(crate) fn run(paths: &Paths, task: Task) -> Result<()> {
    match task {
        Task::Run(options) => {
            let outcome = options.boot(paths)?;
            std::process::exit(outcome.code);
        }
        Task::Matrix(options) => matrix::run(paths, &options),
        Task::Service(which) => all_passed(&service::play(paths, &which.kernel)?),
        Task::Unloaded(which) => all_passed(&unloaded::play(paths, &which.kernel)?),
        Task::Locked(which) => all_passed(&locked::play(paths, &which.kernel)?),
    }
}

fn all_passed(count: &Count) -> Result<()> {
    ensure!(count.failed == 0, "{} tests failed", count.failed);
    Ok(())
}

/// Boots a guest with one CPU and the agent, and counts what the script tests there; returns also what the guest left.
fn play_agent(
    paths: &Paths,
    series: &Series,
    name: &str,
    append: &str,
    script: &str,
) -> Result<(Count, PathBuf)> {
    let binaries = Binaries::build(paths, Profile::Quick)?;
    let kernel = Kernel::find(paths, series)?;
    let guest = Guest {
        kernel: &kernel,
        cpus: 1,
        memory: 1024,
        icount: false,
        append,
        systemd: false,
        limit: Duration::from_secs(300),
        out: paths.target.join("vm").join(format!("{name}-{series}")),
        files: vec![binaries.path("conntally")],
    };
    Ok((play_script(paths, &guest, script)?, guest.out))
}

/// Boots the guest and counts what the script tests there: see `test_that.sh`.
fn play_script(paths: &Paths, guest: &Guest<'_>, script: &str) -> Result<Count> {
    let outcome = guest.run(paths, script, |line| println!("{line}"))?;
    let count = Count::of_tests(&outcome.printed);
    ensure!(outcome.code == 0 || count.failed > 0, "the tests broke off, see {}", guest.out.display());
    ensure!(count.passed + count.failed > 0, "no test was played");
    Ok(count)
}

impl Run {
    fn boot(self, paths: &Paths) -> Result<Outcome> {
        let profile = if self.release { Profile::Release } else { Profile::Quick };
        let mut files = Binaries::build(paths, profile)?.all();
        files.extend(self.files);
        let kernel = Kernel::find(paths, &self.kernel)?;
        if let Some(substitute) = kernel.substitute() {
            println!("{substitute}");
        }
        let no_conntrack = if self.no_conntrack { NO_CONNTRACK } else { "" };
        let out = self.out.unwrap_or_else(|| paths.target.join("vm").join(self.kernel.to_string()));
        let guest = Guest {
            kernel: &kernel,
            cpus: self.smp,
            memory: self.mem,
            icount: self.icount,
            append: &[no_conntrack, &self.append].join(" "),
            systemd: false,
            limit: Duration::from_secs(self.limit),
            out: std::path::absolute(out).context("no such folder")?,
            files,
        };
        let words: Vec<_> = self.command.iter().map(|word| quote(word)).collect();
        guest.run(paths, &format!("exec {}\n", words.join(" ")), |line| println!("{line}"))
    }
}
