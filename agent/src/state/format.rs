//! The layout of the state directory's files, version 2.
//!
//! A *generation* `N` is `snapshot.N`, every flow that an agent which starts later has to know, and `log.N`, what
//! happened since that snapshot was begun. Integers are little-endian, addresses in network byte order, unused bytes
//! zero, CRC is CRC-32C (RFC 3720, B.4). Both files are a header and frames.
//!
//! Header, 72 bytes:
//!
//! | offset | bytes | what |
//! |---|---|---|
//! | 0 | 8 | `CTALLYST` |
//! | 8 | 2 | version: 2 |
//! | 10 | 2 | 1 log, 2 snapshot |
//! | 12 | 4 | zero |
//! | 16 | 16 | boot id of the machine |
//! | 32 | 8 | since when each flow's birth was seen: `CLOCK_BOOTTIME` nanoseconds |
//! | 40 | 8 | the same moment, `CLOCK_REALTIME` nanoseconds, signed |
//! | 48 | 8 | generation |
//! | 56 | 8 | since when the source of what follows tells without a break: `CLOCK_BOOTTIME` nanoseconds |
//! | 64 | 4 | zero |
//! | 68 | 4 | CRC of bytes 0 to 67 |
//!
//! Frame, 32 bytes and its payload of at most 2 MiB:
//!
//! | offset | bytes | what |
//! |---|---|---|
//! | 0 | 4 | bytes of the payload |
//! | 4 | 1 | kind |
//! | 5 | 3 | zero |
//! | 8 | 8 | number, see the kinds |
//! | 16 | 8 | when it was written, `CLOCK_BOOTTIME` nanoseconds |
//! | 24 | 4 | CRC of the payload |
//! | 28 | 4 | CRC of bytes 0 to 27 |
//! | 32 | … | payload |
//!
//! | kind | file | number | payload |
//! |---|---|---|---|
//! | 1 batch | log | of the batch | entries: records, and their flows as they were after each |
//! | 2 carried | log | of the batch | entries: records of an older generation that may not have been written yet |
//! | 3 written | log | the output has every batch below this one | none |
//! | 4 clock | log | 0 | readings of both clocks around each step of the wall clock, 16 bytes each: boot clock, wall clock |
//! | 5 flows | snapshot | of the first flow in it | flows |
//! | 6 end | snapshot | flows in the snapshot | none |
//! | 7 settled | log | settled batches that were given back to the kernel since the last such frame | none |
//!
//! Flow, 244 bytes: see [`FlowRow`]. Entry, 304 bytes: see [`EntryRow`]. The entries of a carried batch have of their
//! flows only what the records say. Batches are numbered in their order without gaps, over all generations.
//!
//! **Ends.** A flow whose end was told is remembered, as what was read of it may come again: from the ring of programs
//! that outlive the agent, or late from another one. It is in the snapshot, or its end in a batch. It can be forgotten
//! when two settled batches since, its own included, were given back; a frame of kind 7 stands before the next batch.
//!
//! **What holds.** A batch is appended before it is handed to the output, with one write, so whatever the output has
//! seen is in the log. What a process has written stays when it is killed; no `fsync` is needed for that, and a
//! machine that loses power loses its flows as well. A snapshot is written in pieces while the log goes on: a flow in
//! it may be older or newer than the log's beginning, but the log has each flow's latest row, so reading both gives
//! the latest of all. A snapshot gets its name when it is whole; then older generations are removed. Until then the
//! older snapshot and all logs after it are read. Any number of agents may be killed before that: who reads the last log
//! cuts off what its agent was just writing, and removes it where not even the header is whole, before a next one begins.
//! Where a state cannot be kept or read, an empty file `unkept` stays until a snapshot is whole again: an agent that finds
//! it and no state knows that one ran before it.
//! The first log of all without a snapshot, and with no batch, is that of an agent which died at its start.

use zerocopy::byteorder::little_endian::{I64, U16, U32, U64};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

use crate::model::Anchor;

const MAGIC: [u8; 8] = *b"CTALLYST";

/// The version that is written and read.
pub(super) const VERSION: u16 = 2;

/// Bytes of a payload at most.
pub(super) const MAX_PAYLOAD: usize = 2 << 20;

/// What a file holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum FileKind {
    /// What happened.
    Log,
    /// What was there.
    Snapshot,
}

impl FileKind {
    const fn number(self) -> u16 {
        match self {
            Self::Log => 1,
            Self::Snapshot => 2,
        }
    }
}

/// What a header says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Header {
    pub(super) boot_id: [u8; 16],
    pub(super) accounting_since: Anchor,
    pub(super) generation: u64,
    pub(super) source_since_ns: u64,
}

/// Why a header cannot be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum HeaderError {
    /// It is not a header, or damaged.
    Damaged,
    /// It is of this version.
    Version(u16),
}

#[derive(Clone, Copy, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
struct HeaderRow {
    magic: [u8; 8],
    version: U16,
    kind: U16,
    zero: [u8; 4],
    boot_id: [u8; 16],
    since: AnchorRow,
    generation: U64,
    source_since_ns: U64,
    more_zero: [u8; 4],
    crc: U32,
}

/// A reading of both clocks.
#[derive(Clone, Copy, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub(super) struct AnchorRow {
    boot_ns: U64,
    real_ns: I64,
}

