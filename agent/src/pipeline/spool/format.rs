//! The layout of a spool's files, as `docs/spool.md` tells it.

use zerocopy::byteorder::little_endian::{U16, U32, U64};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

use crate::model::Sum;
use crate::pipeline::{Request, Weight};

const MAGIC: [u8; 8] = *b"CTALLYSP";
const FRAME_MAGIC: [u8; 4] = *b"CTRQ";

/// The version that is written and read.
pub(super) const VERSION: u16 = 1;

/// Bytes of body and table at most.
pub(super) const MAX_PAYLOAD: usize = 256 << 20;

/// Sequence numbers are below that: no spool gets so far, and a larger one is not of a spool.
pub(super) const SEQUENCES: u64 = 1 << 62;

/// The least that an item takes in the table.
const LEAST_ENTRY: usize = 6;

/// What a segment's header says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Header {
    pub(super) boot_id: [u8; 16],
    pub(super) first_sequence: u64,
    pub(super) sink_type: [u8; 16],
}

/// Why a header cannot be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum HeaderError {
    /// It was not written to its end.
    Torn,
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
    zero: [u8; 6],
    boot_id: [u8; 16],
    first_sequence: U64,
    more_zero: [u8; 4],
    sink_type: [u8; 16],
    crc: U32,
}

/// Bytes of a segment's header.
pub(super) const HEADER_BYTES: usize = size_of::<HeaderRow>();

const _: () = assert!(HEADER_BYTES == 64);

impl Header {
    /// The bytes of it.
    pub(super) fn bytes(&self) -> [u8; HEADER_BYTES] {
        let mut row = HeaderRow {
            magic: MAGIC,
            version: VERSION.into(),
            zero: [0; 6],
            boot_id: self.boot_id,
            first_sequence: self.first_sequence.into(),
            more_zero: [0; 4],
            sink_type: self.sink_type,
            crc: 0.into(),
        };
        row.crc = all_but_last_crc(row.as_bytes()).into();
        zerocopy::transmute!(row)
    }

    /// Reads the bytes of one, as far as there are any.
    pub(super) fn read(bytes: &[u8]) -> Result<Self, HeaderError> {
        let is_begun = bytes.starts_with(&MAGIC) || MAGIC.starts_with(bytes);
        if bytes.len() < HEADER_BYTES && is_begun || bytes.iter().all(|byte| *byte == 0) {
            return Err(HeaderError::Torn);
        }
        let row = HeaderRow::ref_from_bytes(bytes).map_err(|_| HeaderError::Damaged)?;
        if row.magic != MAGIC || row.crc.get() != all_but_last_crc(row.as_bytes()) {
            return Err(HeaderError::Damaged);
        }
        if row.version.get() != VERSION {
            return Err(HeaderError::Version(row.version.get()));
        }
        let first_sequence = row.first_sequence.get();
        Ok(Self { boot_id: row.boot_id, first_sequence, sink_type: row.sink_type })
    }
}

/// The type of a sink as a header holds it.
pub(super) fn sink_type(name: &str) -> [u8; 16] {
    let mut padded = [0; 16];
    padded.iter_mut().zip(name.bytes()).for_each(|(place, byte)| *place = byte);
    padded
}

/// What is done with a request, as it is noted in its frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Mark {
    /// A try may have been made.
    Begun,
    /// Every item is stored or given up.
    Done,
}

impl Mark {
    /// Where it stands in a frame.
    pub(super) const fn offset(self) -> u64 {
        match self {
            Self::Begun => 72,
            Self::Done => 76,
        }
    }

    /// What stands there.
    pub(super) fn bytes(self, sequence: u64) -> [u8; 4] {
        let word: &[u8] = match self {
            Self::Begun => b"begun",
            Self::Done => b"done",
        };
        crc32c::crc32c_append(crc32c::crc32c(word), &sequence.to_le_bytes()).to_le_bytes()
    }
}

/// What stands before a body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct FrameHead {
    pub(super) body: usize,
    pub(super) table: usize,
    pub(super) items: usize,
    pub(super) sequence: u64,
    pub(super) weight: Weight,
    pub(super) payload_crc: u32,
    pub(super) is_begun: bool,
    pub(super) is_done: bool,
}

#[derive(Clone, Copy, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
struct FrameRow {
    magic: [u8; 4],
    body: U32,
    table: U32,
    items: U32,
    sequence: U64,
    records: U64,
    ends: U64,
    flows: U64,
    packets: U64,
    bytes: U64,
    payload_crc: U32,
    crc: U32,
    begun: [u8; 4],
    done: [u8; 4],
}

