//! The layout of a recording, version 2, as `docs/recording.md` tells it.

use crate::model::{
    Anchor, Counter, EndReason, Family, Observation, ObservationKind, ProtocolState, Status, Totals, Tuple,
};
use crate::source::{Look, Scope};

pub(super) const MAGIC: &[u8; 8] = b"CTALLYRC";
pub(super) const BLOCK_MAGIC: &[u8; 4] = b"CTBK";
pub(super) const VERSION: u16 = 2;
pub(super) const HEADER_BYTES: usize = 64;
pub(super) const BLOCK_BYTES: usize = 40;
pub(super) const RECORD_BYTES: usize = 184;

/// Records in a block at most.
pub const MAX_RECORDS: u32 = 4096;

/// What a recording says about the machine it was made on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header {
    /// Boot id of the machine.
    pub boot_id: [u8; 16],
    /// Since when each flow's birth was seen.
    pub accounting_since: Anchor,
}

/// What stands before the records of a block.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Block {
    pub(super) records: u32,
    pub(super) settled: bool,
    pub(super) anchor: Anchor,
    pub(super) records_crc: u32,
}

impl Header {
    pub(super) fn write(&self, out: &mut Vec<u8>) {
        let begin = out.len();
        out.extend_from_slice(MAGIC);
        out.extend(VERSION.to_le_bytes());
        out.extend((RECORD_BYTES as u16).to_le_bytes());
        out.extend([0; 4]);
        out.extend(self.boot_id);
        write_anchor(self.accounting_since, out);
        out.extend([0; 12]);
        seal(begin, out);
    }

    /// What follows the magic, the version and the record size.
    pub(super) fn read(bytes: &[u8]) -> Option<Self> {
        let mut fields = Fields(bytes.get(16..)?);
        Some(Self { boot_id: fields.take()?, accounting_since: fields.anchor()? })
    }
}

impl Block {
    pub(super) fn write(&self, out: &mut Vec<u8>) {
        let begin = out.len();
        out.extend_from_slice(BLOCK_MAGIC);
        out.extend(self.records.to_le_bytes());
        out.push(u8::from(self.settled));
        out.extend([0; 7]);
        write_anchor(self.anchor, out);
        out.extend(self.records_crc.to_le_bytes());
        seal(begin, out);
    }

    /// `None` if a field has a value that it cannot have.
    pub(super) fn read(bytes: &[u8]) -> Option<Self> {
        let mut fields = Fields(bytes);
        let magic: [u8; 4] = fields.take()?;
        let records = u32::from_le_bytes(fields.take()?);
        let settled = fields.byte()?;
        let _zero: [u8; 7] = fields.take()?;
        let anchor = fields.anchor()?;
        let records_crc = u32::from_le_bytes(fields.take()?);
        let is_valid = magic == *BLOCK_MAGIC && records <= MAX_RECORDS && settled <= 1;
        is_valid.then_some(Self { records, settled: settled == 1, anchor, records_crc })
    }
}

/// Whether the last four bytes are the checksum of those before.
pub(super) fn is_sealed(bytes: &[u8]) -> bool {
    bytes.split_last_chunk().is_some_and(|(content, crc)| crc32c::crc32c(content) == u32::from_le_bytes(*crc))
}

fn seal(begin: usize, out: &mut Vec<u8>) {
    let crc = crc32c::crc32c(out.get(begin..).unwrap_or_default());
    out.extend(crc.to_le_bytes());
}

fn write_anchor(anchor: Anchor, out: &mut Vec<u8>) {
    out.extend(anchor.boot_ns.to_le_bytes());
    out.extend(anchor.real_ns.to_le_bytes());
}

/// Appends an observation as a record.
pub(super) fn write_record(o: &Observation, out: &mut Vec<u8>) {
    let bit = |set: bool, bit: u8| if set { bit } else { 0 };
    let flags =
        bit(o.has_counters, 1) | bit(o.midlife, 2) | bit(o.protocol_state.is_some(), 4) | bit(o.announced, 8);
    out.extend([kind_number(o.kind), reason_number(o.end_reason), flags, o.protocol_state.unwrap_or(0)]);
    out.extend(o.netns.to_le_bytes());
    for number in [o.boot_ns, o.conntrack, o.born_ns, o.start_ns] {
        out.extend(number.to_le_bytes());
    }
    for counter in [o.totals.original, o.totals.reply] {
        out.extend(counter.packets.to_le_bytes());
        out.extend(counter.bytes.to_le_bytes());
    }
    out.extend(o.status.0.to_le_bytes());
    out.extend(o.mark.to_le_bytes());
    out.extend(o.labels);
    out.extend(u32::from(o.zone).to_le_bytes());
    write_tuple(&o.original, out);
    write_tuple(&o.reply, out);
    out.extend([0; 4]);
}

fn write_tuple(tuple: &Tuple, out: &mut Vec<u8>) {
    out.extend([tuple.family as u8, tuple.protocol]);
    out.extend(tuple.src_port.to_le_bytes());
    out.extend(tuple.dst_port.to_le_bytes());
    out.extend([0; 2]);
    out.extend(tuple.src);
    out.extend(tuple.dst);
}

