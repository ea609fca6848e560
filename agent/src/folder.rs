//! Directories that one process uses at a time.

use std::fs::{DirBuilder, File, OpenOptions, TryLockError};
use std::io::{self, Read, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::Path;

/// Why a directory cannot be used.
#[derive(Debug)]
pub(crate) enum Refusal {
    /// It cannot be made.
    Make(io::Error),
    /// Its lock file cannot be opened.
    Open(io::Error),
    /// It cannot be locked.
    Lock(io::Error),
    /// Another process uses it; ` by process 17`, as far as that is known.
    InUse(String),
}

/// Makes the directory if need be, for its owner alone, and locks it for as long as the file is open.
pub(crate) fn lock(path: &Path) -> Result<File, Refusal> {
    DirBuilder::new().recursive(true).mode(0o700).create(path).map_err(Refusal::Make)?;
    let lock = private().write(true).create(true).read(true).open(path.join("lock"));
    let mut lock = lock.map_err(Refusal::Open)?;
    match lock.try_lock() {
        Ok(()) => {}
        Err(TryLockError::WouldBlock) => return Err(Refusal::InUse(holder(&mut lock))),
        Err(TryLockError::Error(cause)) => return Err(Refusal::Lock(cause)),
    }
    // Only tells whoever finds it locked; the lock itself is the kernel's.
    let _ = lock.set_len(0).and_then(|()| write!(lock, "{}", std::process::id()));
    Ok(lock)
}

/// Flows tell who talked to whom: files that are made are readable by their owner alone, and links are not followed.
pub(crate) fn private() -> OpenOptions {
    let mut options = OpenOptions::new();
    options.mode(0o600).custom_flags(libc::O_NOFOLLOW);
    options
}

fn holder(lock: &mut File) -> String {
    let mut holder = String::new();
    match lock.take(20).read_to_string(&mut holder) {
        Ok(_) if !holder.is_empty() => format!(" by process {holder}"),
        _ => String::new(),
    }
}
