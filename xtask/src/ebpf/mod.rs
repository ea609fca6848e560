//! `cargo xtask ebpf`: builds the kernel programs and keeps the object that is committed with the agent.

mod record;
mod toolchain;

use std::{fs, path::PathBuf};

use anyhow::{Context as _, Result, bail};

use crate::{command, paths::Paths, test::Count};
use record::Record;

/// What to do with a fresh build.
#[derive(clap::Args)]
pub(crate) struct Options {
    /// Change nothing: fail unless the committed object is the current one
    #[arg(long)]
    check: bool,
    /// Lint the kernel programs instead of building them
    #[arg(long, conflicts_with = "check")]
    clippy: bool,
}

/// Builds the object, then records it or compares it with the recorded one.
pub(crate) fn run(paths: &Paths, options: &Options) -> Result<()> {
    match options {
        Options { clippy: true, .. } => clippy(paths).map(drop),
        Options { check: true, .. } => check(paths).map(drop),
        _ => record(paths),
    }
}

/// Lints the kernel programs for the target they are built for.
pub(crate) fn clippy(paths: &Paths) -> Result<Count> {
    command::run(&mut toolchain::clippy(paths)?)?;
    Ok(Count::success())
}

fn record(paths: &Paths) -> Result<()> {
    let built = build(paths)?;
    let record = Record::of(paths, &built)?;
    fs::copy(&built, object(paths)).with_context(|| format!("cannot write {}", object(paths).display()))?;
    record.write(paths)?;
    println!("ebpf: {} ({} bytes)", object(paths).display(), fs::metadata(&built)?.len());
    Ok(())
}

/// The committed object must be made of the committed sources. That it is, only the compiler that made it can
/// show: with another, the hashes alone are compared.
pub(crate) fn check(paths: &Paths) -> Result<Count> {
    let recorded = Record::read(paths)?;
    let again = "run `cargo xtask ebpf` and commit what it changes";
    if recorded.sources != record::hash_sources(paths)? {
        bail!("the kernel programs changed after their object was built: {again}");
    }
    if recorded.object != record::hash_file(&object(paths))? {
        bail!("{} is not the object that was recorded: {again}", object(paths).display());
    }
    let fresh = Record::of(paths, &build(paths)?)?;
    if fresh.toolchain != recorded.toolchain {
        println!(
            "ebpf: the object was built by {}, not by {}: not compared",
            recorded.toolchain, fresh.toolchain
        );
    } else if fresh.object != recorded.object {
        bail!("a fresh build of the kernel programs differs from the committed object: {again}");
    }
    println!("ebpf: the committed object is current");
    Ok(Count::success())
}

fn build(paths: &Paths) -> Result<PathBuf> {
    command::run(&mut toolchain::build(paths)?)?;
    command::run(&mut toolchain::strip(paths))?;
    Ok(toolchain::built(paths))
}

/// The object that is committed and built into the agent.
fn object(paths: &Paths) -> PathBuf {
    paths.root.join("agent/src/kernel/conntally.bpf.o")
}
