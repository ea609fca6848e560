//! One block of BTF: its bytes, and where in them each type record begins.

use std::ops::Range;

use super::types::{name_and_kind, record_len};
use super::{BtfError, Bytes, Kind, Type, TypeId};

const MAGIC: u16 = 0xeb9f;
const VERSION: u8 = 1;
const HEADER_LEN: usize = 24;
/// `struct btf_type`: name, info, size or type.
const RECORD_LEN: usize = 12;

#[derive(Debug)]
pub(super) struct Section {
    bytes: Bytes,
    strings: Range<usize>,
    /// Where the records begin in `bytes`.
    offsets: Vec<u32>,
    first_id: TypeId,
    first_string: u32,
}

struct Header {
    types: Range<usize>,
    strings: Range<usize>,
}

impl Section {
    /// Finds the records in `bytes`. The first has the id `first_id`; the first string the offset `first_string`.
    pub(super) fn parse(bytes: Bytes, first_id: TypeId, first_string: u32) -> Result<Self, BtfError> {
        let header = Header::parse(&bytes)?;
        let offsets = record_offsets(&bytes, header.types, first_id)?;
        Ok(Self { bytes, strings: header.strings, offsets, first_id, first_string })
    }

    pub(super) const fn first_id(&self) -> TypeId {
        self.first_id
    }

    /// The id after the last one.
    pub(super) const fn end_id(&self) -> TypeId {
        // Each record has 12 bytes of a section whose length is a u32, and vmlinux comes before one module only.
        TypeId(self.first_id.0.saturating_add(self.offsets.len() as u32))
    }

    pub(super) const fn strings_len(&self) -> u32 {
        (self.strings.end - self.strings.start) as u32
    }

    pub(super) fn record(&self, id: TypeId) -> Option<Type<'_>> {
        let index = id.0.checked_sub(self.first_id.0)?;
        self.record_at(*self.offsets.get(index as usize)? as usize)
    }

    /// The first record of that name and of a kind that `wanted` accepts. Touches only what it must of each
    /// record: there are a hundred thousand.
    pub(super) fn find(
        &self,
        wanted: impl Fn(Kind) -> bool,
        is_name: impl Fn(u32) -> bool,
    ) -> Option<TypeId> {
        let matches = |&at: &u32| {
            let head = self.bytes.get(at as usize..).and_then(<[u8]>::first_chunk);
            head.and_then(name_and_kind).is_some_and(|(name, kind)| wanted(kind) && is_name(name))
        };
        let index = self.offsets.iter().position(matches)?;
        Some(TypeId(self.first_id.0.saturating_add(index as u32)))
    }

    pub(super) fn string(&self, offset: u32) -> Option<&[u8]> {
        let rest = self.strings_from(offset)?;
        rest.get(..rest.iter().position(|&byte| byte == 0)?)
    }

    /// Whether the string at `offset` is `name`, without looking for the end of the string.
    pub(super) fn string_is(&self, offset: u32, name: &[u8]) -> bool {
        let rest = self.strings_from(offset).and_then(|rest| rest.strip_prefix(name));
        rest.is_some_and(|rest| rest.first() == Some(&0))
    }

    fn strings_from(&self, offset: u32) -> Option<&[u8]> {
        let offset = offset.checked_sub(self.first_string)? as usize;
        self.bytes.get(self.strings.clone())?.get(offset..)
    }

    fn record_at(&self, offset: usize) -> Option<Type<'_>> {
        let record = self.bytes.get(offset..)?;
        Type::new(record.first_chunk()?, record.get(RECORD_LEN..)?)
    }
}

impl Header {
    fn parse(bytes: &[u8]) -> Result<Self, BtfError> {
        let len = bytes.len();
        let header: &[u8; HEADER_LEN] = bytes.first_chunk().ok_or(BtfError::Truncated { len })?;
        let [m0, m1, version, _flags, fields @ ..] = *header;
        let magic = u16::from_ne_bytes([m0, m1]);
        if magic != MAGIC {
            return Err(BtfError::Magic { magic });
        }
        if version != VERSION {
            return Err(BtfError::Version { version });
        }
        let mut fields = fields.as_chunks::<4>().0.iter().map(|field| u32::from_ne_bytes(*field) as usize);
        let mut next = || fields.next().unwrap_or_default();
        let (header_len, type_at, type_len, string_at, string_len) = (next(), next(), next(), next(), next());
        let place = |section, at: usize, size: usize| {
            let start = header_len.saturating_add(at);
            let range = start..start.saturating_add(size);
            if header_len >= HEADER_LEN && range.end <= len {
                Ok(range)
            } else {
                Err(BtfError::Section { section, len })
            }
        };
        Ok(Self {
            types: place("type", type_at, type_len)?,
            strings: place("string", string_at, string_len)?,
        })
    }
}

fn record_offsets(bytes: &[u8], types: Range<usize>, first_id: TypeId) -> Result<Vec<u32>, BtfError> {
    // 30 bytes is what a record of a kernel takes on average.
    let mut offsets = Vec::with_capacity(types.len() / 30);
    let section = bytes.get(..types.end).unwrap_or_default();
    let mut at = types.start;
    while at < types.end {
        let id = first_id.0.saturating_add(offsets.len() as u32);
        let rest = section.get(at..).unwrap_or_default();
        let head: &[u8; RECORD_LEN] = rest.first_chunk().ok_or(BtfError::Record { id })?;
        let len = RECORD_LEN + record_len(head).map_err(|kind| BtfError::Kind { id, kind })?;
        if len > rest.len() {
            return Err(BtfError::Record { id });
        }
        offsets.push(at as u32);
        at += len;
    }
    Ok(offsets)
}
