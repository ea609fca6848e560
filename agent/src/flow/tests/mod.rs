//! The flow table against single cases and against a model of the two rings.

mod cases;
mod due;
mod interleavings;
mod look;
mod order;
mod usual;
mod weak;

use super::{FlowTable, FlowTableOptions, Visits, Wanted};
use crate::model::{
    Anchor, Counter, EndReason, Family, Observation, ObservationKind, Record, RecordKind, Status, Totals,
    Tuple, protocol,
};
use crate::source::{Batch, Look, Scope};

const SECOND: u64 = 1_000_000_000;
/// The wall clock at boot.
const EPOCH: u64 = 1_700_000_000 * SECOND;
/// Boot time since which births are seen.
const SINCE: u64 = 1000 * SECOND;

fn options(max_flows: usize) -> FlowTableOptions {
    let accounting_since = Anchor { real_ns: (EPOCH + SINCE) as i64, boot_ns: SINCE };
    FlowTableOptions::new(max_flows, [7; 16], accounting_since)
}

fn table() -> FlowTable {
    FlowTable::new(options(1000))
}

fn apply(table: &mut FlowTable, observations: &[Observation]) -> Vec<Record> {
    apply_batch(table, &Batch { observations: observations.to_vec(), settled: true, look: None })
}

/// The same, with a complete look at everything that began at `SINCE + began`.
fn look(table: &mut FlowTable, began: u64, observations: &[Observation]) -> Vec<Record> {
    look_at(table, began, Scope::All, observations)
}

fn look_at(table: &mut FlowTable, began: u64, scope: Scope, observations: &[Observation]) -> Vec<Record> {
    let look = Some(Look { began_boot_ns: SINCE + began, scope });
    apply_batch(table, &Batch { observations: observations.to_vec(), settled: true, look })
}

fn apply_batch(table: &mut FlowTable, batch: &Batch) -> Vec<Record> {
    let mut records = Vec::new();
    table.apply(batch, &mut records);
    assert!(table.books().balance(), "{:?}", table.books());
    records
}

/// Kind and packets of the original direction's delta, of each record.
fn story(records: &[Record]) -> Vec<(RecordKind, u64)> {
    records.iter().map(|record| (record.kind, record.delta.original.packets)).collect()
}

/// `n` packets of 100 bytes towards the answerer and of 10 bytes back.
fn totals(n: u64) -> Totals {
    Totals { original: Counter { packets: n, bytes: 100 * n }, reply: Counter { packets: n, bytes: 10 * n } }
}

/// TCP from 10.0.0.1 and the given port to 10.0.0.2:80.
fn tuples(port: u16) -> (Tuple, Tuple) {
    let address = |last| {
        let mut bytes = [0; 16];
        bytes[..4].copy_from_slice(&[10, 0, 0, last]);
        bytes
    };
    let original = Tuple {
        family: Family::V4,
        protocol: protocol::TCP,
        src: address(1),
        dst: address(2),
        src_port: port,
        dst_port: 80,
    };
    let reply = Tuple { src: address(2), dst: address(1), src_port: 80, dst_port: port, ..original };
    (original, reply)
}

/// A sight at `SINCE + at` of a flow that began at `SINCE + start`, with a start stamp and nothing else.
fn sight(kind: ObservationKind, port: u16, start: i64, at: u64, n: u64) -> Observation {
    let (original, reply) = tuples(port);
    Observation {
        kind,
        boot_ns: SINCE + at,
        conntrack: 0,
        born_ns: 0,
        start_ns: (EPOCH + SINCE).saturating_add_signed(start),
        netns: 1,
        zone: 0,
        protocol_state: Some(3),
        has_counters: true,
        midlife: false,
        announced: false,
        status: Status(Status::CONFIRMED),
        mark: 0,
        labels: [0; 16],
        original,
        reply,
        totals: totals(n),
        end_reason: (kind == ObservationKind::End).then_some(EndReason::Timeout),
    }
}

/// The same from a kernel without start stamps: known by entry address and birth only.
fn hooked(kind: ObservationKind, port: u16, conntrack: u64, born: u64, at: u64, n: u64) -> Observation {
    Observation { conntrack, born_ns: SINCE + born, start_ns: 0, ..sight(kind, port, 0, at, n) }
}

/// The same by a dump of such a kernel: neither is known.
fn dumped(kind: ObservationKind, port: u16, at: u64, n: u64) -> Observation {
    Observation { start_ns: 0, ..sight(kind, port, 0, at, n) }
}

fn loss(table: &FlowTable, reason: &str) -> u64 {
    table.losses().into_iter().find(|(name, _)| *name == reason).unwrap().1
}
