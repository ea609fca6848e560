//! Runs end-to-end scenarios, or a demonstration, with an agent in front of real traffic.

use std::io::{self, Write};
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Result, ensure};
use clap::{Args, Parser, Subcommand};
use conntally_tests::agent::{Hook, Updates};
use conntally_tests::demo;
use conntally_tests::scenario::{self, Settings};
use conntally_tests::start;

/// End-to-end tests of conntally.
#[derive(Parser)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Print all scenarios, one JSON line each
    List,
    /// Play scenarios as root, one JSON line each
    Guest(Guest),
    /// Show an agent at work between two namespaces, and compare at the end
    Demo(Demo),
    /// Tell how long an agent takes to its `ready` line and to its first record
    Start(Start),
}

#[derive(Args)]
struct Guest {
    /// The agent's binary
    #[arg(long)]
    agent: PathBuf,
    /// How the agent gets at the kernel
    #[arg(long, value_enum, default_value = "auto")]
    hook: Hook,
    /// Names of scenarios, or all
    #[arg(long, default_value = "all", value_delimiter = ',')]
    scenario: Vec<String>,
    /// Where records and logs of failed scenarios are put
    #[arg(long)]
    out: Option<PathBuf>,
    /// How the agent hears of flows that move; its default when not given
    #[arg(long, value_enum)]
    updates: Option<Updates>,
    /// Number of flows in scenarios about many of them
    #[arg(long, default_value_t = scenario::FLOWS)]
    flows: u32,
    /// Leave out what changes the machine outside of namespaces of its own
    #[arg(long)]
    harmless: bool,
}

#[derive(Args)]
struct Demo {
    /// The agent's binary
    #[arg(long)]
    agent: PathBuf,
    /// How long the traffic lasts
    #[arg(long, default_value_t = 15)]
    seconds: u64,
    /// The configuration of the agent that is shown; its sinks are what is seen
    #[arg(long)]
    config: Option<PathBuf>,
}

#[derive(Args)]
struct Start {
    /// The agent's binary
    #[arg(long)]
    agent: PathBuf,
    /// How the agent gets at the kernel
    #[arg(long, value_enum, default_value = "auto")]
    hook: Hook,
}

fn main() -> Result<ExitCode> {
    let command = Cli::parse().command;
    let is_root = nix::unistd::geteuid().is_root();
    let needs_root = !matches!(command, Command::List);
    ensure!(is_root || !needs_root, "this needs root, for network namespaces and packet sockets");
    match command {
        Command::List => list(),
        Command::Guest(guest) => play_all(&guest),
        Command::Demo(demo) => {
            let exact = demo::run(&demo.agent, demo.config.as_deref(), Duration::from_secs(demo.seconds))?;
            Ok(if exact { ExitCode::SUCCESS } else { ExitCode::FAILURE })
        }
        Command::Start(options) => {
            let times = start::measure(&options.agent, options.hook)?;
            writeln!(io::stdout(), "{}", serde_json::to_string(&times)?)?;
            Ok(ExitCode::SUCCESS)
        }
    }
}

fn list() -> Result<ExitCode> {
    for scenario in scenario::SCENARIOS {
        writeln!(io::stdout(), "{}", serde_json::to_string(scenario)?)?;
    }
    Ok(ExitCode::SUCCESS)
}

fn play_all(guest: &Guest) -> Result<ExitCode> {
    let (mut passed, mut failed, mut skipped) = (0, 0, 0);
    for scenario in scenario::select(&guest.scenario)? {
        if guest.harmless && !scenario.harmless {
            continue;
        }
        let out = guest.out.as_ref().map(|out| out.join(scenario.name));
        let settings = Settings {
            agent: guest.agent.clone(),
            hook: guest.hook,
            out,
            alone: !guest.harmless,
            updates: guest.updates,
            flows: guest.flows,
        };
        let report = scenario::play(scenario, &settings);
        match report.verdict {
            "exact" => passed += 1,
            "skipped" => skipped += 1,
            _ => failed += 1,
        }
        writeln!(io::stdout(), "{}", serde_json::to_string(&report)?)?;
    }
    writeln!(io::stdout(), "{passed} passed, {failed} failed, {skipped} skipped")?;
    Ok(if failed == 0 && passed > 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
