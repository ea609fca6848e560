//! The value of a map as memory that this process shares with the kernel programs.
#![expect(unsafe_code, reason = "memory that the kernel maps")]

use std::{
    io,
    marker::PhantomData,
    os::fd::{AsFd, AsRawFd, BorrowedFd},
    ptr::NonNull,
};

use aya::maps::MapData;
use zerocopy::{FromBytes, IntoBytes};

/// The elements of an array map that was made with `BPF_F_MMAPABLE`.
pub(super) struct Shared<T> {
    memory: NonNull<T>,
    len: usize,
    _elements: PhantomData<T>,
}

// SAFETY: the mapping belongs to the process, not to a thread; it is plain data, read and written whole.
unsafe impl<T: FromBytes + IntoBytes> Send for Shared<T> {}

impl<T: FromBytes + IntoBytes + Copy> Shared<T> {
    /// Opens a map whose values are made of as many `T` as fit.
    ///
    /// # Errors
    /// When the kernel does not map it.
    pub(super) fn open(map: &MapData) -> io::Result<Self> {
        const { assert!(size_of::<T>().is_multiple_of(8), "the elements of an array map are 8-byte aligned") };
        let info = map.info().map_err(io::Error::other)?;
        let bytes = info.value_size() as usize * info.max_entries() as usize;
        Self::map(map.fd().as_fd(), bytes / size_of::<T>())
    }

    /// Maps the first `len` elements.
    pub(super) fn map(map: BorrowedFd<'_>, len: usize) -> io::Result<Self> {
        // SAFETY: a new mapping at an address that the kernel chooses.
        let address = unsafe {
            libc::mmap(
                std::ptr::null_mut(),
                len * size_of::<T>(),
                libc::PROT_READ | libc::PROT_WRITE,
                libc::MAP_SHARED,
                map.as_raw_fd(),
                0,
            )
        };
        if address == libc::MAP_FAILED {
            return Err(io::Error::last_os_error());
        }
        let memory = NonNull::new(address.cast()).ok_or(io::ErrorKind::OutOfMemory)?;
        Ok(Self { memory, len, _elements: PhantomData })
    }

    /// Number of elements.
    pub(super) const fn len(&self) -> usize {
        self.len
    }

    /// An element; `None` past the last.
    pub(super) fn get(&self, index: usize) -> Option<T> {
        // SAFETY: within the mapping. Volatile, because the programs write it.
        (index < self.len).then(|| unsafe { self.memory.add(index).read_volatile() })
    }

    /// Sets an element; nothing happens past the last.
    pub(super) fn set(&mut self, index: usize, value: T) {
        if index < self.len {
            // SAFETY: within the mapping. Volatile, because the programs read it.
            unsafe { self.memory.add(index).write_volatile(value) };
        }
    }
}

impl<T> Drop for Shared<T> {
    fn drop(&mut self) {
        // SAFETY: the mapping that `map` made, of which no reference was ever handed out.
        unsafe { libc::munmap(self.memory.as_ptr().cast(), self.len * size_of::<T>()) };
    }
}