/// Appends a record of kind look for each namespace that was looked at, and returns how many.
pub(super) fn write_look(look: &Look, out: &mut Vec<u8>) -> u32 {
    let namespaces = match &look.scope {
        Scope::All => &[0],
        Scope::Namespaces(inodes) => inodes.as_slice(),
    };
    let mut records = 0;
    for inode in namespaces.iter().take(MAX_RECORDS as usize) {
        let begin = out.len();
        out.extend([LOOK, 0, 0, 0]);
        out.extend(inode.to_le_bytes());
        out.extend(look.began_boot_ns.to_le_bytes());
        out.resize(begin + RECORD_BYTES, 0);
        records += 1;
    }
    records
}

/// Reads a record of kind look: when it began and the namespace, 0 for all. `None` if it is of another kind.
pub(super) fn read_look(bytes: &[u8]) -> Option<(u64, u32)> {
    let mut fields = Fields(bytes);
    let [kind, _, _, _] = fields.take()?;
    let inode = u32::from_le_bytes(fields.take()?);
    (kind == LOOK).then_some((fields.long()?, inode))
}

/// Reads a record of another kind than look. `None` if it is too short or a field has a value that it cannot have.
pub(super) fn read_record(bytes: &[u8]) -> Option<Observation> {
    let mut fields = Fields(bytes);
    let [kind, reason, flags, state] = fields.take()?;
    let protocol_state: ProtocolState = (flags & 4 != 0).then_some(state);
    let record = Observation {
        kind: kind_of(kind)?,
        netns: u32::from_le_bytes(fields.take()?),
        boot_ns: fields.long()?,
        conntrack: fields.long()?,
        born_ns: fields.long()?,
        start_ns: fields.long()?,
        totals: Totals { original: fields.counter()?, reply: fields.counter()? },
        status: Status(u32::from_le_bytes(fields.take()?)),
        mark: u32::from_le_bytes(fields.take()?),
        labels: fields.take()?,
        zone: u16::try_from(u32::from_le_bytes(fields.take()?)).ok()?,
        original: fields.tuple()?,
        reply: fields.tuple()?,
        protocol_state,
        has_counters: flags & 1 != 0,
        midlife: flags & 2 != 0,
        announced: flags & 8 != 0,
        end_reason: reason_of(reason)?,
    };
    (flags < 16).then_some(record)
}

/// The kind of record that tells of a look.
const LOOK: u8 = 6;

const KINDS: [ObservationKind; 5] = [
    ObservationKind::New,
    ObservationKind::Update,
    ObservationKind::Existing,
    ObservationKind::End,
    ObservationKind::Gone,
];

const REASONS: [EndReason; 7] = [
    EndReason::Closed,
    EndReason::Timeout,
    EndReason::Deleted,
    EndReason::Evicted,
    EndReason::Replaced,
    EndReason::Missed,
    EndReason::Unknown,
];

/// One-based place of a value.
fn number_of<T: PartialEq>(values: &[T], value: &T) -> u8 {
    (1..).zip(values).find(|(_, known)| *known == value).map_or(0, |(number, _)| number)
}

fn kind_number(kind: ObservationKind) -> u8 {
    number_of(&KINDS, &kind)
}

fn kind_of(number: u8) -> Option<ObservationKind> {
    KINDS.get(usize::from(number).checked_sub(1)?).copied()
}

fn reason_number(reason: Option<EndReason>) -> u8 {
    reason.map_or(0, |reason| number_of(&REASONS, &reason))
}

fn reason_of(number: u8) -> Option<Option<EndReason>> {
    match usize::from(number).checked_sub(1) {
        None => Some(None),
        Some(place) => REASONS.get(place).copied().map(Some),
    }
}

/// Takes one field after the other from the front.
struct Fields<'a>(&'a [u8]);

impl Fields<'_> {
    fn take<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (field, rest) = self.0.split_first_chunk()?;
        self.0 = rest;
        Some(*field)
    }

    fn byte(&mut self) -> Option<u8> {
        self.take().map(|[byte]| byte)
    }

    fn short(&mut self) -> Option<u16> {
        self.take().map(u16::from_le_bytes)
    }

    fn long(&mut self) -> Option<u64> {
        self.take().map(u64::from_le_bytes)
    }

    fn anchor(&mut self) -> Option<Anchor> {
        Some(Anchor { boot_ns: self.long()?, real_ns: self.long()?.cast_signed() })
    }

    fn counter(&mut self) -> Option<Counter> {
        Some(Counter { packets: self.long()?, bytes: self.long()? })
    }

    fn tuple(&mut self) -> Option<Tuple> {
        let family = match self.byte()? {
            4 => Family::V4,
            6 => Family::V6,
            _ => return None,
        };
        let protocol = self.byte()?;
        let (src_port, dst_port) = (self.short()?, self.short()?);
        let _zero = self.short()?;
        Some(Tuple { family, protocol, src_port, dst_port, src: self.take()?, dst: self.take()? })
    }
}
