//! What is written down about the committed object: of which sources and by which compiler it was made.

use std::{
    fs,
    io::Write as _,
    path::{Path, PathBuf},
    process::Stdio,
};

use anyhow::{Context as _, Result};

use super::toolchain;
use crate::{command::program, paths::Paths};

/// The recorded facts. Hashes are SHA-256 in hex.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Record {
    /// Of all sources, see [`hash_sources`].
    pub(crate) sources: String,
    /// Of the object.
    pub(crate) object: String,
    /// Compiler and linker.
    pub(crate) toolchain: String,
}

impl Record {
    /// The facts about an object just built of the sources as they are.
    pub(crate) fn of(paths: &Paths, object: &Path) -> Result<Self> {
        Ok(Self {
            sources: hash_sources(paths)?,
            object: hash_file(object)?,
            toolchain: toolchain::describe()?,
        })
    }

    /// The committed facts.
    pub(crate) fn read(paths: &Paths) -> Result<Self> {
        let file = file(paths);
        let text = fs::read_to_string(&file)
            .with_context(|| format!("cannot read {}: run `cargo xtask ebpf`", file.display()))?;
        Self::parse(&text)
            .with_context(|| format!("{} is incomplete: run `cargo xtask ebpf`", file.display()))
    }

    /// Writes them beside the object.
    pub(crate) fn write(&self, paths: &Paths) -> Result<()> {
        fs::write(file(paths), self.to_text())
            .with_context(|| format!("cannot write {}", file(paths).display()))
    }

    fn parse(text: &str) -> Option<Self> {
        let value = |key: &str| {
            text.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix(' ')).map(str::to_owned)
        };
        Some(Self { sources: value("sources")?, object: value("object")?, toolchain: value("toolchain")? })
    }

    fn to_text(&self) -> String {
        format!("sources {}\nobject {}\ntoolchain {}\n", self.sources, self.object, self.toolchain)
    }
}

/// The hash of the list of the sources' hashes and names, so that a renamed file counts too.
pub(crate) fn hash_sources(paths: &Paths) -> Result<String> {
    let folder = paths.root.join("agent-ebpf");
    let mut files =
        vec![folder.join("Cargo.toml"), folder.join("Cargo.lock"), folder.join("common/Cargo.toml")];
    rust_files(&folder.join("src"), &mut files)?;
    rust_files(&folder.join("common/src"), &mut files)?;
    files.sort();
    let mut list = String::new();
    for file in &files {
        let name = file.strip_prefix(&folder).unwrap_or(file);
        list.push_str(&format!("{} {}\n", hash_file(file)?, name.display()));
    }
    hash(list.as_bytes())
}

/// The hash of one file.
pub(crate) fn hash_file(file: &Path) -> Result<String> {
    let bytes = fs::read(file).with_context(|| format!("cannot read {}", file.display()))?;
    hash(&bytes)
}

fn hash(bytes: &[u8]) -> Result<String> {
    let mut child = program("sha256sum")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .context("cannot run sha256sum")?;
    // It writes nothing before it has read everything, so this cannot block for ever; dropping the pipe ends it.
    child.stdin.take().context("sha256sum has no input")?.write_all(bytes)?;
    let output = child.wait_with_output()?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    text.split_whitespace().next().map(str::to_owned).context("sha256sum printed nothing")
}

fn rust_files(folder: &Path, found: &mut Vec<PathBuf>) -> Result<()> {
    for entry in fs::read_dir(folder).with_context(|| format!("cannot list {}", folder.display()))? {
        let path = entry?.path();
        if path.is_dir() {
            rust_files(&path, found)?;
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            found.push(path);
        }
    }
    Ok(())
}

fn file(paths: &Paths) -> PathBuf {
    paths.root.join("agent/src/kernel/conntally.bpf.sha256")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read() {
        let record =
            Record { sources: "aa".into(), object: "bb".into(), toolchain: "rustc 1, linker 2".into() };
        assert_eq!(Record::parse(&record.to_text()), Some(record));
        assert_eq!(Record::parse("sources aa\n"), None);
    }

    #[test]
    fn a_known_text_has_its_known_hash() {
        // FIPS 180-2, B.1
        assert_eq!(hash(b"abc").unwrap(), "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
    }
}
