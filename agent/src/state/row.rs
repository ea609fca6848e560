//! Flows and records as rows of fixed size.

use zerocopy::byteorder::little_endian::{I64, U16, U32, U64};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

use crate::flow::{SavedFlow, nat_kind};
use crate::model::{
    Counter, EndReason, Family, FlowId, Record, RecordFlags, RecordKind, Status, Totals, Tuple,
};

#[derive(Clone, Copy, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
struct TotalsRow {
    original_packets: U64,
    original_bytes: U64,
    reply_packets: U64,
    reply_bytes: U64,
}

#[derive(Clone, Copy, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
struct TupleRow {
    /// 4 or 6
    family: u8,
    protocol: u8,
    src_port: U16,
    dst_port: U16,
    src: [u8; 16],
    dst: [u8; 16],
}

/// A flow. Times in `CLOCK_BOOTTIME` nanoseconds unless said otherwise.
#[derive(Clone, Copy, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub(super) struct FlowRow {
    /// Identity, 128 bits.
    flow_id: [u8; 16],
    /// Address of the kernel's entry.
    conntrack: U64,
    /// When the kernel programs met it.
    born: U64,
    /// Start stamp, `CLOCK_REALTIME`.
    start: U64,
    /// Start, or first sight.
    start_boot: U64,
    first_seen: U64,
    last_seen: U64,
    /// When its counters last moved, 0 for never.
    moved: U64,
    totals: TotalsRow,
    /// What it had moved when it was first seen midlife.
    baseline: TotalsRow,
    labels: [u8; 16],
    original: TupleRow,
    reply: TupleRow,
    status: U32,
    mark: U32,
    netns: U32,
    zone: U16,
    protocol_state: u8,
    /// Bit 0: midlife, 1: no counters, 2: weak id, 3: missed, 4: the protocol state is known, 5: nothing of
    /// it was billed yet, 6: its end was told. 3 and 6 exclude each other.
    facts: u8,
}

/// A record: the flow as it was then, and what is in the record alone.
#[derive(Clone, Copy, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub(super) struct EntryRow {
    flow: FlowRow,
    /// 1 new, 2 update, 3 end.
    kind: u8,
    /// 0 none, 1 closed, 2 timeout, 3 deleted, 4 evicted, 5 replaced, 6 missed, 7 unknown.
    end_reason: u8,
    /// Bit 0: `last_moved` means something, 1: offloaded without being counted.
    said: u8,
    zero: u8,
    delta: TotalsRow,
    /// When it was observed, wall clock, nanoseconds since the Unix epoch.
    observed: I64,
    /// When the flow began, likewise.
    start: I64,
    /// When its counters last moved, likewise.
    last_moved: I64,
}

/// Bytes of a flow.
pub(super) const FLOW_BYTES: usize = size_of::<FlowRow>();

/// Bytes of a record.
pub(super) const ENTRY_BYTES: usize = size_of::<EntryRow>();

const _: () = assert!(FLOW_BYTES == 244 && ENTRY_BYTES == 304);

const MIDLIFE: u8 = 1;
const NO_COUNTERS: u8 = 1 << 1;
const WEAK: u8 = 1 << 2;
const MISSED: u8 = 1 << 3;
const STATE_KNOWN: u8 = 1 << 4;
const HELD: u8 = 1 << 5;
const ENDED: u8 = 1 << 6;
const ALL_FACTS: u8 = MIDLIFE | NO_COUNTERS | WEAK | MISSED | STATE_KNOWN | HELD | ENDED;

const HAS_MOVED: u8 = 1;
const OFFLOADED: u8 = 1 << 1;

/// Appends a flow.
pub(super) fn write_flow(flow: &SavedFlow, out: &mut Vec<u8>) {
    out.extend_from_slice(FlowRow::from(flow).as_bytes());
}

