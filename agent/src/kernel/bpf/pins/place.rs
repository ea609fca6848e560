//! Where the pins of each state directory are.

use std::{
    fs, io,
    os::unix::ffi::OsStrExt,
    path::{Path, PathBuf},
};

use xxhash_rust::xxh3::xxh3_64;

use super::{Description, PinDirectory, PinError};

/// Where the bpf file system is mounted.
pub(super) const BPF_FS: &str = "/sys/fs/bpf";

/// The directory of all pins of all agents.
pub(super) const ROOT: &str = "/sys/fs/bpf/conntally";

/// Characters of a state directory's own name that a person gets to see in that of its pins.
const SHOWN: usize = 32;

/// The directory of the pins that belong to a state directory. There may be none.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    /// As an absolute path.
    pub(in super::super) state_dir: PathBuf,
    pub(super) path: PathBuf,
    /// Since when the source told that fed the state directory last, `CLOCK_BOOTTIME` nanoseconds of this boot.
    pub(in super::super) fed_since_ns: Option<u64>,
}

impl Place {
    /// The place for a state directory, by whichever path that is named.
    #[must_use]
    pub fn of(state_dir: &Path) -> Self {
        let absolute = || std::path::absolute(state_dir).unwrap_or_else(|_| state_dir.to_path_buf());
        let state_dir = state_dir.canonicalize().unwrap_or_else(|_| absolute());
        let path = Path::new(ROOT).join(name(&state_dir));
        Self { state_dir, path, fed_since_ns: None }
    }

    /// The same where a source has fed the state directory that told since then.
    #[must_use]
    pub fn fed_since(self, fed_since_ns: Option<u64>) -> Self {
        Self { fed_since_ns, ..self }
    }

    /// Its pins, if there are any.
    #[must_use]
    pub fn left(&self) -> Option<Left> {
        look_at(self.path.clone())
    }
}

/// Pins of some state directory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Left {
    /// Where they are.
    pub path: PathBuf,
    /// Of which state directory; `None` when they do not tell.
    pub state_dir: Option<PathBuf>,
    /// The process that uses them, 0 when it does not tell its number; `None` when none does.
    pub user: Option<u32>,
}

/// All that agents have pinned on this machine.
///
/// # Errors
/// When it cannot be read, mostly for want of privilege.
pub fn left() -> io::Result<Vec<Left>> {
    let entries = match fs::read_dir(ROOT) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        entries => entries?,
    };
    let mut found: Vec<Left> = entries.flatten().filter_map(|entry| look_at(entry.path())).collect();
    found.sort_by(|a, b| a.path.cmp(&b.path));
    Ok(found)
}

/// Whether any are there, used or not.
#[must_use]
pub fn are_left() -> bool {
    fs::read_dir(ROOT).is_ok_and(|mut entries| entries.next().is_some())
}

impl Left {
    /// Takes them; `None` when they are gone.
    ///
    /// # Errors
    /// When an agent uses them, or they cannot be read.
    pub fn open(&self) -> Result<Option<PinDirectory>, PinError> {
        if self.path.exists() { PinDirectory::open(&self.path).map(Some) } else { Ok(None) }
    }
}

fn look_at(path: PathBuf) -> Option<Left> {
    match PinDirectory::open(&path) {
        Ok(directory) => {
            let described = Description::read(&directory).ok().flatten();
            Some(Left { path, state_dir: described.map(|known| known.state_dir.into()), user: None })
        }
        Err(PinError::InUse { by, state_dir, .. }) => {
            Some(Left { path, state_dir, user: Some(by.unwrap_or(0)) })
        }
        // It went away meanwhile, or is none of ours.
        Err(_) => None,
    }
}

/// The end of the state directory's name, for people, and a digest of all of it. The file system takes no dots.
fn name(state_dir: &Path) -> String {
    let own = state_dir.file_name().unwrap_or_default().to_string_lossy();
    let is_plain = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '_';
    let shown: String = own.chars().take(SHOWN).map(|c| if is_plain(c) { c } else { '_' }).collect();
    format!("{shown}-{:016x}", xxh3_64(state_dir.as_os_str().as_bytes()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_directories_of_one_name_have_two_places() {
        let [a, b] = ["/var/lib/conntally", "/srv/conntally"].map(|path| name(Path::new(path)));
        assert!(a.starts_with("conntally-") && b.starts_with("conntally-"), "{a} {b}");
        assert_ne!(a, b);
        assert_eq!(a, name(Path::new("/var/lib/conntally")));
    }

    #[test]
    fn names_are_such_as_the_file_system_takes() {
        for path in ["/", "/tmp/.state", "/tmp/a b/ü.d", &format!("/tmp/{}", "x".repeat(300))] {
            let name = name(Path::new(path));
            assert!(
                name.len() < 64 && name.chars().all(|c| c.is_ascii_alphanumeric() || "-_".contains(c)),
                "{name}"
            );
        }
    }

    #[test]
    fn a_directory_has_one_place_by_whichever_path() {
        let temp = tempfile::tempdir().unwrap();
        let link = temp.path().join("link");
        std::os::unix::fs::symlink(temp.path(), &link).unwrap();
        assert_eq!(Place::of(&link), Place::of(temp.path()));
        assert_eq!(Place::of(&link.join(".")), Place::of(temp.path()));
    }
}
