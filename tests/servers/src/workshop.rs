//! Where one server is being built.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result};

use crate::shell;

/// The folders of a build, and its log.
#[derive(Debug)]
pub struct Workshop {
    /// What is put here is the result.
    pub result: PathBuf,
    /// Sources and intermediate files; removed afterwards.
    pub scratch: PathBuf,
    /// Shared by all servers: what several of them need.
    pub shared: PathBuf,
    /// What the tools said.
    pub log: PathBuf,
}

impl Workshop {
    /// Runs a tool to its end.
    pub(crate) fn run(&self, command: &mut Command) -> Result<()> {
        shell::run(command, &self.log)
    }

    /// Runs a tool and returns its standard output.
    pub(crate) fn output(&self, command: &mut Command) -> Result<String> {
        shell::output(command, &self.log)
    }

    /// A writable copy of a folder, below the scratch folder.
    pub(crate) fn copy(&self, from: &Path, name: &str) -> Result<PathBuf> {
        let to = self.scratch.join(name);
        self.run(shell::program("cp").arg("-r").arg(from).arg(&to))?;
        self.run(shell::program("chmod").args(["-R", "u+w"]).arg(&to))?;
        Ok(to)
    }

    /// A new folder in the result.
    pub(crate) fn folder(&self, name: &str) -> Result<PathBuf> {
        let folder = self.result.join(name);
        fs::create_dir_all(&folder).with_context(|| format!("cannot create {}", folder.display()))?;
        Ok(folder)
    }
}
