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
    records: Records,
    first_id: TypeId,
    first_string: u32,
}

/// Where the records begin in the bytes.
#[derive(Debug, Default)]
struct Records {
    all: Vec<u32>,
    /// Places in `all` of structs and enums: one record in ten, and nearly all that is asked for by name.
    aggregates: Vec<u32>,
}

struct Header {
    types: Range<usize>,
    strings: Range<usize>,
}

impl Section {
    /// Finds the records in `bytes`. The first has the id `first_id`; the first string the offset `first_string`.
    pub(super) fn parse(bytes: Bytes, first_id: TypeId, first_string: u32) -> Result<Self, BtfError> {
        let header = Header::parse(&bytes)?;
        let records = Records::find(&bytes, header.types, first_id)?;
        Ok(Self { bytes, strings: header.strings, records, first_id, first_string })
    }

    pub(super) const fn first_id(&self) -> TypeId {
        self.first_id
    }

    /// The id after the last one.
    pub(super) const fn end_id(&self) -> TypeId {
        // Each record has 12 bytes of a section whose length is a u32, and vmlinux comes before one module only.
        TypeId(self.first_id.0.saturating_add(self.records.all.len() as u32))
    }

    pub(super) const fn strings_len(&self) -> u32 {
        (self.strings.end - self.strings.start) as u32
    }

    pub(super) fn record(&self, id: TypeId) -> Option<Type<'_>> {
        let index = id.0.checked_sub(self.first_id.0)?;
        self.record_at(*self.records.all.get(index as usize)? as usize)
    }

    /// The first struct or enum of that name whose kind is `wanted`. Touches only what it must of each record: there
    /// are ten thousand.
    pub(super) fn find_aggregate(
        &self,
        wanted: impl Fn(Kind) -> bool,
        is_name: impl Fn(u32) -> bool,
    ) -> Option<TypeId> {
        let at = |index: u32| self.records.all.get(index as usize).copied();
        let matches = |&index: &u32| at(index).is_some_and(|at| self.matches(at, &wanted, &is_name));
        let index = self.records.aggregates.iter().copied().find(matches)?;
        Some(TypeId(self.first_id.0.saturating_add(index)))
    }

    /// The first record of that name whose kind is `wanted`, among all of them: there are a hundred thousand.
    pub(super) fn find(
        &self,
        wanted: impl Fn(Kind) -> bool,
        is_name: impl Fn(u32) -> bool,
    ) -> Option<TypeId> {
        let index = self.records.all.iter().position(|&at| self.matches(at, &wanted, &is_name))?;
        Some(TypeId(self.first_id.0.saturating_add(index as u32)))
    }

    fn matches(&self, at: u32, wanted: impl Fn(Kind) -> bool, is_name: impl Fn(u32) -> bool) -> bool {
        let head = self.bytes.get(at as usize..).and_then(<[u8]>::first_chunk);
        head.and_then(name_and_kind).is_some_and(|(name, kind)| wanted(kind) && is_name(name))
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

impl Records {
    fn find(bytes: &[u8], types: Range<usize>, first_id: TypeId) -> Result<Self, BtfError> {
        // 20 bytes is the least that a record of a kernel takes on average.
        let mut records = Self { all: Vec::with_capacity(types.len() / 20), aggregates: Vec::new() };
        let section = bytes.get(..types.end).unwrap_or_default();
        let mut at = types.start;
        while at < types.end {
            let id = first_id.0.saturating_add(records.all.len() as u32);
            let rest = section.get(at..).unwrap_or_default();
            let head: &[u8; RECORD_LEN] = rest.first_chunk().ok_or(BtfError::Record { id })?;
            let (kind, len) = record_len(head).map_err(|kind| BtfError::Kind { id, kind })?;
            if RECORD_LEN + len > rest.len() {
                return Err(BtfError::Record { id });
            }
            if matches!(kind, Kind::Struct | Kind::Enum | Kind::Enum64) {
                records.aggregates.push(records.all.len() as u32);
            }
            records.all.push(at as u32);
            at += RECORD_LEN + len;
        }
        Ok(records)
    }
}
