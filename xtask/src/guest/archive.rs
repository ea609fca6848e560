//! The tree of files that a guest boots from, and its packing.

use std::{
    fs::{self, File},
    os::unix::fs::symlink,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use anyhow::{Context as _, Result, bail};

use crate::command::{self, program};

/// A folder that becomes a part of a guest's root file system; removed when dropped.
pub(crate) struct Tree {
    root: PathBuf,
}

impl Tree {
    /// An empty tree at `root`, whatever was there.
    pub(crate) fn new(root: PathBuf) -> Result<Self> {
        drop(fs::remove_dir_all(&root));
        fs::create_dir_all(&root).with_context(|| format!("cannot create {}", root.display()))?;
        Ok(Self { root })
    }

    /// Where it is on the host.
    pub(crate) fn root(&self) -> &Path {
        &self.root
    }

    /// A path in the tree, of one in the guest; the folder it is in exists then.
    pub(crate) fn at(&self, inside: &str) -> Result<PathBuf> {
        let path = self.root.join(inside.trim_start_matches('/'));
        if let Some(folder) = path.parent() {
            fs::create_dir_all(folder).with_context(|| format!("cannot create {}", folder.display()))?;
        }
        Ok(path)
    }

    /// Makes a folder.
    pub(crate) fn folder(&self, inside: &str) -> Result<()> {
        let path = self.root.join(inside);
        fs::create_dir_all(&path).with_context(|| format!("cannot create {}", path.display()))
    }

    /// Writes a file that can be run.
    pub(crate) fn script(&self, inside: &str, text: &str) -> Result<()> {
        use std::os::unix::fs::PermissionsExt as _;
        let path = self.at(inside)?;
        fs::write(&path, text)?;
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755))?;
        Ok(())
    }

    /// Writes a file.
    pub(crate) fn text(&self, inside: &str, text: &str) -> Result<()> {
        fs::write(self.at(inside)?, text).with_context(|| format!("cannot write {inside}"))
    }

    /// Makes a link.
    pub(crate) fn link(&self, target: &str, inside: &str) -> Result<()> {
        symlink(target, self.at(inside)?).with_context(|| format!("cannot link {inside}"))
    }

    /// Copies a file or folder; a program gets the libraries that it is linked with.
    pub(crate) fn copy(&self, file: &Path, inside: &str) -> Result<()> {
        let to = self.at(inside)?;
        command::run(program("cp").args(["-rL", "--"]).arg(file).arg(&to))?;
        for library in libraries(file) {
            let there = self.at(&library.to_string_lossy())?;
            if !there.exists() {
                fs::copy(&library, &there).with_context(|| format!("cannot copy {}", library.display()))?;
            }
        }
        Ok(())
    }

    /// Copies a program of the host's into `/bin`.
    pub(crate) fn tool(&self, name: &str) -> Result<()> {
        let found =
            command::output(program("sh").arg("-c").arg(format!("command -v {}", command::quote(name))))
                .with_context(|| format!("{name} is missing: run `cargo xtask setup`"))?;
        self.copy(Path::new(found.trim()), &format!("bin/{name}"))
    }

    /// Packs the tree, as the kernel unpacks it.
    pub(crate) fn pack(&self, to: &Path) -> Result<()> {
        let packed = File::create(to).with_context(|| format!("cannot create {}", to.display()))?;
        // One pipeline, and its first failure counts.
        let mut find = program("find").current_dir(&self.root).arg(".").stdout(Stdio::piped()).spawn()?;
        let names = find.stdout.take().context("find has no output")?;
        let cpio = program("cpio")
            .current_dir(&self.root)
            .args(["--create", "--format=newc", "--quiet", "--owner=0:0"])
            .stdin(names)
            .stdout(packed)
            .status()
            .context("cannot run cpio: run `cargo xtask setup`")?;
        if !find.wait()?.success() || !cpio.success() {
            bail!("cannot pack {}", self.root.display());
        }
        Ok(())
    }
}

impl Drop for Tree {
    fn drop(&mut self) {
        drop(fs::remove_dir_all(&self.root));
    }
}

/// The libraries a program is linked with; none for a static one, a script or a folder.
fn libraries(file: &Path) -> Vec<PathBuf> {
    let Ok(output) = Command::new("ldd").arg(file).stderr(Stdio::null()).output() else { return Vec::new() };
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    text.split_whitespace()
        .filter(|word| word.starts_with('/'))
        .map(|word| word.trim_end_matches(':').into())
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_program_comes_with_its_libraries() {
        let found = libraries(Path::new("/bin/sh"));
        assert!(found.iter().any(|file| file.to_string_lossy().contains("libc.so")), "{found:?}");
        assert!(found.iter().all(|file| file.exists()), "{found:?}");
        assert_eq!(libraries(Path::new("/etc/passwd")), Vec::<PathBuf>::new());
    }

    #[test]
    fn a_tree_is_packed_and_goes() {
        let folder = tempfile::tempdir().unwrap();
        let tree = Tree::new(folder.path().join("tree")).unwrap();
        tree.script("bin/x", "#!/bin/sh\n").unwrap();
        tree.pack(&folder.path().join("packed")).unwrap();
        let packed = fs::read(folder.path().join("packed")).unwrap();
        // The magic of the format, initramfs buffer format in the kernel's documentation.
        assert_eq!(&packed[..6], b"070701");
        drop(tree);
        assert!(!folder.path().join("tree").exists());
    }
}