/// Appends a record and its flow as it was then.
pub(super) fn write_entry(record: &Record, flow: &SavedFlow, out: &mut Vec<u8>) {
    let row = EntryRow {
        flow: flow.into(),
        kind: 1 + place(&KINDS, &record.kind),
        end_reason: record.end_reason.map_or(0, |reason| 1 + place(&REASONS, &reason)),
        said: u8::from(record.last_moved_ns.is_some()) | u8::from(record.flags.offloaded) << 1,
        zero: 0,
        delta: record.delta.into(),
        observed: record.observed_ns.into(),
        start: record.start_ns.into(),
        last_moved: record.last_moved_ns.unwrap_or(0).into(),
    };
    out.extend_from_slice(row.as_bytes());
}

/// Appends a record of which the flow is not known any more.
pub(super) fn write_record(record: &Record, out: &mut Vec<u8>) {
    write_entry(record, &told_by(record), out);
}

/// The flows of a payload; `None` stands for one that has a value which it cannot have.
pub(super) fn read_flows(payload: &[u8]) -> impl Iterator<Item = Option<SavedFlow>> + '_ {
    payload.chunks(FLOW_BYTES).map(|bytes| FlowRow::ref_from_bytes(bytes).ok()?.flow())
}

/// The records of a payload and their flows; `None` stands for one that has a value which it cannot have.
pub(super) fn read_entries(payload: &[u8]) -> impl Iterator<Item = Option<(Record, SavedFlow)>> + '_ {
    payload.chunks(ENTRY_BYTES).map(|bytes| EntryRow::ref_from_bytes(bytes).ok()?.entry())
}

/// As much of a flow as its record tells: enough to make the record again.
fn told_by(record: &Record) -> SavedFlow {
    SavedFlow {
        flow_id: record.flow_id,
        start_boot_ns: record.observed_boot_ns.saturating_sub(record.duration_ns),
        last_seen_ns: record.observed_boot_ns,
        totals: record.totals,
        labels: record.labels,
        original: record.original,
        reply: record.reply,
        status: record.status,
        mark: record.mark,
        netns: record.netns,
        zone: record.zone,
        protocol_state: record.protocol_state,
        midlife: record.flags.first_seen_midlife,
        no_counters: record.flags.no_counters,
        weak: record.flags.weak_id,
        ..SavedFlow::default()
    }
}

impl From<&SavedFlow> for FlowRow {
    fn from(flow: &SavedFlow) -> Self {
        let bit = |set: bool, bit: u8| if set { bit } else { 0 };
        Self {
            flow_id: flow.flow_id.0.to_le_bytes(),
            conntrack: flow.conntrack.into(),
            born: flow.born_ns.into(),
            start: flow.start_ns.into(),
            start_boot: flow.start_boot_ns.into(),
            first_seen: flow.first_seen_ns.into(),
            last_seen: flow.last_seen_ns.into(),
            moved: flow.moved_ns.into(),
            totals: flow.totals.into(),
            baseline: flow.baseline.into(),
            labels: flow.labels,
            original: (&flow.original).into(),
            reply: (&flow.reply).into(),
            status: flow.status.0.into(),
            mark: flow.mark.into(),
            netns: flow.netns.into(),
            zone: flow.zone.into(),
            protocol_state: flow.protocol_state.unwrap_or(0),
            facts: bit(flow.midlife, MIDLIFE)
                | bit(flow.no_counters, NO_COUNTERS)
                | bit(flow.weak, WEAK)
                | bit(flow.missed, MISSED)
                | bit(flow.protocol_state.is_some(), STATE_KNOWN)
                | bit(flow.held, HELD)
                | bit(flow.ended, ENDED),
        }
    }
}

impl FlowRow {
    fn flow(&self) -> Option<SavedFlow> {
        let has = |bit: u8| self.facts & bit != 0;
        if has(!ALL_FACTS) || (has(MISSED) && has(ENDED)) {
            return None;
        }
        Some(SavedFlow {
            flow_id: FlowId(u128::from_le_bytes(self.flow_id)),
            conntrack: self.conntrack.get(),
            born_ns: self.born.get(),
            start_ns: self.start.get(),
            start_boot_ns: self.start_boot.get(),
            first_seen_ns: self.first_seen.get(),
            last_seen_ns: self.last_seen.get(),
            moved_ns: self.moved.get(),
            totals: self.totals.into(),
            baseline: self.baseline.into(),
            labels: self.labels,
            original: self.original.tuple()?,
            reply: self.reply.tuple()?,
            status: Status(self.status.get()),
            mark: self.mark.get(),
            netns: self.netns.get(),
            zone: self.zone.get(),
            protocol_state: has(STATE_KNOWN).then_some(self.protocol_state),
            midlife: has(MIDLIFE),
            no_counters: has(NO_COUNTERS),
            weak: has(WEAK),
            missed: has(MISSED),
            held: has(HELD),
            ended: has(ENDED),
        })
    }
}

