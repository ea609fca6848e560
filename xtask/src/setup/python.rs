//! The tools that come as Python packages: in an environment of their own, of which the system's Python knows nothing.

use std::fs;
use std::path::PathBuf;

use anyhow::{Context as _, Result};

use crate::{
    command::{program, run},
    paths::Paths,
};

/// What a folder of the repository lists in `requirements.txt`, with versions and hashes.
pub(crate) struct Environment {
    /// The folder.
    pub(crate) folder: &'static str,
    pub(crate) why: &'static str,
}

/// All of them.
pub(crate) const NEEDED: &[Environment] = &[BOARDS];

/// What boards are checked with.
pub(crate) const BOARDS: Environment =
    Environment { folder: "dashboards/check", why: "reads boards as Grafana does" };

impl Environment {
    /// Makes it unless it is there as it is listed; returns its interpreter.
    pub(crate) fn ensure(&self, paths: &Paths) -> Result<PathBuf> {
        let listed = paths.root.join(self.folder).join("requirements.txt");
        let wanted =
            fs::read_to_string(&listed).with_context(|| format!("cannot read {}", listed.display()))?;
        let place = paths.cache.join("python").join(self.folder.replace('/', "-"));
        let (python, installed) = (place.join("bin/python"), place.join("installed.txt"));
        if fs::read_to_string(&installed).is_ok_and(|installed| installed == wanted) {
            return Ok(python);
        }
        println!("setup: installing what {}, into {}", self.why, place.display());
        if place.exists() {
            fs::remove_dir_all(&place).with_context(|| format!("cannot remove {}", place.display()))?;
        }
        run(program("python3").args(["-m", "venv"]).arg(&place))
            .context("no virtual environment can be made: install Debian's package python3-venv")?;
        let pip =
            ["-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--require-hashes", "-r"];
        run(program(&python).args(pip).arg(&listed))?;
        // Last, so that one that was broken off is made anew.
        fs::write(&installed, wanted).with_context(|| format!("cannot write {}", installed.display()))?;
        Ok(python)
    }
}
