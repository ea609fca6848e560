//! A ring of events whose reader gives room back only when what it took is kept: until then another process would
//! find it there again.
#![expect(unsafe_code, reason = "memory that the kernel maps")]

use std::{
    io,
    os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd},
    ptr::NonNull,
    sync::atomic::{AtomicU32, AtomicUsize, Ordering},
};

use aya::maps::MapData;
use aya_obj::generated::{BPF_RINGBUF_BUSY_BIT, BPF_RINGBUF_DISCARD_BIT, BPF_RINGBUF_HDR_SZ};
use nix::unistd::{SysconfVar, sysconf};

/// Bytes before each record: its length with two flags, and where its page is.
const HEADER: usize = BPF_RINGBUF_HDR_SZ as usize;

/// A ring of the kernel programs and the place of its reader, of which there is one.
///
/// <https://github.com/torvalds/linux/blob/v6.12/kernel/bpf/ringbuf.c#L29>
pub struct Ring {
    map: OwnedFd,
    /// A page: up to where room was given back.
    consumer: Mapping,
    /// A page: up to where records were written; then the records, twice, so that none is cut at the end.
    producer: Mapping,
    page: usize,
    size: usize,
    /// Up to where records were taken.
    position: usize,
    /// Whether what comes next is still being written.
    is_held_up: bool,
}

/// A place between two records of a ring, good until either is given back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Place(usize);

impl Ring {
    /// Opens a map of type ring buffer.
    ///
    /// # Errors
    /// When the kernel does not map it.
    pub fn open(map: &MapData) -> io::Result<Self> {
        let bytes = map.info().map_err(io::Error::other)?.max_entries();
        Self::of(map.fd().as_fd(), bytes as usize, page_bytes() as usize)
    }

    fn of(map: BorrowedFd<'_>, size: usize, page: usize) -> io::Result<Self> {
        let map = map.try_clone_to_owned()?;
        let consumer = Mapping::new(map.as_fd(), page, libc::PROT_READ | libc::PROT_WRITE, 0)?;
        let producer = Mapping::new(map.as_fd(), page + 2 * size, libc::PROT_READ, page)?;
        let position = consumer.position().load(Ordering::Acquire);
        Ok(Self { map, consumer, producer, page, size, position, is_held_up: false })
    }

    /// Takes the next record. It stays in the ring until [`Ring::give_back`].
    pub fn take(&mut self) -> Option<&[u8]> {
        self.is_held_up = false;
        loop {
            if self.position == self.producer.position().load(Ordering::Acquire) {
                return None;
            }
            let at = self.page + (self.position & (self.size - 1));
            let header = self.producer.word(at)?.load(Ordering::Acquire);
            if header & BPF_RINGBUF_BUSY_BIT != 0 {
                self.is_held_up = true;
                return None;
            }
            let len = (header & !BPF_RINGBUF_DISCARD_BIT) as usize;
            self.position = self.position.wrapping_add((len + HEADER).next_multiple_of(8));
            if header & BPF_RINGBUF_DISCARD_BIT == 0 {
                return self.producer.bytes(at + HEADER, len);
            }
        }
    }

    /// Whether nothing more was taken because a program is still writing what comes next: others may have written more
    /// behind it.
    #[must_use]
    pub const fn is_held_up(&self) -> bool {
        self.is_held_up
    }

    /// Gives the room of what was taken back to the programs.
    pub fn give_back(&mut self) {
        self.consumer.position().store(self.position, Ordering::Release);
    }

    /// The place of the record that is taken next.
    pub(super) const fn place(&self) -> Place {
        Place(self.position)
    }

    /// Shows the records from a place on, and returns the place behind them. They are still to be taken.
    pub(super) fn look(&mut self, from: Place, mut show: impl FnMut(&[u8])) -> Place {
        let position = std::mem::replace(&mut self.position, from.0);
        while let Some(record) = self.take() {
            show(record);
        }
        Place(std::mem::replace(&mut self.position, position))
    }
}

impl AsFd for Ring {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.map.as_fd()
    }
}

/// Bytes of a page of memory.
pub(super) fn page_bytes() -> u32 {
    let page = sysconf(SysconfVar::PAGE_SIZE).ok().flatten();
    // 64 KiB are whole pages on every machine.
    page.and_then(|bytes| bytes.try_into().ok()).unwrap_or(1 << 16)
}

/// A part of a map in this process's memory.
struct Mapping {
    address: NonNull<u8>,
    len: usize,
}

// SAFETY: the mapping belongs to the process, not to a thread.
unsafe impl Send for Mapping {}

impl Mapping {
    fn new(map: BorrowedFd<'_>, len: usize, protection: libc::c_int, offset: usize) -> io::Result<Self> {
        let offset = libc::off_t::try_from(offset).map_err(|_| io::ErrorKind::InvalidInput)?;
        // SAFETY: a new mapping at an address that the kernel chooses.
        let address = unsafe {
            libc::mmap(std::ptr::null_mut(), len, protection, libc::MAP_SHARED, map.as_raw_fd(), offset)
        };
        if address == libc::MAP_FAILED {
            return Err(io::Error::last_os_error());
        }
        Ok(Self { address: NonNull::new(address.cast()).ok_or(io::ErrorKind::OutOfMemory)?, len })
    }

