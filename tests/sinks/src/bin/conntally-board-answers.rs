//! Asks real servers all that the boards ask, and writes what they answer.

use std::path::PathBuf;

use anyhow::Result;
use clap::Parser;
use conntally_sink_tests::boards;

/// What the boards show of an hour that is played into real servers.
#[derive(Parser)]
struct Options {
    /// The agent's binary
    #[arg(long)]
    agent: PathBuf,
    /// The project's cache, in which servers are built
    #[arg(long)]
    cache: PathBuf,
    /// Where the answers go, in a file for each board
    #[arg(long)]
    out: PathBuf,
}

fn main() -> Result<()> {
    let options = Options::parse();
    boards::draw(&options.agent, &options.cache, &options.out)
}