/// Bytes of a header.
pub(super) const HEADER_BYTES: usize = size_of::<HeaderRow>();

const _: () = assert!(HEADER_BYTES == 72);

impl Header {
    /// The bytes of it.
    pub(super) fn bytes(&self, kind: FileKind) -> Vec<u8> {
        let mut row = HeaderRow {
            magic: MAGIC,
            version: VERSION.into(),
            kind: kind.number().into(),
            zero: [0; 4],
            boot_id: self.boot_id,
            since: self.accounting_since.into(),
            generation: self.generation.into(),
            source_since_ns: self.source_since_ns.into(),
            more_zero: [0; 4],
            crc: 0.into(),
        };
        row.crc = sealing_crc(row.as_bytes()).into();
        row.as_bytes().to_vec()
    }

    /// Reads the bytes of one.
    pub(super) fn read(bytes: &[u8], kind: FileKind) -> Result<Self, HeaderError> {
        let (row, _) = HeaderRow::ref_from_prefix(bytes).map_err(|_| HeaderError::Damaged)?;
        if row.magic != MAGIC || row.crc.get() != sealing_crc(row.as_bytes()) {
            return Err(HeaderError::Damaged);
        }
        if row.version.get() != VERSION {
            return Err(HeaderError::Version(row.version.get()));
        }
        if row.kind.get() != kind.number() {
            return Err(HeaderError::Damaged);
        }
        Ok(Self {
            boot_id: row.boot_id,
            accounting_since: row.since.into(),
            generation: row.generation.get(),
            source_since_ns: row.source_since_ns.get(),
        })
    }
}

impl From<Anchor> for AnchorRow {
    fn from(anchor: Anchor) -> Self {
        Self { boot_ns: anchor.boot_ns.into(), real_ns: anchor.real_ns.into() }
    }
}

impl From<AnchorRow> for Anchor {
    fn from(row: AnchorRow) -> Self {
        Self { boot_ns: row.boot_ns.get(), real_ns: row.real_ns.get() }
    }
}

/// What a frame holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum FrameKind {
    /// Records and their flows.
    Batch,
    /// Records of an older generation.
    Carried,
    /// Up to where the output is.
    Written,
    /// Steps of the wall clock.
    Clock,
    /// A piece of a snapshot.
    Flows,
    /// The end of a snapshot.
    End,
    /// What need not be remembered any more.
    Settled,
}

impl FrameKind {
    const ALL: [Self; 7] =
        [Self::Batch, Self::Carried, Self::Written, Self::Clock, Self::Flows, Self::End, Self::Settled];

    const fn number(self) -> u8 {
        match self {
            Self::Batch => 1,
            Self::Carried => 2,
            Self::Written => 3,
            Self::Clock => 4,
            Self::Flows => 5,
            Self::End => 6,
            Self::Settled => 7,
        }
    }
}

/// What stands before a payload.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Frame {
    pub(super) kind: FrameKind,
    pub(super) number: u64,
    pub(super) boot_ns: u64,
}

#[derive(Clone, Copy, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
struct FrameRow {
    bytes: U32,
    kind: u8,
    zero: [u8; 3],
    number: U64,
    boot_ns: U64,
    payload_crc: U32,
    crc: U32,
}

/// Bytes of what stands before a payload.
pub(super) const FRAME_BYTES: usize = size_of::<FrameRow>();

const _: () = assert!(FRAME_BYTES == 32);

impl Frame {
    /// Appends a frame whose payload `fill` appends.
    pub(super) fn append(&self, out: &mut Vec<u8>, fill: impl FnOnce(&mut Vec<u8>)) {
        let begin = out.len();
        out.extend([0; FRAME_BYTES]);
        fill(out);
        let payload = out.get(begin + FRAME_BYTES..).unwrap_or_default();
        let mut row = FrameRow {
            bytes: u32::try_from(payload.len()).unwrap_or(u32::MAX).into(),
            kind: self.kind.number(),
            zero: [0; 3],
            number: self.number.into(),
            boot_ns: self.boot_ns.into(),
            payload_crc: crc32c::crc32c(payload).into(),
            crc: 0.into(),
        };
        row.crc = sealing_crc(row.as_bytes()).into();
        if let Some(place) = out.get_mut(begin..begin + FRAME_BYTES) {
            place.copy_from_slice(row.as_bytes());
        }
    }

    /// Reads what stands before a payload: the frame, and bytes and checksum of the payload. `None` if it is damaged.
    pub(super) fn read(bytes: &[u8]) -> Option<(Self, usize, u32)> {
        let (row, _) = FrameRow::ref_from_prefix(bytes).ok()?;
        let length = usize::try_from(row.bytes.get()).ok()?;
        if row.crc.get() != sealing_crc(row.as_bytes()) || length > MAX_PAYLOAD {
            return None;
        }
        let kind = FrameKind::ALL.into_iter().find(|kind| kind.number() == row.kind)?;
        let frame = Self { kind, number: row.number.get(), boot_ns: row.boot_ns.get() };
        Some((frame, length, row.payload_crc.get()))
    }
}

/// The checksum of all but the last four bytes, where it belongs.
fn sealing_crc(bytes: &[u8]) -> u32 {
    bytes.split_last_chunk::<4>().map_or(0, |(content, _)| crc32c::crc32c(content))
}
