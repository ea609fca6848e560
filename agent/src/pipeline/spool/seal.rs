//! Up to where the requests of a spool are whole sets.

use std::fs::{self, File};
use std::io::{self, ErrorKind};
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::Arc;

use zerocopy::byteorder::little_endian::{U32, U64};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

use super::format::SEQUENCES;
use crate::folder;

const NAME: &str = "sealed";
const MAGIC: [u8; 4] = *b"CTSL";

/// What is known of the sets in a spool.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Seal {
    /// The sequence number behind the last request of a whole set.
    pub(super) next: u64,
    /// All that was handed in up to the batch of this number is in whole sets, delivered or not; `None` if nothing is
    /// known to be.
    pub(super) through: Option<u64>,
}

/// The file that holds it. Written in place: it needs no room on a disk that is full.
#[derive(Debug)]
pub(super) struct SealFile(Arc<File>);

#[derive(FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
struct Row {
    magic: [u8; 4],
    /// Of what follows.
    crc: U32,
    next: U64,
    /// One more than the number; 0 for none.
    through: U64,
}

impl SealFile {
    /// Opens or makes the file in this directory; what it holds, unless that cannot be read.
    pub(super) fn open(dir: &Path) -> io::Result<(Self, Option<Seal>)> {
        let file = folder::private().read(true).write(true).create(true).open(dir.join(NAME))?;
        let mut bytes = [0; size_of::<Row>()];
        let seal = match file.read_exact_at(&mut bytes, 0) {
            Ok(()) => read(&bytes).or_else(|| {
                let path = dir.join(NAME);
                tracing::warn!("{} is damaged: after a kill sums may be sent twice", path.display());
                None
            }),
            Err(error) if error.kind() == ErrorKind::UnexpectedEof => None,
            Err(error) => return Err(error),
        };
        Ok((Self(Arc::new(file)), seal))
    }

    /// Removes the file, if there is one: each request stands for itself.
    pub(super) fn remove(dir: &Path) -> io::Result<()> {
        match fs::remove_file(dir.join(NAME)) {
            Err(error) if error.kind() != ErrorKind::NotFound => Err(error),
            _ => Ok(()),
        }
    }

    pub(super) fn write(&self, seal: Seal) -> io::Result<()> {
        let through = seal.through.map_or(0, |through| through.saturating_add(1)).into();
        let mut row = Row { magic: MAGIC, crc: 0.into(), next: seal.next.into(), through };
        row.crc = crc(&row).into();
        self.0.write_all_at(row.as_bytes(), 0)
    }

    pub(super) fn sync(&self) -> io::Result<()> {
        self.0.sync_data()
    }

    /// The file, to be synced by another.
    pub(super) fn file(&self) -> Arc<File> {
        Arc::clone(&self.0)
    }
}

fn read(bytes: &[u8]) -> Option<Seal> {
    let row = Row::ref_from_bytes(bytes).ok()?;
    let is_right = row.magic == MAGIC && row.crc.get() == crc(row) && row.next.get() <= SEQUENCES;
    is_right.then(|| Seal { next: row.next.get(), through: row.through.get().checked_sub(1) })
}

fn crc(row: &Row) -> u32 {
    crc32c::crc32c_append(crc32c::crc32c(row.next.as_bytes()), row.through.as_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seal_is_read_as_it_was_written_and_a_damaged_one_is_none() {
        let dir = tempfile::tempdir().unwrap();
        let (file, seal) = SealFile::open(dir.path()).unwrap();
        assert_eq!(seal, None);
        for through in [None, Some(0), Some(1_795_000_000_000_000_000)] {
            let seal = Seal { next: 7, through };
            file.write(seal).unwrap();
            assert_eq!(SealFile::open(dir.path()).unwrap().1, Some(seal));
        }
        for at in 0..size_of::<Row>() as u64 {
            let mut byte = [0];
            file.0.read_exact_at(&mut byte, at).unwrap();
            file.0.write_all_at(&[byte[0] ^ 4], at).unwrap();
            assert_eq!(SealFile::open(dir.path()).unwrap().1, None);
            file.0.write_all_at(&byte, at).unwrap();
        }
        SealFile::remove(dir.path()).unwrap();
        SealFile::remove(dir.path()).unwrap();
    }
}
