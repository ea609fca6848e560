//! A directory of pins: its lock, its names, its removal.

use std::{
    fs::{self, DirBuilder, File, TryLockError},
    io,
    os::unix::fs::DirBuilderExt,
    path::{Path, PathBuf},
    thread,
    time::Duration,
};

use nix::sys::statfs::{BPF_FS_MAGIC, statfs};

use super::{
    Description, Place,
    place::{BPF_FS, ROOT},
};

const LINK: &str = "link_";
const MAP: &str = "map_";
const RETIRED: &str = "retired_";

/// Who only looks at a directory has it locked for less than this.
const GLANCE: Duration = Duration::from_millis(20);
const GLANCES: usize = 10;

/// A directory of pins that no other process uses.
#[derive(Debug)]
pub struct PinDirectory {
    path: PathBuf,
    /// Locked as long as it is open.
    _lock: File,
}

/// What was removed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Removed {
    /// Programs that were attached.
    pub links: usize,
    /// Maps.
    pub maps: usize,
}

/// Why pins cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum PinError {
    /// There is no place for them.
    #[error("no bpf file system is mounted at {BPF_FS}; `mount -t bpf bpf {BPF_FS}` mends it")]
    NoFileSystem,
    /// Another process has locked them.
    #[error("{path} is in use{}", .by.map_or_else(String::new, |by| format!(" by process {by}; stop it first")))]
    InUse {
        /// Where they are.
        path: PathBuf,
        /// The process, if it told its number.
        by: Option<u32>,
        /// Its state directory, if it told it.
        state_dir: Option<PathBuf>,
    },
    /// The file system refuses something.
    #[error("cannot {what} {path}")]
    FileSystem {
        /// What was tried.
        what: &'static str,
        /// Where.
        path: PathBuf,
        /// What the system call said.
        #[source]
        cause: io::Error,
    },
}

impl PinDirectory {
    /// Makes the directory if need be, for its owner alone, and locks it.
    ///
    /// # Errors
    /// When there is no bpf file system, or another process uses the directory.
    pub fn make(place: &Place) -> Result<Self, PinError> {
        let is_there = statfs(BPF_FS).is_ok_and(|found| found.filesystem_type() == BPF_FS_MAGIC);
        if !is_there {
            return Err(PinError::NoFileSystem);
        }
        let made = DirBuilder::new().recursive(true).mode(0o700).create(&place.path);
        made.map_err(|cause| failed("make", &place.path, cause))?;
        let mut opened = Self::open(&place.path);
        for _ in 0..GLANCES {
            if !matches!(opened, Err(PinError::InUse { .. })) {
                break;
            }
            thread::sleep(GLANCE);
            opened = Self::open(&place.path);
        }
        opened
    }

    /// Locks one that is there.
    ///
    /// # Errors
    /// When another process uses it.
    pub(super) fn open(path: &Path) -> Result<Self, PinError> {
        let lock = File::open(path).map_err(|cause| failed("open", path, cause))?;
        match lock.try_lock() {
            Ok(()) => Ok(Self { path: path.to_path_buf(), _lock: lock }),
            Err(TryLockError::WouldBlock) => Err(in_use(path)),
            Err(TryLockError::Error(cause)) => Err(failed("lock", path, cause)),
        }
    }

    /// Where it is.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The name of the link of a program.
    pub(in super::super) fn link(&self, program: &str) -> PathBuf {
        self.path.join(format!("{LINK}{program}"))
    }

    /// The links that are there.
    pub(in super::super) fn links(&self) -> Vec<PathBuf> {
        self.named(|name| name.starts_with(LINK)).unwrap_or_default()
    }

    /// The name of a map.
    pub(in super::super) fn map(&self, map: &str) -> PathBuf {
        map_at(&self.path, map)
    }

    /// Sets maps aside with what is said of them, the description last: whoever dies meanwhile leaves the rest to be added
    /// by the next one.
    ///
    /// # Errors
    /// When something cannot be renamed.
    pub(in super::super) fn retire(&self, maps: &[&str]) -> Result<(), PinError> {
        let last = self.all_retired().into_iter().next_back();
        let begun = last.as_ref().filter(|last| !description(last).exists());
        let to = begun.map_or_else(|| self.next_retired(last.as_deref()), |begun| Ok(begun.clone()))?;
        let pins = maps.iter().map(|map| self.map(map)).chain([board(&self.path), description(&self.path)]);
        for path in pins.filter(|path| path.exists()) {
            let to = to.join(path.file_name().unwrap_or_default());
            fs::rename(&path, to).map_err(|cause| failed("set aside", &path, cause))?;
        }
        Ok(())
    }