/// Bytes of what stands before a body.
pub(super) const FRAME_BYTES: usize = size_of::<FrameRow>();

const _: () = assert!(FRAME_BYTES == 80);
const _: () = assert!(std::mem::offset_of!(FrameRow, begun) as u64 == Mark::Begun.offset());
const _: () = assert!(std::mem::offset_of!(FrameRow, done) as u64 == Mark::Done.offset());

impl FrameHead {
    /// The head of a request's frame, and the table that follows its body. `None` if it is too large.
    pub(super) fn of(request: &Request, sequence: u64) -> Option<(Self, Vec<u8>)> {
        let (weight, table) = (request.weight(), table_of(request));
        let payload_crc = crc32c::crc32c_append(crc32c::crc32c(&request.body), &table);
        let (body, items) = (request.body.len(), request.items.len());
        let is_begun = request.in_doubt;
        let head =
            Self { body, table: table.len(), items, sequence, weight, payload_crc, is_begun, is_done: false };
        (head.payload_bytes() <= MAX_PAYLOAD).then_some((head, table))
    }

    /// Bytes of body and table.
    pub(super) const fn payload_bytes(&self) -> usize {
        self.body.saturating_add(self.table)
    }

    /// Bytes of the frame.
    pub(super) const fn frame_bytes(&self) -> u64 {
        (FRAME_BYTES + self.payload_bytes()) as u64
    }

    /// The bytes of it, for a frame at this offset of its segment.
    pub(super) fn bytes(&self, offset: u64) -> [u8; FRAME_BYTES] {
        let Weight { records, ends, moved: Sum { flows, packets, bytes } } = self.weight;
        let length = |bytes| u32::try_from(bytes).unwrap_or(u32::MAX).into();
        let mut row = FrameRow {
            magic: FRAME_MAGIC,
            body: length(self.body),
            table: length(self.table),
            items: length(self.items),
            sequence: self.sequence.into(),
            records: records.into(),
            ends: ends.into(),
            flows: flows.into(),
            packets: packets.into(),
            bytes: bytes.into(),
            payload_crc: self.payload_crc.into(),
            crc: 0.into(),
            begun: if self.is_begun { Mark::Begun.bytes(self.sequence) } else { [0; 4] },
            done: [0; 4],
        };
        row.crc = head_crc(row.as_bytes(), offset).into();
        zerocopy::transmute!(row)
    }

    /// Reads the bytes of one at this offset of its segment. `None` if they are not, or damaged.
    pub(super) fn read(bytes: &[u8], offset: u64) -> Option<Self> {
        let (row, _) = FrameRow::ref_from_prefix(bytes).ok()?;
        if row.magic != FRAME_MAGIC || row.crc.get() != head_crc(row.as_bytes(), offset) {
            return None;
        }
        let length = |bytes: U32| usize::try_from(bytes.get()).ok();
        let sequence = row.sequence.get();
        let (records, ends) = (row.records.get(), row.ends.get());
        let moved = Sum { flows: row.flows.get(), packets: row.packets.get(), bytes: row.bytes.get() };
        let head = Self {
            body: length(row.body)?,
            table: length(row.table)?,
            items: length(row.items)?,
            sequence,
            weight: Weight { records, ends, moved },
            payload_crc: row.payload_crc.get(),
            is_begun: row.begun != [0; 4] || row.done != [0; 4],
            is_done: row.done == Mark::Done.bytes(sequence),
        };
        (head.payload_bytes() <= MAX_PAYLOAD && sequence < SEQUENCES).then_some(head)
    }

    /// The request of a payload. `None` if that is damaged.
    pub(super) fn request(&self, mut payload: Vec<u8>) -> Option<Request> {
        if payload.len() != self.payload_bytes() || crc32c::crc32c(&payload) != self.payload_crc {
            return None;
        }
        let items = items_of(payload.get(self.body..)?, self.items, self.body)?;
        payload.truncate(self.body);
        let request = Request { body: payload, items, attempt: 0, in_doubt: self.is_begun };
        (request.weight() == self.weight).then_some(request)
    }
}

/// Where a head may stand within bytes; there may be none.
pub(super) fn candidates(bytes: &[u8]) -> impl Iterator<Item = usize> {
    bytes.windows(FRAME_MAGIC.len()).enumerate().filter(|(_, at)| *at == FRAME_MAGIC).map(|(at, _)| at)
}

