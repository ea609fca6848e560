//! The project's own programs, built for guests.

use std::{path::PathBuf, process::Command};

use anyhow::Result;

use crate::{
    command::{cargo, patient_cargo, run},
    paths::Paths,
};

/// How the programs are built.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Profile {
    /// For tests: built quickly.
    Quick,
    /// What users get.
    Release,
}

impl Profile {
    const fn name(self) -> &'static str {
        match self {
            Self::Quick => "bench-quick",
            Self::Release => "release",
        }
    }
}

/// Built programs.
pub(crate) struct Binaries {
    folder: PathBuf,
}

/// The agent, and the tests' programs.
const ALL: &[&str] = &["conntally", "conntally-tests"];

/// The programs that guests get.
const NAMES: &[&str] = &["conntally", "conntally-e2e", "conntally-pps", "conntally-flows"];

impl Binaries {
    /// Builds the agent and the tests' programs.
    pub(crate) fn build(paths: &Paths, profile: Profile) -> Result<Self> {
        eprintln!("building the agent and the test programs ({})", profile.name());
        Self::of(paths, profile, ALL, cargo())
    }

    /// The same for tests that come later.
    pub(crate) fn build_ahead(paths: &Paths) -> Result<Self> {
        Self::of(paths, Profile::Quick, ALL, patient_cargo())
    }

    /// Builds the agent as users get it, with no feature of a dependency that only the tests' programs ask for.
    pub(crate) fn release_agent(paths: &Paths) -> Result<Self> {
        eprintln!("building the agent (release)");
        Self::of(paths, Profile::Release, &["conntally"], cargo())
    }

    fn of(paths: &Paths, profile: Profile, packages: &[&str], mut build: Command) -> Result<Self> {
        build.current_dir(&paths.root).args(["build", "--quiet", "--locked", "--bins"]);
        build.args(["--profile", profile.name()]);
        build.args(packages.iter().flat_map(|package| ["-p", package]));
        run(&mut build)?;
        Ok(Self { folder: paths.target.join(profile.name()) })
    }

    /// The path of one of them.
    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.join(name)
    }

    /// All of them that there are.
    pub(crate) fn all(&self) -> Vec<PathBuf> {
        NAMES.iter().map(|name| self.path(name)).filter(|path| path.is_file()).collect()
    }
}
