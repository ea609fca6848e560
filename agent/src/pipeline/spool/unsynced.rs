//! What was written and need not be on the disk yet.
#![expect(unsafe_code, reason = "a call of the system that no library wraps")]

use std::fs::File;
use std::io;
use std::ops::Range;
use std::os::fd::AsRawFd as _;
use std::path::Path;
use std::sync::Arc;

/// What was written begins to go to the disk in parts of so many bytes, so that a sync has little to wait for.
const PART: u64 = 8 << 20;

/// Files in the order in which what was written to them has to reach the disk.
#[derive(Debug, Default)]
pub struct Unsynced(Vec<Part>);

#[derive(Debug)]
enum Part {
    Content(Arc<File>),
    /// Of the files in a directory.
    Names(File),
}

impl Unsynced {
    pub(super) const fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(super) fn add_content(&mut self, file: Arc<File>) {
        self.0.push(Part::Content(file));
    }

    /// Once is enough, whatever names come until then.
    pub(super) fn add_names(&mut self, dir: &Path) -> io::Result<()> {
        if !self.0.iter().any(|part| matches!(part, Part::Names(_))) {
            self.0.push(Part::Names(File::open(dir)?));
        }
        Ok(())
    }

    /// What is removed need not get there any more.
    pub(super) fn forget(&mut self, removed: &Arc<File>) {
        self.0.retain(|part| !matches!(part, Part::Content(file) if Arc::ptr_eq(file, removed)));
    }

    /// Waits until all of it is on the disk.
    ///
    /// # Errors
    /// When the system says that something is not: what comes behind it is not brought there before it.
    pub fn sync(&self) -> io::Result<()> {
        self.0.iter().try_for_each(Part::sync)
    }
}

/// Has the parts of a file that were filled begin to go to the disk: `written` is where bytes were appended. Waits for
/// nothing but room in the queue of the disk; that it fails is told by the sync.
///
/// <https://man7.org/linux/man-pages/man2/sync_file_range.2.html>
pub(super) fn begin_to_sync(file: &File, written: &Range<u64>) {
    let [begin, end] = [written.start, written.end].map(|offset| (offset / PART * PART).cast_signed());
    if begin < end {
        // SAFETY: the file is open, and the call touches no memory of this process.
        unsafe { libc::sync_file_range(file.as_raw_fd(), begin, end - begin, libc::SYNC_FILE_RANGE_WRITE) };
    }
}

impl Part {
    fn sync(&self) -> io::Result<()> {
        match self {
            Self::Content(file) => file.sync_data(),
            // A new name is no data of a directory.
            Self::Names(dir) => dir.sync_all(),
        }
    }
}