fn table_of(request: &Request) -> Vec<u8> {
    let mut table = Vec::with_capacity(request.items.len() * 12);
    let mut begin = 0;
    for (end, weight) in &request.items {
        let Weight { records, ends, moved: Sum { flows, packets, bytes } } = *weight;
        let length = u64::from(end.saturating_sub(begin));
        [length, records, ends, flows, packets, bytes].into_iter().for_each(|n| put_number(&mut table, n));
        begin = *end;
    }
    table
}

/// `None` unless these are exactly so many items, and make up the whole body.
fn items_of(mut table: &[u8], items: usize, body: usize) -> Option<Vec<(u32, Weight)>> {
    if items == 0 || items > table.len() / LEAST_ENTRY {
        return None;
    }
    let mut read = Vec::with_capacity(items);
    let mut end = 0_u32;
    for _ in 0..items {
        end = end.checked_add(u32::try_from(take_number(&mut table)?).ok()?)?;
        let mut next = || take_number(&mut table);
        let (records, ends) = (next()?, next()?);
        let moved = Sum { flows: next()?, packets: next()?, bytes: next()? };
        read.push((end, Weight { records, ends, moved }));
    }
    (table.is_empty() && usize::try_from(end) == Ok(body)).then_some(read)
}

/// Appends a number as LEB128.
fn put_number(out: &mut Vec<u8>, mut number: u64) {
    while number >= 0x80 {
        out.push((number & 0x7f) as u8 | 0x80);
        number >>= 7;
    }
    out.push(number as u8);
}

/// Takes a number off the beginning.
fn take_number(bytes: &mut &[u8]) -> Option<u64> {
    let mut number = 0_u64;
    for shift in (0..64).step_by(7) {
        let (byte, rest) = bytes.split_first()?;
        *bytes = rest;
        number |= u64::from(byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            return Some(number);
        }
    }
    None
}

fn all_but_last_crc(bytes: &[u8]) -> u32 {
    bytes.split_last_chunk::<4>().map_or(0, |(content, _)| crc32c::crc32c(content))
}

/// Of all before the checksum itself.
fn head_crc(row: &[u8], offset: u64) -> u32 {
    let content = row.get(..std::mem::offset_of!(FrameRow, crc)).unwrap_or_default();
    crc32c::crc32c_append(crc32c::crc32c(content), &offset.to_le_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn numbers() -> impl Strategy<Value = u64> {
        prop_oneof![0..300_u64, any::<u64>()]
    }

    proptest! {
        #[test]
        fn numbers_are_read_as_they_were_put(all in prop::collection::vec(numbers(), 0..20)) {
            let mut bytes = Vec::new();
            all.iter().for_each(|number| put_number(&mut bytes, *number));
            let mut rest = bytes.as_slice();
            let read: Vec<_> = std::iter::from_fn(|| take_number(&mut rest)).collect();
            prop_assert_eq!(read, all);
        }

        #[test]
        fn a_frame_is_read_as_it_was_written_and_only_where_it_was_written(
            pieces in prop::collection::vec((0..50_usize, numbers(), 0..2_u64, numbers()), 1..20),
            (sequence, offset, in_doubt) in (0..SEQUENCES, 0..1_u64 << 40, any::<bool>()),
        ) {
            let mut request = Request { in_doubt, ..Request::default() };
            for (length, records, ends, bytes) in pieces {
                request.body.extend(vec![7; length]);
                let moved = Sum { flows: ends, packets: 3, bytes: bytes >> 8 };
                request.items.push((request.body.len() as u32, Weight { records: records >> 8, ends, moved }));
            }
            let (head, table) = FrameHead::of(&request, sequence).unwrap();
            let bytes = head.bytes(offset);
            prop_assert_eq!(FrameHead::read(&bytes, offset), Some(head));
            prop_assert_eq!(FrameHead::read(&bytes, offset + 1), None);
            prop_assert_eq!(head.request([request.body.clone(), table].concat()), Some(request));
        }
    }

    #[test]
    fn a_table_that_lies_about_its_items_is_damaged() {
        let mut table = Vec::new();
        [3, 1, 0, 0, 1, 9].into_iter().for_each(|number| put_number(&mut table, number));
        assert_eq!(items_of(&table, 1, 3).map(|items| items.len()), Some(1));
        assert_eq!(items_of(&table, usize::MAX, 3), None, "no memory is taken for it");
        assert_eq!((items_of(&table, 1, 4), items_of(&table, 0, 3)), (None, None));
        assert_eq!(items_of(&[table.as_slice(), &[0]].concat(), 1, 3), None);
    }
}
