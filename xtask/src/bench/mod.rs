//! `cargo xtask bench`: what the project promises in figures.

mod flow;
mod kernel;
mod scale;
mod size;
mod start;
mod user;

use anyhow::Result;
use clap::Subcommand;

use crate::paths::Paths;

/// What to measure.
#[derive(Subcommand)]
pub(crate) enum Task {
    /// Instructions added to a packet of a known flow that is not due, by kernel and hook; of a flow that is swept and
    /// one that is walked
    Kernel(kernel::Options),
    /// Guest time to the agent's `ready` line and to its first record, by kernel and hook
    Start(start::Options),
    /// Instructions of a flow of one packet, from the kernel to JSON lines, beside other programs
    Flow(flow::Options),
    /// Instructions of a record that becomes a line of JSON, beside serde_json
    Json,
    /// Instructions of a record from a recording to a sink that throws it away, whether memory grows
    /// with records, and CPU of delivering to InfluxDB beside Telegraf
    Pipeline,
    /// From the kernel's ring buffer to a record: instructions, rate without loss, cost among a million flows
    Ring,
    /// Bytes of a flow in the agent and in the kernel's maps
    Memory,
    /// Requests to disk and back, beside dd
    Spool,
    /// Bytes of the agent as users get it
    Size,
}

/// Does what the command line says.
pub(crate) fn run(paths: &Paths, task: Task) -> Result<()> {
    match task {
        Task::Kernel(options) => kernel::run(paths, &options),
        Task::Start(options) => start::run(paths, &options),
        Task::Flow(options) => flow::run(paths, &options),
        Task::Json => user::json(paths),
        Task::Pipeline => user::pipeline(paths),
        Task::Ring => user::ring(paths),
        Task::Memory => user::memory(paths),
        Task::Spool => user::spool(paths),
        Task::Size => size::run(paths),
    }
}
