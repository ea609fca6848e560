//! `cargo xtask bench`: what the project promises in figures.

mod kernel;
mod size;
mod start;

use anyhow::Result;
use clap::Subcommand;

use crate::paths::Paths;

/// What to measure.
#[derive(Subcommand)]
pub(crate) enum Task {
    /// Instructions added to a packet of a known flow that is not due, by kernel and hook
    Kernel(kernel::Options),
    /// Guest time to the agent's `ready` line and to its first record, by kernel and hook
    Start(start::Options),
    /// Bytes of the agent as users get it
    Size,
}

/// Does what the command line says.
pub(crate) fn run(paths: &Paths, task: Task) -> Result<()> {
    match task {
        Task::Kernel(options) => kernel::run(paths, &options),
        Task::Start(options) => start::run(paths, &options),
        Task::Size => size::run(paths),
    }
}
