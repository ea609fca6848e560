//! The benchmarks that are programs of the agent's own, built as users get it.

use std::path::PathBuf;

use anyhow::{Context as _, Result};

use crate::{
    command::{as_root_here, cargo, output, program, run as run_command},
    paths::Paths,
    setup,
};

/// From the kernel's ring buffer to a record. Making a ring needs root.
pub(crate) fn ring(paths: &Paths) -> Result<()> {
    setup::ensure(&["valgrind"])?;
    let built = build(paths, "ring")?;
    run_command(&mut as_root_here(&built).unwrap_or_else(|| program(&built)))
}

/// Bytes of a flow.
pub(crate) fn memory(paths: &Paths) -> Result<()> {
    run_command(&mut program(build(paths, "memory")?))
}

/// From a record to a line.
pub(crate) fn json(paths: &Paths) -> Result<()> {
    setup::ensure(&["valgrind"])?;
    run_command(&mut program(build(paths, "json")?))
}

/// Requests to disk and back.
pub(crate) fn spool(paths: &Paths) -> Result<()> {
    run_command(&mut program(build(paths, "spool")?))
}

/// From a recording to a sink, by the agent as users get it.
pub(crate) fn pipeline(paths: &Paths) -> Result<()> {
    setup::ensure(&["valgrind"])?;
    run_command(program(build(paths, "replay")?).arg("--servers").arg(&paths.cache))
}

/// Builds one and returns where it is.
fn build(paths: &Paths, name: &str) -> Result<PathBuf> {
    eprintln!("building the benchmark {name} (release)");
    let mut build = cargo();
    build.current_dir(&paths.root).args(["bench", "--quiet", "--locked", "-p", "conntally", "--bench", name]);
    let told = output(build.args(["--no-run", "--message-format=json"]))?;
    let mut messages =
        told.lines().rev().filter_map(|line| serde_json::from_str::<serde_json::Value>(line).ok());
    // Cargo tells of the agent's own program too.
    let is_it = |message: &serde_json::Value| {
        message.pointer("/target/kind/0").is_some_and(|kind| kind == "bench")
            && message.pointer("/target/name").is_some_and(|target| target == name)
    };
    let executable = messages
        .find_map(|message| Some(message.get("executable")?.as_str()?.into()).filter(|_| is_it(&message)));
    executable.with_context(|| format!("cargo told of no program for {name}"))
}
