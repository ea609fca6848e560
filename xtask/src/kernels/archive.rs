//! Debian's archive, read through an apt folder of our own: no root needed, nothing changed on the system.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

use anyhow::{Context as _, Result, bail};

use super::series::{self, Series};
use crate::command::{output, program, run};

const SUITES: &[&str] = &["bullseye", "bookworm", "trixie", "trixie-backports"];
const SECURITY_SUITES: &[&str] = &["bullseye-security", "bookworm-security", "trixie-security"];

/// How long the lists of packages are used before they are fetched again.
const LISTS_ARE_GOOD_FOR: Duration = Duration::from_secs(6 * 3600);

/// A private view of the archive that the system itself uses.
pub(crate) struct Archive {
    folder: PathBuf,
}

impl Archive {
    /// Sets the folder up and gets the lists.
    pub(crate) fn open(folder: &Path) -> Result<Self> {
        for part in ["state/lists/partial", "archives/partial", "etc"] {
            fs::create_dir_all(folder.join(part))?;
        }
        fs::write(folder.join("etc/sources.list"), sources()?)?;
        let archive = Self { folder: folder.to_owned() };
        if !archive.is_fresh() {
            archive.update()?;
        }
        Ok(archive)
    }

    fn update(&self) -> Result<()> {
        // A suite that is gone fails the update, though the others were read.
        if let Err(error) = run(self.tool("apt-get").args(["-qq", "update"])) {
            println!("kernels: {error}; going on with what could be read");
        }
        fs::write(self.stamp(), "").context("cannot note the time of the update")
    }

    /// Old lists name packages that the archive no longer has.
    fn is_fresh(&self) -> bool {
        let age = fs::metadata(self.stamp()).ok().and_then(|of| of.modified().ok()?.elapsed().ok());
        age.is_some_and(|age| age < LISTS_ARE_GOOD_FOR)
    }

    fn stamp(&self) -> PathBuf {
        self.folder.join("updated")
    }

    /// The packages that hold the newest kernel of a series or, if it is gone, of the next newer one.
    pub(crate) fn packages_for(&self, wanted: &Series) -> Result<Vec<String>> {
        let names = output(self.tool("apt-cache").arg("pkgnames"))?;
        let Some(image) = series::choose(&names, wanted) else {
            bail!("the archive has no kernel {wanted} nor a newer one");
        };
        // From 6.19 on the modules are a package of their own.
        let modules = image.strip_prefix("linux-binary-").map(|rest| format!("linux-modules-{rest}"));
        Ok([Some(image), modules].into_iter().flatten().collect())
    }

    /// Downloads packages into a folder.
    pub(crate) fn download(&self, packages: &[String], folder: &Path) -> Result<()> {
        run(self.tool("apt-get").current_dir(folder).args(["-qq", "download"]).args(packages))
    }

    fn tool(&self, name: &str) -> Command {
        let option = |name: &str, below: &str| format!("{name}={}", self.folder.join(below).display());
        let mut command = program(name);
        for setting in [
            option("Dir::State", "state"),
            "Dir::State::status=/dev/null".into(),
            option("Dir::Cache", ""),
            option("Dir::Etc::SourceList", "etc/sources.list"),
            "Dir::Etc::SourceParts=/dev/null".into(),
            "APT::Architecture=amd64".into(),
            "APT::Architectures=amd64".into(),
            "APT::Sandbox::User=root".into(),
            "Acquire::Languages=none".into(),
        ] {
            command.arg("-o").arg(setting);
        }
        command
    }
}

/// The suites, at the addresses of the system's own sources.
fn sources() -> Result<String> {
    let format = "$(REPO_URI) $(CODENAME)";
    let targets =
        output(program("apt-get").args(["indextargets", "--format", format, "Created-By: Packages"]))?;
    let address = |security: bool| {
        let mut lines = targets.lines().filter_map(|line| line.split_once(' '));
        lines
            .find(|(_, suite)| suite.ends_with("-security") == security)
            .map(|(address, _)| address.to_owned())
    };
    let main = address(false).context("apt knows no archive: run `apt-get update` as root")?;
    let security = address(true).unwrap_or_else(|| main.clone());
    // Suites newer than this system are signed by keys that it does not know, and old ones have expired. What comes
    // from here is only ever booted in a guest.
    let line = |address: &str, suite: &str| {
        format!("deb [trusted=yes check-valid-until=no] {address} {suite} main\n")
    };
    let all = SUITES.iter().map(|suite| line(&main, suite));
    Ok(all.chain(SECURITY_SUITES.iter().map(|suite| line(&security, suite))).collect())
}
