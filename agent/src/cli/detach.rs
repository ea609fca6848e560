//! `conntally detach`: removes the kernel programs that outlive agents.

use super::args::Cli;
use super::{AskedOfKernel, accounting, settings};
use crate::kernel::bpf::pins::{self, Left, PinError, Place};
use anyhow::{Context, ensure};
use std::io::{self, Write};
use std::path::Path;
use std::process::ExitCode;

/// Removes those of one state directory, or all.
pub(super) fn run(cli: &Cli, state_dir: Option<&Path>) -> anyhow::Result<ExitCode> {
    let config = settings::start(cli)?;
    let mut found = pins::left().context(AskedOfKernel("cannot read what agents have pinned".to_owned()))?;
    if let Some(state_dir) = state_dir {
        let meant = Place::of(state_dir);
        found.retain(|left| meant.left().is_some_and(|one| one.path == left.path));
    }
    let mut told = String::new();
    let mut refused = Vec::new();
    for left in &found {
        match remove(left) {
            Ok(line) => told.push_str(&line),
            Err(error) => refused.push(format!("{}: {error}", name(left))),
        }
    }
    if found.is_empty() {
        told.push_str("no kernel programs outlive an agent here\n");
    }
    // A reader that has gone wants no answer.
    let _ = io::stdout().write_all(told.as_bytes());
    if refused.len() < found.len() {
        accounting::put_back(&config.run_dir);
    }
    ensure!(refused.is_empty(), "{}", refused.join("\n"));
    Ok(ExitCode::SUCCESS)
}

fn remove(left: &Left) -> Result<String, PinError> {
    let Some(directory) = left.open()? else { return Ok(String::new()) };
    let removed = directory.remove()?;
    let (programs, maps) = (removed.links, removed.maps);
    Ok(format!("{}: removed {programs} programs and {maps} maps from {}\n", name(left), left.path.display()))
}

/// What a person calls it.
fn name(left: &Left) -> String {
    match &left.state_dir {
        Some(state_dir) => format!("state directory {}", state_dir.display()),
        None => "a state directory that is not told".to_owned(),
    }
}
