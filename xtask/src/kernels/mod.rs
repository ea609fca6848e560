//! Kernels for guests: Debian's cloud images, by series, fetched once and kept in the cache.

mod series;

use std::{
    fs::{self, File},
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result, bail};

pub(crate) use series::Series;

use crate::{
    command::{output, program, run},
    debian::{Archive, Signatures, files},
    paths::Paths,
};

/// Where the series are.
const SUITES: &[&str] = &[
    "bullseye",
    "bookworm",
    "trixie",
    "trixie-backports",
    "bullseye-security",
    "bookworm-security",
    "trixie-security",
];

/// The series that the project promises to run on.
pub(crate) const SUPPORTED: &[&str] = &["5.10", "6.1", "6.12", "6.18", "7.2"];

/// A kernel that can be booted.
#[derive(Debug)]
pub(crate) struct Kernel {
    /// The series that was asked for.
    pub(crate) wanted: Series,
    /// Its release, as `uname -r` prints it.
    pub(crate) release: String,
    /// Holds `vmlinuz` and `lib/modules/RELEASE`.
    pub(crate) folder: PathBuf,
}

impl Kernel {
    /// The newest kernel of a series, from the cache or else from the archive. When the series has left the
    /// archive, the next newer one takes its place.
    pub(crate) fn find(paths: &Paths, wanted: &Series) -> Result<Self> {
        let all = paths.cache.join("kernels");
        fs::create_dir_all(&all).with_context(|| format!("cannot create {}", all.display()))?;
        // Two tasks may want the same kernel at once.
        let lock = File::create(all.join("lock")).context("cannot create the lock of the kernel cache")?;
        lock.lock().context("cannot lock the kernel cache")?;
        let folder = all.join(wanted.to_string());
        if !folder.join("vmlinuz").exists() {
            fetch(&all, wanted, &folder).with_context(|| format!("cannot get a kernel {wanted}"))?;
        }
        let release =
            fs::read_to_string(folder.join("release")).context("the kernel cache is damaged: delete it")?;
        Ok(Self { wanted: wanted.clone(), release: release.trim().to_owned(), folder })
    }

    /// Its image.
    pub(crate) fn image(&self) -> PathBuf {
        self.folder.join("vmlinuz")
    }

    /// What took the place of the wanted series, if it is gone.
    pub(crate) fn substitute(&self) -> Option<String> {
        let found = Series::of_release(&self.release)?;
        (found != self.wanted)
            .then(|| format!("{} has left the archive, {} takes its place", self.wanted, self.release))
    }

    /// The files of the modules of these names and of all that they need; unknown names are left out, since what
    /// is a module differs from kernel to kernel.
    pub(crate) fn module_files(&self, names: &[&str]) -> Vec<PathBuf> {
        let mut files: Vec<PathBuf> = names.iter().flat_map(|name| self.module_chain(name)).collect();
        files.sort();
        files.dedup();
        files
    }

    fn module_chain(&self, name: &str) -> Vec<PathBuf> {
        let mut modprobe = program("modprobe");
        // Options that the host sets for its own modules are none of the guest's.
        modprobe.args(["-C", "/dev/null"]).arg("-d").arg(&self.folder).args([
            "-S",
            &self.release,
            "--show-depends",
            name,
        ]);
        // The exit code says that it does not exist here, or is built in.
        let Ok(output) = modprobe.output() else { return Vec::new() };
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        text.lines().filter_map(|line| line.strip_prefix("insmod ")).map(|line| line.trim().into()).collect()
    }
}

/// Downloads and unpacks into `folder`, which appears only when it is complete.
fn fetch(all: &Path, wanted: &Series, folder: &Path) -> Result<()> {
    println!("kernels: looking for {wanted} in the archive");
    let archive = Archive::open(&all.join("apt"), SUITES, Signatures::Ignored)?;
    let packages = packages_for(&archive.names()?, wanted)?;
    println!("kernels: fetching {}", packages.join(", "));
    let work = all.join(format!("{wanted}.new"));
    let root = archive.unpack(&packages, &work)?;
    sort(&work, &root)?;
    drop(fs::remove_dir_all(folder));
    fs::rename(&work, folder).context("cannot put the kernel into the cache")
}

/// The packages that hold the newest kernel of a series or, if it is gone, of the next newer one.
fn packages_for(names: &str, wanted: &Series) -> Result<Vec<String>> {
    let Some(image) = series::choose(names, wanted) else {
        bail!("the archive has no kernel {wanted} nor a newer one");
    };
    // From 6.19 on the modules are a package of their own.
    let modules = image.strip_prefix("linux-binary-").map(|rest| format!("linux-modules-{rest}"));
    Ok([Some(image), modules].into_iter().flatten().collect())
}

/// Makes `vmlinuz`, `release` and `lib/modules` of what was unpacked.
fn sort(work: &Path, root: &Path) -> Result<()> {
    // Newer packages keep both below /usr.
    let folder_of = |names: [&str; 2]| names.map(|name| root.join(name)).into_iter().find(|at| at.is_dir());
    let modules = folder_of(["usr/lib/modules", "lib/modules"]).context("the package has no modules")?;
    let release = files(&modules, |_| true)?.into_iter().next().context("the package has no modules")?;
    let image = output(program("find").arg(root).args(["-name", "vmlinuz*", "-type", "f"]))?;
    let image = image.lines().next().context("the package has no kernel image")?.to_owned();
    let name = release.file_name().context("a modules folder without a name")?.to_string_lossy().into_owned();
    fs::create_dir_all(work.join("lib"))?;
    fs::rename(&image, work.join("vmlinuz"))?;
    fs::rename(&modules, work.join("lib/modules"))?;
    fs::write(work.join("release"), &name)?;
    fs::remove_dir_all(root)?;
    run(program("depmod").arg("-b").arg(work).arg(&name))
}
