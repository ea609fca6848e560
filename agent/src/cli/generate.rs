//! What the program writes about itself: completions, manual pages, the schema of its configuration, version.

use super::args::Cli;
use super::manual;
use anyhow::Context;
use clap::CommandFactory;
use clap_complete::Shell;
use clap_mangen::Man;
use std::path::Path;

/// The completions for a shell.
pub(super) fn completions(shell: Shell) -> Vec<u8> {
    let mut text = Vec::new();
    clap_complete::generate(shell, &mut Cli::command(), "conntally", &mut text);
    text
}

/// The manual page of the whole program, as roff.
pub(super) fn man_page() -> anyhow::Result<Vec<u8>> {
    render(&Man::new(Cli::command()).section("8"))
}

/// The page of the whole program: what clap knows, and sections of our own instead of the end of `--help`.
fn render(man: &Man) -> anyhow::Result<Vec<u8>> {
    let mut text = Vec::new();
    man.render_title(&mut text)?;
    man.render_name_section(&mut text)?;
    man.render_synopsis_section(&mut text)?;
    man.render_description_section(&mut text)?;
    man.render_options_section(&mut text)?;
    man.render_subcommands_section(&mut text)?;
    text.extend(manual::sections().into_bytes());
    man.render_version_section(&mut text)?;
    Ok(text)
}

/// Writes a page for the program and one for each command into a directory, which is made if need be.
pub(super) fn man_pages(directory: &Path) -> anyhow::Result<()> {
    // As the others are named, which say where to find each other.
    let man = Man::new(Cli::command().disable_help_subcommand(true));
    let page = render(&man)?;
    std::fs::create_dir_all(directory)
        .and_then(|()| clap_mangen::generate_to(Cli::command(), directory))
        .and_then(|()| std::fs::write(directory.join(man.get_filename()), page))
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
        assert!(text.contains(".SH \"EXIT STATUS\"\n.TP\n\\fB0\\fR\n"), "{text}");
        assert!(!text.contains("EXTRA"), "{text}");
    }

    #[test]
    fn the_pages_in_a_directory_are_as_those_on_standard_output() {
        let dir = tempfile::tempdir().unwrap();
        man_pages(dir.path()).unwrap();
        let page = std::fs::read_to_string(dir.path().join("conntally.1")).unwrap();
        assert!(page.contains(".SH FILES") || page.contains(".SH \"FILES\""), "{page}");
        assert!(!page.contains("EXTRA"), "{page}");
        assert!(dir.path().join("conntally-check.1").exists());
    }
}