    fn next_retired(&self, last: Option<&Path>) -> Result<PathBuf, PinError> {
        let number = |path: &Path| path.file_name()?.to_str()?.strip_prefix(RETIRED)?.parse::<u32>().ok();
        let next = last.and_then(number).map_or(0, |last| last.saturating_add(1));
        let path = self.path.join(format!("{RETIRED}{next:05}"));
        DirBuilder::new().mode(0o700).create(&path).map_err(|cause| failed("make", &path, cause))?;
        Ok(path)
    }

    /// Where what was set aside is, the oldest first.
    pub(in super::super) fn retired(&self) -> Vec<PathBuf> {
        let mut found = self.all_retired();
        found.retain(|path| description(path).exists());
        found
    }

    /// Also those without a description, which were not set aside to the end or not removed to the end.
    fn all_retired(&self) -> Vec<PathBuf> {
        let mut found = self.named(|name| name.starts_with(RETIRED)).unwrap_or_default();
        found.sort();
        found
    }

    /// Removes what was set aside, the descriptions first: of what whoever dies meanwhile leaves, nothing is read again.
    ///
    /// # Errors
    /// When something cannot be removed.
    pub(in super::super) fn forget_retired(&self) -> Result<(), PinError> {
        for path in self.retired().iter().map(|path| description(path)) {
            fs::remove_file(&path).map_err(|cause| failed("remove", &path, cause))?;
        }
        for path in self.all_retired() {
            fs::remove_dir_all(&path).map_err(|cause| failed("remove", &path, cause))?;
        }
        Ok(())
    }

    /// Removes all pins but what was set aside.
    ///
    /// # Errors
    /// When one cannot be removed.
    pub(in super::super) fn clear(&self) -> Result<Removed, PinError> {
        // Without it nobody takes the rest for whole.
        let _ = fs::remove_file(description(&self.path));
        let links = self.remove_named(|name| name.starts_with(LINK))?;
        let maps = self.remove_named(|name| name.starts_with(MAP))?;
        self.remove_named(|name| !name.starts_with(RETIRED))?;
        Ok(Removed { links, maps })
    }

    /// Removes all pins, and the directory.
    ///
    /// # Errors
    /// When something cannot be removed.
    pub fn remove(self) -> Result<Removed, PinError> {
        let removed = self.clear()?;
        self.forget_retired()?;
        fs::remove_dir(&self.path).map_err(|cause| failed("remove", &self.path, cause))?;
        // It stays as long as others have directories there.
        let _ = fs::remove_dir(ROOT);
        Ok(removed)
    }

    fn remove_named(&self, is_meant: impl Fn(&str) -> bool) -> Result<usize, PinError> {
        let named = self.named(is_meant)?;
        for path in &named {
            fs::remove_file(path).map_err(|cause| failed("remove", path, cause))?;
        }
        Ok(named.len())
    }

    fn named(&self, is_meant: impl Fn(&str) -> bool) -> Result<Vec<PathBuf>, PinError> {
        let entries = fs::read_dir(&self.path).map_err(|cause| failed("read", &self.path, cause))?;
        let meant = entries.flatten().filter(|entry| entry.file_name().to_str().is_some_and(&is_meant));
        Ok(meant.map(|entry| entry.path()).collect())
    }
}

/// The name of a map, also of one that was set aside.
pub(in super::super) fn map_at(directory: &Path, map: &str) -> PathBuf {
    directory.join(format!("{MAP}{map}"))
}

/// The name of the map that notes what was told.
pub(super) fn board(directory: &Path) -> PathBuf {
    directory.join("told")
}

/// The name of the map that describes the rest.
pub(super) fn description(directory: &Path) -> PathBuf {
    directory.join("description")
}

fn in_use(path: &Path) -> PinError {
    let known = Description::read_at(path).ok().flatten();
    let state_dir = known.as_ref().map(|known| known.state_dir.clone().into());
    PinError::InUse { path: path.to_path_buf(), by: known.map(|known| known.process), state_dir }
}

