//! Which agents run on this machine: two lock files in the run directory, which the kernel releases when one dies.
//!
//! `agents.lock` is held shared by every agent as long as it runs; who can take it alone is the last. `change.lock`
//! is held for moments, by whoever comes, leaves or changes the values: so none of these overlap.

use super::SysctlError;
use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

/// An agent that runs.
#[derive(Debug)]
pub(super) struct Presence {
    agents: File,
    change: File,
    directory: PathBuf,
}

/// Nobody else comes, leaves or changes values until it is dropped.
#[derive(Debug)]
pub(super) struct Exclusive<'a>(&'a File);

/// The same for an agent that has left as the last.
#[derive(Debug)]
pub(super) struct Alone {
    // Closing the files gives the locks back: the agents' one first.
    _agents: File,
    _change: File,
}

impl Presence {
    /// Tells the others that this agent runs.
    ///
    /// # Errors
    /// When the directory or a lock file cannot be made or locked.
    pub(super) fn announce(directory: &Path) -> Result<Self, SysctlError> {
        let made = DirBuilder::new().recursive(true).mode(0o755).create(directory);
        made.map_err(|cause| failed("cannot make the run directory", directory, cause))?;
        let presence = Self {
            agents: open(directory, "agents.lock")?,
            change: open(directory, "change.lock")?,
            directory: directory.into(),
        };
        let exclusive = presence.exclusive()?;
        presence.agents.lock_shared().map_err(|cause| failed("cannot lock agents.lock", directory, cause))?;
        drop(exclusive);
        Ok(presence)
    }

    /// Waits for the moment in which nobody else comes, leaves or changes values.
    ///
    /// # Errors
    /// When the file system knows no locks.
    pub(super) fn exclusive(&self) -> Result<Exclusive<'_>, SysctlError> {
        self.change.lock().map_err(|cause| failed("cannot lock change.lock", &self.directory, cause))?;
        Ok(Exclusive(&self.change))
    }

    /// Leaves; tells whether this was the last agent. Until the answer is dropped, no other can come.
    ///
    /// # Errors
    /// When the file system knows no locks.
    pub(super) fn leave(self) -> Result<Option<Alone>, SysctlError> {
        let Self { agents, change, directory } = self;
        let error = |cause| failed("cannot lock agents.lock", &directory, cause);
        change.lock().map_err(error)?;
        agents.unlock().map_err(error)?;
        match agents.try_lock() {
            Ok(()) => Ok(Some(Alone { _agents: agents, _change: change })),
            Err(fs::TryLockError::WouldBlock) => Ok(None),
            Err(fs::TryLockError::Error(cause)) => Err(error(cause)),
        }
    }
}

impl Drop for Exclusive<'_> {
    fn drop(&mut self) {
        // Closing the file releases it at the latest.
        let _ = self.0.unlock();
    }
}

fn open(directory: &Path, name: &str) -> Result<File, SysctlError> {
    let path = directory.join(name);
    // Not readable by others: whoever can open the file could lock it and make every agent wait.
    OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600)
        .custom_flags(libc::O_NOFOLLOW)
        .open(&path)
        .map_err(|cause| failed("cannot open the lock file", &path, cause))
}

fn failed(what: &'static str, path: &Path, cause: io::Error) -> SysctlError {
    SysctlError { what, path: path.to_path_buf(), cause }
}
