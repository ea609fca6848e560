//! Counts the instructions of a piece of work by running this program again under callgrind.
//!
//! The same work is counted with fewer and with more repetitions; the difference is theirs alone, without what
//! preparing costs. Figures do not depend on the machine's speed nor on what else runs there.

use std::process::Command;

use anyhow::{Context as _, Result, bail};

/// What a program that was started to be counted finds as its first argument; then the work and the repetitions.
const COUNTED: &str = "--counted";

/// Does the work if this process was started for that.
///
/// # Errors
/// When the arguments are not those of [`per_repetition`], or the work fails.
pub(super) fn answer(work: impl FnOnce(&str, u64) -> Result<()>) -> Result<bool> {
    let arguments: Vec<String> = std::env::args().collect();
    let [_, flag, name, repetitions, ..] = arguments.as_slice() else { return Ok(false) };
    if flag != COUNTED {
        return Ok(false);
    }
    work(name, repetitions.parse().context("no number of repetitions")?)?;
    Ok(true)
}

/// Instructions of user space that one repetition of the named work takes, from those of `few` and of `many`.
/// `prepare` is done before each count.
///
/// # Errors
/// When valgrind is not installed or the work fails.
pub(super) fn per_repetition(
    work: &str,
    few: u64,
    many: u64,
    prepare: impl Fn() -> Result<()>,
) -> Result<u64> {
    prepare()?;
    let less = counted(work, few)?;
    prepare()?;
    let more = counted(work, many)?;
    Ok(more.saturating_sub(less) / many.saturating_sub(few).max(1))
}

fn counted(work: &str, repetitions: u64) -> Result<u64> {
    let this = std::env::current_exe().context("this program does not know its own place")?;
    let mut valgrind = Command::new("valgrind");
    valgrind.args(["--tool=callgrind", "--callgrind-out-file=/dev/null"]).arg(this);
    valgrind.args([COUNTED, work, &repetitions.to_string()]);
    let output = valgrind.output().context("cannot run valgrind: install it by `cargo xtask setup`")?;
    let told = String::from_utf8_lossy(&output.stderr);
    if !output.status.success() {
        bail!("{work} failed under valgrind ({}):\n{told}", output.status);
    }
    let total = told.lines().find_map(|line| line.split_once("Collected : ")?.1.trim().parse().ok());
    total.with_context(|| format!("callgrind told no count:\n{told}"))
}
