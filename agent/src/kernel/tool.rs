//! Programs of the system that the agent starts.

use std::{env, process::Command};

/// A program for administrators, not started yet: `su` without `-` leaves their folders out of `PATH`.
#[must_use]
pub fn tool(name: &str) -> Command {
    let mut path = env::var_os("PATH").unwrap_or_default();
    path.push(":/usr/sbin:/sbin");
    let mut command = Command::new(name);
    command.env("PATH", path);
    command
}
