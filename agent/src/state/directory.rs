//! The state directory: its lock, the names of its files, which of them are removed or set aside.

use std::collections::BTreeSet;
use std::fs::{self, File, OpenOptions};
use std::io;
use std::path::{Path, PathBuf};

use super::format::FileKind;
use super::{Found, StateError, reading};
use crate::folder::{self, Refusal};

/// A state directory that no other process uses.
#[derive(Debug)]
pub struct Directory {
    path: PathBuf,
    /// Locked as long as it is open.
    _lock: File,
}

/// The generations of which there are files.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Files {
    pub(super) snapshots: BTreeSet<u64>,
    pub(super) logs: BTreeSet<u64>,
}

impl Files {
    /// The highest generation that has a file.
    pub(super) fn latest(&self) -> Option<u64> {
        self.snapshots.last().max(self.logs.last()).copied()
    }
}

impl Directory {
    /// Makes the directory if need be, for its owner alone, and locks it.
    ///
    /// # Errors
    /// When it cannot be made or another process uses it.
    pub fn open(path: &Path) -> Result<Self, StateError> {
        let failed = |what, cause| StateError::Directory { what, path: path.to_path_buf(), cause };
        let lock = folder::lock(path).map_err(|refusal| match refusal {
            Refusal::Make(cause) => failed("cannot make the state directory", cause),
            Refusal::Open(cause) => failed("cannot open the lock file of", cause),
            Refusal::Lock(cause) => failed("cannot lock", cause),
            Refusal::InUse(by) => StateError::InUse { path: path.to_path_buf(), by },
        })?;
        Ok(Self { path: path.to_path_buf(), _lock: lock })
    }

    /// Reads what the agent before has left. What this version does not understand is set aside, and told of; what that
    /// agent was just writing when it was killed is cut off.
    ///
    /// # Errors
    /// When a file cannot be read.
    pub fn read(&self) -> Result<Found, StateError> {
        reading::read(self)
    }

    /// Since when the source tells of which the latest was written; `None` when nothing can be read of this boot.
    #[must_use]
    pub fn latest_source(&self, boot_id: [u8; 16]) -> Option<u64> {
        // What cannot be read now is told of by whoever reads all of it.
        reading::latest_source(self, boot_id).ok().flatten()
    }

    /// Where it is.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// What there is.
    pub(super) fn files(&self) -> io::Result<Files> {
        let mut files = Files::default();
        for entry in fs::read_dir(&self.path)? {
            let name = entry?.file_name();
            match name.to_str().and_then(parse) {
                Some((FileKind::Snapshot, generation)) => files.snapshots.insert(generation),
                Some((FileKind::Log, generation)) => files.logs.insert(generation),
                None => false,
            };
        }
        Ok(files)
    }

    /// The place of a file.
    pub(super) fn place(&self, kind: FileKind, generation: u64) -> PathBuf {
        self.path.join(name(kind, generation))
    }

    /// Begins a log; one that is there from a start that failed is replaced.
    pub(super) fn begin_log(&self, generation: u64) -> io::Result<File> {
        options().truncate(true).open(self.place(FileKind::Log, generation))
    }

    /// Begins a snapshot, which has its name only when it is whole.
    pub(super) fn begin_snapshot(&self) -> io::Result<File> {
        options().truncate(true).open(self.unfinished())
    }

    /// Gives the snapshot its name, and removes what is older.
    pub(super) fn finish_snapshot(&self, generation: u64) -> io::Result<()> {
        fs::rename(self.unfinished(), self.place(FileKind::Snapshot, generation))?;
        // One that stays means something only where there is no state.
        let _ = fs::remove_file(self.unkept());
        self.remove(|found| found < generation)
    }

    /// Marks that from now on something happens which no state tells of.
    pub(super) fn mark_unkept(&self) -> io::Result<()> {
        options().open(self.unkept()).map(drop)
    }

    /// Whether something happened that no state tells of, unless there is one by now.
    pub(super) fn is_unkept(&self) -> bool {
        self.unkept().exists()
    }

    /// Removes every file of the state.
    pub(super) fn clear(&self) -> io::Result<()> {
        let _ = fs::remove_file(self.unfinished());
        self.remove(|_| true)
    }

    /// Snapshots first: a log without one is known to be incomplete, a snapshot without its log might pass for new.
    fn remove(&self, is_unwanted: impl Fn(u64) -> bool) -> io::Result<()> {
        let files = self.files()?;
        let snapshots = files.snapshots.iter().map(|&generation| (FileKind::Snapshot, generation));
        let logs = files.logs.iter().map(|&generation| (FileKind::Log, generation));
        snapshots
            .chain(logs)
            .filter(|&(_, generation)| is_unwanted(generation))
            .try_for_each(|(kind, generation)| fs::remove_file(self.place(kind, generation)))
    }

    /// Renames every file of the state, so that it is read by nobody and lost to nobody.
    pub(super) fn set_aside(&self, suffix: &str) -> io::Result<()> {
        // For whoever is not the first to find nothing. Without, as on a full disk, only the first knows.
        let _ = self.mark_unkept();
        let files = self.files()?;
        let snapshots = files.snapshots.iter().map(|&generation| (FileKind::Snapshot, generation));
        let logs = files.logs.iter().map(|&generation| (FileKind::Log, generation));
        snapshots.chain(logs).try_for_each(|(kind, generation)| {
            let aside = self.path.join(format!("{}.{suffix}", name(kind, generation)));
            fs::rename(self.place(kind, generation), aside)
        })
    }

    fn unkept(&self) -> PathBuf {
        self.path.join("unkept")
    }

    fn unfinished(&self) -> PathBuf {
        self.path.join("snapshot.unfinished")
    }
}

fn options() -> OpenOptions {
    let mut options = folder::private();
    options.write(true).create(true);
    options
}

fn name(kind: FileKind, generation: u64) -> String {
    match kind {
        FileKind::Log => format!("log.{generation}"),
        FileKind::Snapshot => format!("snapshot.{generation}"),
    }
}

fn parse(name: &str) -> Option<(FileKind, u64)> {
    let (kind, generation) = name.split_once('.')?;
    let kind = match kind {
        "log" => FileKind::Log,
        "snapshot" => FileKind::Snapshot,
        _ => return None,
    };
    let number = generation.parse().ok()?;
    (self::name(kind, number) == name).then_some((kind, number))
}