fn failed(what: &'static str, path: &Path, cause: io::Error) -> PinError {
    PinError::FileSystem { what, path: path.to_path_buf(), cause }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A directory of another file system, which does for names and locks.
    fn directory() -> (tempfile::TempDir, PinDirectory) {
        let temp = tempfile::tempdir().unwrap();
        let path = temp.path().join("pins");
        fs::create_dir(&path).unwrap();
        let directory = PinDirectory::open(&path).unwrap();
        (temp, directory)
    }

    #[test]
    fn a_directory_in_use_is_refused() {
        let (_temp, directory) = directory();
        assert!(matches!(PinDirectory::open(directory.path()), Err(PinError::InUse { .. })));
        let path = directory.path().to_path_buf();
        drop(directory);
        assert!(PinDirectory::open(&path).is_ok());
    }

    #[test]
    fn removing_counts_links_and_maps_and_leaves_nothing() {
        let (temp, directory) = directory();
        let others = [description(directory.path()), directory.path().join("told")];
        for path in
            [directory.link("destroy"), directory.map("ENDS"), directory.map("SLOTS")].iter().chain(&others)
        {
            fs::write(path, "").unwrap();
        }
        assert_eq!(directory.remove().unwrap(), Removed { links: 1, maps: 2 });
        assert_eq!(fs::read_dir(temp.path()).unwrap().count(), 0);
    }

    fn write(directory: &PinDirectory, number: usize) {
        let maps = ["ENDS", "SLOTS"].map(|map| directory.map(map));
        let others = [directory.link("destroy"), description(directory.path())];
        maps.iter().chain(&others).for_each(|path| fs::write(path, number.to_string()).unwrap());
    }

    #[test]
    fn what_was_set_aside_stays_in_its_order_until_it_is_forgotten() {
        let (temp, directory) = directory();
        for number in 0..12 {
            write(&directory, number);
            directory.retire(&["ENDS", "TALLIES"]).unwrap();
            assert!(directory.link("destroy").exists() && !description(directory.path()).exists());
            assert_eq!(directory.clear().unwrap(), Removed { links: 1, maps: 1 });
        }
        let numbers = directory.retired().into_iter().map(|path| fs::read_to_string(map_at(&path, "ENDS")));
        assert_eq!(
            numbers.map(Result::unwrap).collect::<Vec<_>>(),
            (0..12).map(|n| n.to_string()).collect::<Vec<_>>()
        );
        write(&directory, 12);
        directory.forget_retired().unwrap();
        assert!(directory.retired().is_empty() && directory.map("ENDS").exists());
        directory.retire(&["ENDS", "TALLIES"]).unwrap();
        directory.remove().unwrap();
        assert_eq!(fs::read_dir(temp.path()).unwrap().count(), 0);
    }

    #[test]
    fn who_died_while_setting_aside_is_followed() {
        let (_temp, directory) = directory();
        write(&directory, 0);
        directory.retire(&["ENDS", "TALLIES"]).unwrap();
        write(&directory, 1);
        // As far as the maps.
        let begun = directory.next_retired(directory.retired().last().map(PathBuf::as_path)).unwrap();
        fs::rename(directory.map("ENDS"), map_at(&begun, "ENDS")).unwrap();
        directory.retire(&["ENDS", "TALLIES"]).unwrap();
        let retired = directory.retired();
        assert_eq!(retired.len(), 2);
        assert!(retired.iter().all(|path| map_at(path, "ENDS").exists() && description(path).exists()));
    }

    #[test]
    fn what_was_removed_in_part_is_not_read_again() {
        let (temp, directory) = directory();
        for number in 0..2 {
            write(&directory, number);
            directory.retire(&["ENDS", "TALLIES"]).unwrap();
        }
        let [first, second] = directory.retired().try_into().unwrap();
        fs::remove_file(description(&second)).unwrap();
        fs::create_dir(description(&second)).unwrap();
        assert!(directory.forget_retired().is_err(), "it is a directory");
        assert_eq!(directory.retired(), std::slice::from_ref(&second));
        fs::remove_dir(description(&second)).unwrap();
        assert!([first, second].iter().all(|path| map_at(path, "ENDS").exists()));

        write(&directory, 2);
        directory.retire(&["ENDS", "TALLIES"]).unwrap();
        let [whole] = directory.retired().try_into().unwrap();
        assert_eq!(fs::read_to_string(map_at(&whole, "ENDS")).unwrap(), "2");
        directory.remove().unwrap();
        assert_eq!(fs::read_dir(temp.path()).unwrap().count(), 0);
    }
}