impl EntryRow {
    fn entry(&self) -> Option<(Record, SavedFlow)> {
        if self.said & !(HAS_MOVED | OFFLOADED) != 0 {
            return None;
        }
        let flow = self.flow.flow()?;
        let end_reason = match self.end_reason {
            0 => None,
            number => Some(at(&REASONS, number)?),
        };
        let record = Record {
            flow_id: flow.flow_id,
            kind: at(&KINDS, self.kind)?,
            observed_ns: self.observed.get(),
            observed_boot_ns: flow.last_seen_ns,
            start_ns: self.start.get(),
            duration_ns: flow.last_seen_ns.saturating_sub(flow.start_boot_ns),
            last_moved_ns: (self.said & HAS_MOVED != 0).then(|| self.last_moved.get()),
            original: flow.original,
            reply: flow.reply,
            nat: nat_kind(&flow.original, &flow.reply),
            totals: flow.totals,
            delta: self.delta.into(),
            status: flow.status,
            protocol_state: flow.protocol_state,
            end_reason,
            mark: flow.mark,
            labels: flow.labels,
            zone: flow.zone,
            netns: flow.netns,
            flags: RecordFlags {
                first_seen_midlife: flow.midlife,
                no_counters: flow.no_counters,
                weak_id: flow.weak,
                offloaded: self.said & OFFLOADED != 0,
            },
        };
        Some((record, flow))
    }
}

impl From<Totals> for TotalsRow {
    fn from(totals: Totals) -> Self {
        Self {
            original_packets: totals.original.packets.into(),
            original_bytes: totals.original.bytes.into(),
            reply_packets: totals.reply.packets.into(),
            reply_bytes: totals.reply.bytes.into(),
        }
    }
}

impl From<TotalsRow> for Totals {
    fn from(row: TotalsRow) -> Self {
        let counter = |packets: U64, bytes: U64| Counter { packets: packets.get(), bytes: bytes.get() };
        Self {
            original: counter(row.original_packets, row.original_bytes),
            reply: counter(row.reply_packets, row.reply_bytes),
        }
    }
}

impl From<&Tuple> for TupleRow {
    fn from(tuple: &Tuple) -> Self {
        Self {
            family: tuple.family as u8,
            protocol: tuple.protocol,
            src_port: tuple.src_port.into(),
            dst_port: tuple.dst_port.into(),
            src: tuple.src,
            dst: tuple.dst,
        }
    }
}

impl TupleRow {
    fn tuple(&self) -> Option<Tuple> {
        let family = match self.family {
            4 => Family::V4,
            6 => Family::V6,
            _ => return None,
        };
        let (src_port, dst_port) = (self.src_port.get(), self.dst_port.get());
        Some(Tuple { family, protocol: self.protocol, src: self.src, dst: self.dst, src_port, dst_port })
    }
}

const KINDS: [RecordKind; 3] = [RecordKind::New, RecordKind::Update, RecordKind::End];

const REASONS: [EndReason; 7] = [
    EndReason::Closed,
    EndReason::Timeout,
    EndReason::Deleted,
    EndReason::Evicted,
    EndReason::Replaced,
    EndReason::Missed,
    EndReason::Unknown,
];

fn place<T: PartialEq>(values: &[T], value: &T) -> u8 {
    (0..).zip(values).find(|(_, known)| *known == value).map_or(u8::MAX - 1, |(place, _)| place)
}

/// The value with this number; numbers begin with 1.
fn at<T: Copy>(values: &[T], number: u8) -> Option<T> {
    values.get(usize::from(number).checked_sub(1)?).copied()
}
