//! The emulator of guests: the system's, or a newer one of Debian's archive if that is too old.

use std::{
    fs::{self, File},
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context as _, Result, ensure};

use crate::{
    command::{output, program},
    debian::{Archive, Signatures},
    paths::Paths,
};

const NAME: &str = "qemu-system-x86_64";

/// The first version that does not go on with code which another CPU has just rewritten. Kernels rewrite their functions
/// where programs are attached to these: under older ones a guest with several CPUs dies of that, once in some hundred
/// guests, by a breakpoint or a jump that is no longer there.
///
/// <https://bugzilla.redhat.com/show_bug.cgi?id=2216496>
const REWRITES_SEEN: Version = [8, 1];

/// What is fetched. All that these need of libraries, the system's older emulator needs too.
const PACKAGES: &[&str] = &["qemu-system-x86", "qemu-system-common", "qemu-system-data", "seabios"];

/// Folders below the unpacked packages in which the emulator looks for what guests begin with.
const DATA: &[&str] = &["usr/share/qemu", "usr/share/seabios"];

type Version = [u32; 2];

/// An emulator that can be run.
pub(super) struct Emulator {
    program: PathBuf,
    data: Vec<PathBuf>,
}

impl Emulator {
    /// The system's emulator, or, if that is too old for so many CPUs, the one in the cache, which is fetched if there is
    /// none. With one CPU nobody else's code is rewritten.
    pub(super) fn find(paths: &Paths, cpus: u32) -> Result<Self> {
        let system = Self { program: NAME.into(), data: Vec::new() };
        let version = system.version().context("run `cargo xtask setup`")?;
        if cpus == 1 || version >= REWRITES_SEEN {
            return Ok(system);
        }
        let all = paths.cache.join("qemu");
        fs::create_dir_all(&all).with_context(|| format!("cannot create {}", all.display()))?;
        // Two guests may start at once.
        let lock =
            File::create(all.join("lock")).context("cannot create the lock of the emulator's cache")?;
        lock.lock().context("cannot lock the emulator's cache")?;
        let cached = Self::below(&all.join("root"));
        if !cached.program.exists() {
            fetch(&all).with_context(|| {
                let [major, minor] = version;
                format!(
                    "guests with several CPUs need QEMU 8.1 or newer, this is {major}.{minor}, and a newer one cannot be had"
                )
            })?;
        }
        Ok(cached)
    }

    fn below(root: &Path) -> Self {
        let data = DATA.iter().map(|folder| root.join(folder)).collect();
        Self { program: root.join("usr/bin").join(NAME), data }
    }

    /// To be given a guest.
    pub(super) fn command(&self) -> Command {
        let mut command = program(&self.program);
        self.data.iter().for_each(|folder| {
            command.arg("-L").arg(folder);
        });
        command
    }

    fn version(&self) -> Result<Version> {
        let words = output(self.command().arg("--version"))?;
        version_of(&words).with_context(|| format!("QEMU does not tell its version but {words:?}"))
    }
}

/// Fetches and unpacks to `root` in a folder, which appears only when it is complete.
fn fetch(folder: &Path) -> Result<()> {
    let release = fs::read_to_string("/etc/os-release").context("it is not known which Debian this is")?;
    let name = codename(&release).context("it is not known which Debian this is")?;
    println!("guests: fetching a newer QEMU from {name}-backports");
    let archive = Archive::open(&folder.join("apt"), &[&format!("{name}-backports")], Signatures::Checked)?;
    let work = folder.join("new");
    let root = archive.unpack(PACKAGES, &work)?;
    let version = Emulator::below(&root).version().context("it cannot be run here")?;
    ensure!(version >= REWRITES_SEEN, "it is too old, too");
    fs::rename(&root, folder.join("root")).context("cannot put it into the cache")?;
    fs::remove_dir(work).context("cannot tidy the cache up")
}

/// Of `/etc/os-release`.
fn codename(release: &str) -> Option<&str> {
    release.lines().find_map(|line| line.strip_prefix("VERSION_CODENAME=")).map(|name| name.trim_matches('"'))
}

/// Of `QEMU emulator version 7.2.22 (Debian …)`.
fn version_of(words: &str) -> Option<Version> {
    let mut numbers = words.split_once(" version ")?.1.split('.');
    Some([numbers.next()?.parse().ok()?, numbers.next()?.parse().ok()?])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_emulator_is_too_old_by_its_version() {
        let is_too_old = |words| version_of(words).is_some_and(|version| version < REWRITES_SEEN);
        assert!(is_too_old("QEMU emulator version 7.2.22 (Debian 1:7.2+dfsg-7)"));
        assert!(is_too_old("QEMU emulator version 8.0.5"));
        assert!(!is_too_old("QEMU emulator version 8.1.0"));
        assert!(!is_too_old("QEMU emulator version 10.0.2 (Debian 1:10.0.2+ds-2)"));
        assert_eq!(version_of("something else"), None);
    }

    #[test]
    fn a_system_has_a_codename() {
        assert_eq!(codename("ID=debian\nVERSION_CODENAME=bookworm\n"), Some("bookworm"));
        assert_eq!(codename("VERSION_CODENAME=\"trixie\""), Some("trixie"));
        assert_eq!(codename("ID=arch"), None);
    }
}
