//! The bytes of BTF: read into memory, or the kernel's own, mapped.
#![expect(unsafe_code, reason = "a mapping is made, read and removed by hand")]

use std::{
    fs::File,
    io,
    ops::Deref,
    os::fd::AsRawFd,
    ptr::{self, NonNull},
};

/// Bytes that do not change.
#[derive(Debug)]
pub struct Bytes(Kept);

#[derive(Debug)]
enum Kept {
    Read(Vec<u8>),
    Mapped(Mapping),
}

/// A read-only mapping of a file of the kernel's.
#[derive(Debug)]
struct Mapping {
    start: NonNull<u8>,
    len: usize,
}

impl Bytes {
    /// Maps a file of `/sys/kernel/btf`, which saves copying five megabytes by single pages. The kernel allows it for
    /// its image's file since 6.17.
    ///
    /// <https://github.com/torvalds/linux/blob/v6.17/kernel/bpf/sysfs_btf.c>
    pub(super) fn map(file: &File) -> io::Result<Self> {
        let len = usize::try_from(file.metadata()?.len()).unwrap_or(0);
        // SAFETY: a new mapping, at a place that the kernel chooses.
        let start = unsafe {
            libc::mmap(ptr::null_mut(), len, libc::PROT_READ, libc::MAP_PRIVATE, file.as_raw_fd(), 0)
        };
        if start == libc::MAP_FAILED {
            return Err(io::Error::last_os_error());
        }
        let start = NonNull::new(start.cast()).ok_or(io::ErrorKind::InvalidData)?;
        Ok(Self(Kept::Mapped(Mapping { start, len })))
    }
}

impl From<Vec<u8>> for Bytes {
    fn from(bytes: Vec<u8>) -> Self {
        Self(Kept::Read(bytes))
    }
}

impl Deref for Bytes {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        match &self.0 {
            Kept::Read(bytes) => bytes,
            // SAFETY: the mapping lives as long as `self`. The kernel never changes what is in it.
            Kept::Mapped(mapping) => unsafe {
                std::slice::from_raw_parts(mapping.start.as_ptr(), mapping.len)
            },
        }
    }
}

// SAFETY: the mapping is only read, and belongs to nobody else.
unsafe impl Send for Mapping {}
// SAFETY: as above.
unsafe impl Sync for Mapping {}

impl Drop for Mapping {
    fn drop(&mut self) {
        // SAFETY: it was mapped with this length, and nothing borrows it any more. It cannot fail, then.
        unsafe { libc::munmap(self.start.as_ptr().cast(), self.len) };
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    #[test]
    fn a_mapped_file_reads_as_its_content() {
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(b"what the kernel says").unwrap();
        assert_eq!(&*Bytes::map(&file).unwrap(), b"what the kernel says");
    }

    #[test]
    fn what_cannot_be_mapped_is_an_error() {
        assert!(Bytes::map(&tempfile::tempfile().unwrap()).is_err());
    }
}
