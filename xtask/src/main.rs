//! `cargo xtask`: what developers and CI run.
//!
//! Each command is a module: [`setup`] installs tools, [`ebpf`] builds the kernel object, [`vm`] boots guests
//! ([`kernels`] finds their kernels, [`guest`] makes and starts them, [`matrix`] runs the scenarios on all; [`debian`] is
//! where their parts come from), [`servers`] starts databases, [`test`] is what CI runs, [`bench`] measures, [`fuzz`]
//! feeds decoders, [`demo`] shows, [`dashboards`] writes the boards. [`command`] and [`paths`] serve them all.
#![expect(clippy::print_stdout, reason = "a task runner talks on the terminal")]

mod command;
mod paths;

mod setup;

mod ebpf;

mod debian;

mod kernels;

mod guest;

mod vm;

mod matrix;

mod servers;

mod test;

mod bench;

mod fuzz;

mod demo;

mod dashboards;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

/// Build, test and measure conntally.
#[derive(Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask")]
struct Arguments {
    #[command(subcommand)]
    task: Task,
}

#[derive(Subcommand)]
enum Task {
    /// Install what the other commands need and say why; does nothing when all is there
    Setup,
    /// Build the kernel programs and record the object in the agent's sources
    Ebpf(ebpf::Options),
    /// Boot guests with other kernels
    #[command(subcommand)]
    Vm(vm::Task),
    /// Real servers that sinks deliver to: start, stop, test
    #[command(subcommand)]
    Servers(servers::Task),
    /// Write the Grafana boards anew after a change of them or of names in the encoders; `check` their JSON, `draw` their
    /// pictures
    Dashboards(dashboards::Options),
    /// Run everything that CI runs; ends with `N passed, N failed`
    Test(test::Options),
    /// Measure
    #[command(subcommand)]
    Bench(bench::Task),
    /// Feed the decoders with inputs that coverage leads to
    Fuzz(fuzz::Options),
    /// Watch real traffic between two network namespaces being accounted
    Demo(demo::Options),
}

fn main() -> ExitCode {
    match run(Arguments::parse().task) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            println!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(task: Task) -> anyhow::Result<()> {
    let paths = paths::Paths::discover()?;
    match task {
        Task::Setup => setup::run(&paths),
        Task::Ebpf(options) => ebpf::run(&paths, &options),
        Task::Vm(task) => vm::run(&paths, task),
        Task::Servers(task) => servers::run(&paths, task),
        Task::Dashboards(options) => dashboards::run(&paths, &options),
        Task::Test(options) => test::run(&paths, &options),
        Task::Bench(task) => bench::run(&paths, task),
        Task::Fuzz(options) => fuzz::run(&paths, &options),
        Task::Demo(options) => demo::run(&paths, &options),
    }
}
