//! What the program writes about itself: completions, manual pages, the schema of its configuration, version.

use super::args::Cli;
use anyhow::Context;
use clap::CommandFactory;
use clap_complete::Shell;
use std::path::Path;

/// The completions for a shell.
pub(super) fn completions(shell: Shell) -> Vec<u8> {
    let mut text = Vec::new();
    clap_complete::generate(shell, &mut Cli::command(), "conntally", &mut text);
    text
}

/// The manual page of the whole program, as roff.
pub(super) fn man_page() -> anyhow::Result<Vec<u8>> {
    let mut text = Vec::new();
    clap_mangen::Man::new(Cli::command()).section("8").render(&mut text)?;
    Ok(text)
}

/// Writes a page for the program and one for each command into a directory, which is made if need be.
pub(super) fn man_pages(directory: &Path) -> anyhow::Result<()> {
    std::fs::create_dir_all(directory)
        .and_then(|()| clap_mangen::generate_to(Cli::command(), directory))
        .with_context(|| format!("cannot write manual pages into {}", directory.display()))
}

/// The schema of the configuration.
pub(super) fn schema() -> anyhow::Result<Vec<u8>> {
    let mut text = serde_json::to_vec_pretty(&crate::config::json_schema())?;
    text.push(b'\n');
    Ok(text)
}

/// Version, architecture and kernel: what a report of a bug needs.
pub(super) fn version() -> String {
    let kernel = nix::sys::utsname::uname().map(|name| name.release().to_string_lossy().into_owned());
    let kernel = kernel.unwrap_or_else(|_| "unknown".into());
    format!("conntally {} ({}, kernel {kernel})\n", env!("CARGO_PKG_VERSION"), std::env::consts::ARCH)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_shell_gets_completions_of_every_command() {
        for shell in [Shell::Bash, Shell::Zsh, Shell::Fish] {
            let text = String::from_utf8(completions(shell)).unwrap();
            assert!(text.contains("replay") && text.contains("validate"), "{shell}");
        }
    }

    #[test]
    fn the_manual_page_tells_the_exit_codes() {
        let text = String::from_utf8(man_page().unwrap()).unwrap();
        assert!(text.contains("Exit codes"), "{text}");
    }
}
