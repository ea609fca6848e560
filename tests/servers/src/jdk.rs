//! A Java development kit that is new enough.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Result, bail};

use crate::shell::program;

/// The oldest kit that is at least of that version: servers are certain to run on the oldest Java they ask for.
///
/// # Errors
/// When there is none.
pub(crate) fn at_least(wanted: u32) -> Result<PathBuf> {
    let versions = candidates().into_iter().filter_map(|home| Some((version(&home)?, home)));
    let mut enough: Vec<_> = versions.filter(|(version, _)| *version >= wanted).collect();
    enough.sort();
    let Some((_, home)) = enough.into_iter().next() else {
        bail!(
            "no Java development kit of version {wanted} or newer in JAVA_HOME, PATH or /usr/lib/jvm: install one"
        );
    };
    Ok(home)
}

/// A program of a kit.
pub(crate) fn tool(home: &Path, name: &str) -> Command {
    let mut command = program(home.join("bin").join(name));
    command.env("JAVA_HOME", home).env_remove("JAVA_TOOL_OPTIONS");
    command
}

fn candidates() -> Vec<PathBuf> {
    let mut homes: Vec<PathBuf> = std::env::var_os("JAVA_HOME").map(PathBuf::from).into_iter().collect();
    let path = std::env::var_os("PATH").unwrap_or_default();
    let compilers =
        std::env::split_paths(&path).filter_map(|folder| folder.join("javac").canonicalize().ok());
    homes.extend(compilers.filter_map(|javac| Some(javac.parent()?.parent()?.to_owned())));
    let installed = fs::read_dir("/usr/lib/jvm").into_iter().flatten().flatten();
    homes.extend(installed.map(|entry| entry.path()));
    homes.retain(|home| home.join("bin/javac").is_file());
    homes
}

/// The first number of its version.
fn version(home: &Path) -> Option<u32> {
    major(&fs::read_to_string(home.join("release")).ok()?)
}

fn major(release: &str) -> Option<u32> {
    let version = release.lines().find_map(|line| line.strip_prefix("JAVA_VERSION="))?;
    version.trim_matches('"').split(['.', '-', '+']).next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_version_is_read_from_the_release_file() {
        assert_eq!(major("IMPLEMENTOR=\"x\"\nJAVA_VERSION=\"17.0.15\"\n"), Some(17));
        assert_eq!(major("JAVA_VERSION=\"25\"\n"), Some(25));
        assert_eq!(major("JAVA_VERSION=\"\"\n"), None);
    }

    #[test]
    fn a_kit_that_nobody_has_is_an_error() {
        let error = at_least(9999).unwrap_err().to_string();
        assert!(error.contains("9999"), "{error}");
    }
}
