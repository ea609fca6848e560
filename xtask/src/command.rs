//! Runs other programs with errors that name them.

use std::{
    ffi::OsStr,
    process::{Command, Stdio},
};

use anyhow::{Context as _, Result, bail};

/// A program, found on `PATH` or in the folders that users' `PATH`s lack.
pub(crate) fn program(name: impl AsRef<OsStr>) -> Command {
    let mut command = Command::new(name);
    command.env("PATH", search_path());
    command
}

/// The same as root: by `sudo` unless this is root already.
pub(crate) fn as_root(name: impl AsRef<OsStr>) -> Command {
    if is_root() {
        return program(name);
    }
    let mut command = program("sudo");
    command.arg("--").arg(name);
    command
}

/// The same with the environment of this process; `None` where there is neither root nor `sudo`.
pub(crate) fn as_root_here(name: impl AsRef<OsStr>) -> Option<Command> {
    if is_root() {
        return Some(program(name));
    }
    exists("sudo").then(|| {
        let mut command = program("sudo");
        command.args(["-E", "--"]).arg(name);
        command
    })
}

/// Whether this process is root.
pub(crate) fn is_root() -> bool {
    nix::unistd::geteuid().is_root()
}

/// The cargo that runs this task.
pub(crate) fn cargo() -> Command {
    program(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()))
}

/// The same for what nobody waits for yet.
pub(crate) fn patient_cargo() -> Command {
    patient(cargo().get_program())
}

/// A program that takes the time that others leave.
pub(crate) fn patient(name: impl AsRef<OsStr>) -> Command {
    let mut command = program("nice");
    command.args(["-n", "19"]).arg(name);
    command
}

/// Whether a program of that name can be run.
pub(crate) fn exists(name: &str) -> bool {
    std::env::split_paths(&search_path()).any(|folder| folder.join(name).is_file())
}

/// Runs it to its end; its output goes where ours does.
pub(crate) fn run(command: &mut Command) -> Result<()> {
    let status = command.status().with_context(|| format!("cannot run {}", shown(command)))?;
    if !status.success() {
        bail!("{} failed: {status}", shown(command));
    }
    Ok(())
}

/// Runs it to its end and returns what it wrote to standard output.
pub(crate) fn output(command: &mut Command) -> Result<String> {
    let output = command
        .stderr(Stdio::inherit())
        .output()
        .with_context(|| format!("cannot run {}", shown(command)))?;
    if !output.status.success() {
        bail!("{} failed: {}", shown(command), output.status);
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// The command as one would type it.
pub(crate) fn shown(command: &Command) -> String {
    let words = std::iter::once(command.get_program()).chain(command.get_args());
    words.map(|word| quote(&word.to_string_lossy())).collect::<Vec<_>>().join(" ")
}

/// One word for a POSIX shell.
pub(crate) fn quote(word: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_./=:,+@%".contains(c);
    if !word.is_empty() && word.chars().all(plain) {
        return word.to_owned();
    }
    format!("'{}'", word.replace('\'', r"'\''"))
}

/// `PATH`, then where system tools and cargo's own installations are.
fn search_path() -> std::ffi::OsString {
    let mut path = std::env::var_os("PATH").unwrap_or_default();
    path.push(":/usr/local/sbin:/usr/sbin:/sbin");
    if let Ok(home) = crate::paths::cargo_home() {
        path.push(":");
        path.push(home.join("bin"));
    }
    path
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_word_with_blanks_or_quotes_is_one_word_to_a_shell() {
        let words = ["plain-1.2/x", "", "a b", "it's", "$(x)", "*"];
        for word in words {
            let mut shell = Command::new("sh");
            shell.arg("-c").arg(format!("printf %s {}", quote(word)));
            assert_eq!(output(&mut shell).unwrap(), word);
        }
    }

    #[test]
    fn a_failing_program_is_named() {
        let error = run(program("sh").args(["-c", "exit 3"])).unwrap_err().to_string();
        assert!(error.contains("sh -c 'exit 3'") && error.contains('3'), "{error}");
    }
}
