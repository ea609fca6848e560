//! `cargo xtask servers test`: every sink against a real server of its kind.

use anyhow::{Result, ensure};

use super::{ONE_OF_EACH, build, known, own};
use crate::{
    command::{as_root_here, cargo, program, run as run_command},
    paths::Paths,
    test::{Count, followed},
};
use conntally_servers::ALL;

/// What to try.
#[derive(clap::Args)]
pub(crate) struct Options {
    /// Each sink with all its servers instead of one of each kind
    #[arg(long)]
    full: bool,
    /// Only this sink
    #[arg(long)]
    sink: Vec<String>,
    /// Only this case
    #[arg(long)]
    case: Vec<String>,
    /// Only with this server
    #[arg(long)]
    server: Vec<String>,
}

impl Options {
    /// What CI tries.
    pub(crate) const fn usual() -> Self {
        Self { full: false, sink: Vec::new(), case: Vec::new(), server: Vec::new() }
    }

    /// Nobody asked for a part of it.
    const fn is_everything(&self) -> bool {
        self.sink.is_empty() && self.case.is_empty() && self.server.is_empty()
    }
}

/// Builds servers and agent, and plays the cases; a server that cannot be had is a failure.
pub(crate) fn run(paths: &Paths, options: &Options) -> Result<Count> {
    if options.full {
        build(paths, ALL)?;
    } else if options.server.is_empty() && options.sink.is_empty() {
        let usual: Result<Vec<_>> = ONE_OF_EACH.iter().map(|name| known(name)).collect();
        build(paths, &usual?)?;
    }
    // Of the whole workspace with a test, as `cargo xtask test` does: dependencies that have other features are built anew.
    let whole = ["build", "--quiet", "--locked", "--workspace", "--bins", "--test", own::ELASTICSEARCH];
    run_command(cargo().current_dir(&paths.root).args(whole))?;
    let programs = paths.target.join("debug");
    let suite = programs.join("conntally-sinks");
    // Live flows are made in network namespaces.
    let as_root = as_root_here(&suite);
    let has_root = as_root.is_some();
    let mut suite = as_root.unwrap_or_else(|| program(&suite));
    suite.arg("--agent").arg(programs.join("conntally")).arg("--cache").arg(&paths.cache);
    suite.arg("--out").arg(paths.target.join("sinks"));
    for (flag, names) in [("--sink", &options.sink), ("--case", &options.case), ("--server", &options.server)]
    {
        names.iter().for_each(|name| {
            suite.args([flag, name]);
        });
    }
    if options.full {
        suite.arg("--full");
    }
    if has_root || std::env::var_os("CI").is_some() {
        // Then nothing may be left out.
        suite.env("REQUIRE_ROOT_TESTS", "1");
    } else {
        println!("neither root nor sudo: cases with live flows are left out");
    }
    let (text, success) = followed(&mut suite)?;
    let mut counted = Count::of_tests(&text);
    ensure!(counted.passed > 0, "no case was played");
    if !success && counted.failed == 0 {
        counted.add(Count::failure("sink tests broke off: see above".to_owned()));
    }
    if options.is_everything() {
        counted.add(own::run(paths, options.full)?);
    }
    Ok(counted)
}
