//! Debian's archive, read through an apt folder of our own: no root needed, nothing changed on the system.

use std::{
    ffi::OsStr,
    fs,
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

use anyhow::{Context as _, Result};

use crate::command::{output, program, run};

/// How long the lists of packages are used before they are fetched again.
const LISTS_ARE_GOOD_FOR: Duration = Duration::from_secs(6 * 3600);

/// Whose packages are taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Signatures {
    /// Only those that the system's keys have signed, and not long ago.
    Checked,
    /// Anybody's: suites newer than this system are signed by keys that it does not know, and old ones have expired. For
    /// what is only ever booted in a guest.
    Ignored,
}

/// A private view of the archive that the system itself uses.
pub(crate) struct Archive {
    folder: PathBuf,
}

impl Archive {
    /// Sets the folder up and gets the lists of some suites.
    pub(crate) fn open(folder: &Path, suites: &[&str], signatures: Signatures) -> Result<Self> {
        for part in ["state/lists/partial", "archives/partial", "etc"] {
            fs::create_dir_all(folder.join(part))?;
        }
        fs::write(folder.join("etc/sources.list"), sources(suites, signatures)?)?;
        let archive = Self { folder: folder.to_owned() };
        if !archive.is_fresh() {
            archive.update()?;
        }
        Ok(archive)
    }

    fn update(&self) -> Result<()> {
        // A suite that is gone fails the update, though the others were read.
        if let Err(error) = run(self.tool("apt-get").args(["-qq", "update"])) {
            println!("{error}; going on with what could be read");
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

    /// Names of all packages, a line each.
    pub(crate) fn names(&self) -> Result<String> {
        output(self.tool("apt-cache").arg("pkgnames"))
    }

    /// Downloads packages into a folder that does not exist yet, and unpacks them below its `root`.
    pub(crate) fn unpack<Name: AsRef<OsStr>>(&self, packages: &[Name], folder: &Path) -> Result<PathBuf> {
        drop(fs::remove_dir_all(folder));
        let root = folder.join("root");
        fs::create_dir_all(&root).with_context(|| format!("cannot create {}", root.display()))?;
        run(self.tool("apt-get").current_dir(folder).args(["-qq", "download"]).args(packages))?;
        for package in files(folder, |name| name.ends_with(".deb"))? {
            run(program("dpkg-deb").arg("-x").arg(&package).arg(&root))?;
            fs::remove_file(package)?;
        }
        Ok(root)
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

/// The files in a folder whose names are wanted, in their order.
pub(crate) fn files(folder: &Path, wanted: impl Fn(&str) -> bool) -> Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).with_context(|| format!("cannot list {}", folder.display()))? {
        let entry = entry?;
        if wanted(&entry.file_name().to_string_lossy()) {
            found.push(entry.path());
        }
    }
    found.sort();
    Ok(found)
}

/// The suites, at the addresses of the system's own sources.
fn sources(suites: &[&str], signatures: Signatures) -> Result<String> {
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
    let options = match signatures {
        Signatures::Checked => "",
        Signatures::Ignored => "[trusted=yes check-valid-until=no] ",
    };
    let line = |suite: &&str| {
        let address = if suite.ends_with("-security") { &security } else { &main };
        format!("deb {options}{address} {suite} main\n")
    };
    Ok(suites.iter().map(line).collect())
}
