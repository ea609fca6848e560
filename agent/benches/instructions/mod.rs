//! Counts the instructions of a piece of work by running this program again under callgrind.
//!
//! The same work is counted with fewer and with more repetitions; the difference is theirs alone, without what
//! preparing costs. Figures do not depend on the machine's speed nor on what else runs there.

mod callgrind;

use anyhow::{Context as _, Result};

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
    let (total, _) = callgrind::instructions(&this, [COUNTED, work, &repetitions.to_string()])?;
    Ok(total)
}
