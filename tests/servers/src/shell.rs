//! Runs the programs that build a server, with all they say in a log.

use std::ffi::OsStr;
use std::fs::File;
use std::path::Path;
use std::process::{Command, Stdio};

use anyhow::{Context as _, Result, bail};

/// How much of a log an error repeats.
const LAST_LINES: usize = 15;

/// A program, which may also be where Go installs itself.
pub(crate) fn program(name: impl AsRef<OsStr>) -> Command {
    let mut command = Command::new(name);
    let mut path = std::env::var_os("PATH").unwrap_or_default();
    path.push(":/usr/local/go/bin:/usr/local/sbin:/usr/sbin:/sbin");
    command.env("PATH", path).stdin(Stdio::null());
    command
}

/// Runs it to its end; what it says is added to the log.
pub(crate) fn run(command: &mut Command, log: &Path) -> Result<()> {
    let to = append(log)?;
    command.stdout(to.try_clone()?).stderr(to);
    let status = command.status().with_context(|| cannot(command))?;
    if !status.success() {
        bail!("{} failed ({status}); the end of {}:\n{}", shown(command), log.display(), last_lines(log));
    }
    Ok(())
}

/// Runs it to its end and returns what it wrote to standard output; the rest is added to the log.
pub(crate) fn output(command: &mut Command, log: &Path) -> Result<String> {
    command.stderr(append(log)?);
    let output = command.output().with_context(|| cannot(command))?;
    if !output.status.success() {
        bail!(
            "{} failed ({}); the end of {}:\n{}",
            shown(command),
            output.status,
            log.display(),
            last_lines(log)
        );
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// A file that is added to.
pub(crate) fn append(log: &Path) -> Result<File> {
    File::options()
        .create(true)
        .append(true)
        .open(log)
        .with_context(|| format!("cannot write {}", log.display()))
}

/// What a log ends with.
pub(crate) fn last_lines(log: &Path) -> String {
    let text = std::fs::read(log).unwrap_or_default();
    let text = String::from_utf8_lossy(&text);
    let skipped = text.lines().count().saturating_sub(LAST_LINES);
    text.lines().skip(skipped).collect::<Vec<_>>().join("\n")
}

fn cannot(command: &Command) -> String {
    format!("cannot run {}: `cargo xtask setup` says what is needed", shown(command))
}

fn shown(command: &Command) -> String {
    let words = std::iter::once(command.get_program()).chain(command.get_args());
    words.map(OsStr::to_string_lossy).collect::<Vec<_>>().join(" ")
}
