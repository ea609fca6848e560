//! The size of the agent as users get it.

use std::fs;

use anyhow::{Context as _, Result, ensure};
use serde::Serialize;

use crate::{guest::Binaries, paths::Paths};

/// What is promised, in bytes.
const LIMIT: u64 = 12_000_000;

#[derive(Serialize)]
struct Line {
    bench: &'static str,
    /// Of the stripped release build.
    bytes: u64,
    /// Of that, the kernel programs.
    object: u64,
    limit: u64,
    ok: bool,
}

/// Builds the agent for release and prints a JSON line; fails if it is too big.
pub(crate) fn run(paths: &Paths) -> Result<()> {
    let agent = Binaries::release_agent(paths)?.path("conntally");
    let size = |file| fs::metadata(file).map(|of| of.len()).with_context(|| "cannot measure the agent");
    let bytes = size(agent)?;
    let object = size(paths.root.join("agent/src/kernel/conntally.bpf.o"))?;
    let line = Line { bench: "size", bytes, object, limit: LIMIT, ok: bytes <= LIMIT };
    println!("{}", serde_json::to_string(&line)?);
    ensure!(line.ok, "the agent is bigger than promised");
    Ok(())
}