    /// The position that its first page holds.
    const fn position(&self) -> &AtomicUsize {
        // SAFETY: the mapping is at least a page, aligned to one; both sides access the word atomically.
        unsafe { self.address.cast::<AtomicUsize>().as_ref() }
    }

    /// The word at a multiple of 8 bytes; `None` outside.
    fn word(&self, at: usize) -> Option<&AtomicU32> {
        let is_inside = at.is_multiple_of(8) && at.checked_add(4)? <= self.len;
        // SAFETY: inside the mapping and aligned; both sides access the word atomically.
        is_inside.then(|| unsafe { self.address.add(at).cast::<AtomicU32>().as_ref() })
    }

    /// Bytes that nobody writes before their room is given back; `None` outside.
    fn bytes(&self, at: usize, len: usize) -> Option<&[u8]> {
        let is_inside = at.checked_add(len)? <= self.len;
        // SAFETY: inside the mapping; a record that is not busy is not written any more.
        is_inside.then(|| unsafe { std::slice::from_raw_parts(self.address.add(at).as_ptr(), len) })
    }
}

impl Drop for Mapping {
    fn drop(&mut self) {
        // SAFETY: the mapping that `new` made; what was borrowed from it borrowed `self`.
        unsafe { libc::munmap(self.address.as_ptr().cast(), self.len) };
    }
}

#[cfg(test)]
pub(super) mod tests {
    use std::{fs::File, io::Write, os::unix::fs::FileExt};

    use super::*;

    const PAGE: usize = 4096;
    const SIZE: usize = 4096;

    /// A file that looks as a ring does, written as the kernel writes it.
    pub(in super::super) struct Writer {
        file: File,
        written: usize,
    }

    impl Writer {
        pub(in super::super) fn new() -> Self {
            let mut file = tempfile::tempfile().unwrap();
            file.write_all(&[0; 2 * PAGE + 2 * SIZE]).unwrap();
            Self { file, written: 0 }
        }

        pub(in super::super) fn ring(&self) -> Ring {
            Ring::of(self.file.as_fd(), SIZE, PAGE).unwrap()
        }

        pub(in super::super) fn put(&mut self, record: &[u8], flags: u32) {
            let header = (record.len() as u32 | flags).to_ne_bytes();
            let place = self.written % SIZE;
            for (offset, bytes) in [(place, header.as_slice()), (place + HEADER, record)] {
                for start in [0, SIZE] {
                    for (at, byte) in (offset + start..).zip(bytes).filter(|(at, _)| *at < 2 * SIZE) {
                        self.file.write_all_at(&[*byte], (2 * PAGE + at) as u64).unwrap();
                        // The two halves are the same memory.
                        self.file.write_all_at(&[*byte], (2 * PAGE + at % SIZE) as u64).unwrap();
                    }
                }
            }
            self.written += (record.len() + HEADER).next_multiple_of(8);
            self.file.write_all_at(&self.written.to_ne_bytes(), PAGE as u64).unwrap();
        }

        fn given_back(&self) -> usize {
            let mut bytes = [0; size_of::<usize>()];
            self.file.read_exact_at(&mut bytes, 0).unwrap();
            usize::from_ne_bytes(bytes)
        }
    }

    #[test]
    fn what_was_not_given_back_is_found_by_the_next_reader() {
        let mut writer = Writer::new();
        let mut ring = writer.ring();
        writer.put(b"one", 0);
        writer.put(b"two", 0);
        assert_eq!(ring.take(), Some(b"one".as_slice()));
        ring.give_back();
        assert_eq!(ring.take(), Some(b"two".as_slice()));
        assert_eq!(ring.take(), None);
        drop(ring);
        let mut ring = writer.ring();
        let mut shown = Vec::new();
        let place = ring.look(ring.place(), |record: &[u8]| shown.push(record.to_vec()));
        assert_eq!(shown, [b"two"]);
        writer.put(b"six", 0);
        ring.look(place, |record: &[u8]| shown.push(record.to_vec()));
        assert_eq!(shown, [b"two", b"six"]);
        assert_eq!(ring.take(), Some(b"two".as_slice()));
        assert_eq!(ring.take(), Some(b"six".as_slice()));
        ring.give_back();
        assert_eq!((writer.given_back(), writer.ring().take()), (48, None));
    }

    #[test]
    fn records_that_are_not_there_yet_or_never_will_be_are_left_out() {
        let mut writer = Writer::new();
        let mut ring = writer.ring();
        writer.put(b"never", BPF_RINGBUF_DISCARD_BIT);
        writer.put(b"there", 0);
        writer.put(b"not yet", BPF_RINGBUF_BUSY_BIT);
        assert_eq!(ring.take(), Some(b"there".as_slice()));
        assert!(!ring.is_held_up());
        assert_eq!(ring.take(), None);
        assert!(ring.is_held_up());
        ring.give_back();
        assert_eq!(writer.given_back(), 32, "the busy record stays");
    }

    #[test]
    fn a_record_may_lie_across_the_end() {
        let mut writer = Writer::new();
        let mut ring = writer.ring();
        let record: Vec<u8> = (0..=255).cycle().take(1000).collect();
        for _ in 0..20 {
            writer.put(&record, 0);
            assert_eq!(ring.take(), Some(record.as_slice()));
            ring.give_back();
        }
    }
}
