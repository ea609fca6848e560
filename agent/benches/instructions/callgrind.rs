//! Counts the instructions of user space of a whole program by callgrind.

use std::ffi::OsStr;
use std::path::Path;
use std::process::Command;

use anyhow::{Context as _, Result, bail};

/// Instructions of a program from its start to its end, in all its threads, and what it wrote to standard error.
///
/// # Errors
/// When valgrind is not installed or the program fails.
pub(super) fn instructions<S: AsRef<OsStr>>(
    program: &Path,
    arguments: impl IntoIterator<Item = S>,
) -> Result<(u64, String)> {
    let mut valgrind = Command::new("valgrind");
    valgrind.args(["--tool=callgrind", "--callgrind-out-file=/dev/null"]).arg(program).args(arguments);
    let output = valgrind.output().context("cannot run valgrind: install it by `cargo xtask setup`")?;
    let told = String::from_utf8_lossy(&output.stderr).into_owned();
    if !output.status.success() {
        bail!("{} failed under valgrind ({}):\n{told}", program.display(), output.status);
    }
    let total = told.lines().find_map(|line| line.split_once("Collected : ")?.1.trim().parse().ok());
    Ok((total.with_context(|| format!("callgrind told no count:\n{told}"))?, told))
}
