//! Where things are: the repository, its build folder, the cache.

use std::{
    env, fs,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result, bail};

/// The folders that tasks work in.
pub(crate) struct Paths {
    /// The repository.
    pub(crate) root: PathBuf,
    /// Cargo's build folder.
    pub(crate) target: PathBuf,
    /// What is worth keeping between clones: kernels, guests.
    pub(crate) cache: PathBuf,
}

impl Paths {
    /// Finds the repository above the working directory.
    pub(crate) fn discover() -> Result<Self> {
        let here = env::current_dir().context("the working directory is gone")?;
        let Some(root) = here.ancestors().find(|folder| is_root(folder)) else {
            bail!("{} is not inside the repository: run this in a clone of it", here.display());
        };
        let target = env::var_os("CARGO_TARGET_DIR").map_or_else(|| root.join("target"), |at| root.join(at));
        let cache = cache_home()?.join("conntally");
        fs::create_dir_all(&cache).with_context(|| format!("cannot create {}", cache.display()))?;
        Ok(Self { root: root.to_owned(), target, cache })
    }
}

/// Where cargo keeps registries and installed programs.
pub(crate) fn cargo_home() -> Result<PathBuf> {
    folder("CARGO_HOME", ".cargo")
}

fn cache_home() -> Result<PathBuf> {
    folder("XDG_CACHE_HOME", ".cache")
}

/// The folder a variable names, else the one below the home folder.
fn folder(variable: &str, below_home: &str) -> Result<PathBuf> {
    if let Some(set) = env::var_os(variable).filter(|set| !set.is_empty()) {
        return Ok(set.into());
    }
    let home = env::home_dir().with_context(|| format!("neither {variable} nor HOME is set"))?;
    Ok(home.join(below_home))
}

fn is_root(folder: &Path) -> bool {
    folder.join("Cargo.toml").is_file() && folder.join("xtask").is_dir()
}
