//! Ends of flows, each with figures of its own.

use conntally::model::{
    Counter, EndReason, Family, FlowId, NatKind, Record, RecordFlags, RecordKind, Status, Totals, Tuple,
};
use conntally::pipeline::{Item as _, Request, Sink as _};
use conntally::sinks::elasticsearch::Elasticsearch;
use std::ops::Range;

/// Later than any start of the sink, so that nothing seems to be of an agent before.
pub(crate) const NEW: u64 = 1 << 62;

/// 2026-11-20T10:00:00Z
const TEN_O_CLOCK: i64 = 1_795_168_800_000_000_000;

pub(crate) fn end(flow: u64) -> Record {
    let [.., a, b, c] = flow.to_be_bytes();
    let mut src = [0; 16];
    let mut dst = [0; 16];
    src[..4].copy_from_slice(&[10, a, b, c]);
    dst[..4].copy_from_slice(&[198, 51, 100, 7]);
    let original = Tuple { family: Family::V4, protocol: 6, src, dst, src_port: 40_000, dst_port: 443 };
    let reply = Tuple { src: dst, dst: src, src_port: 443, dst_port: 40_000, ..original };
    let counter = |packets, bytes| Counter { packets, bytes };
    Record {
        flow_id: FlowId(u128::from(flow) | 0xabc << 96),
        kind: RecordKind::End,
        observed_ns: TEN_O_CLOCK + 123_456_789,
        observed_boot_ns: NEW + flow,
        start_ns: TEN_O_CLOCK,
        duration_ns: 123_456_789,
        last_moved_ns: Some(TEN_O_CLOCK + 1),
        original,
        reply,
        nat: NatKind::None,
        totals: Totals { original: counter(1 + flow, 100 + flow), reply: counter(2, 200) },
        delta: Totals { original: counter(1, 100), reply: counter(2, 200) },
        status: Status(Status::CONFIRMED | Status::SEEN_REPLY | Status::ASSURED),
        protocol_state: Some(7),
        end_reason: Some(EndReason::Closed),
        mark: 7,
        labels: [0; 16],
        zone: 0,
        netns: 4_026_531_840,
        flags: RecordFlags::default(),
    }
}

pub(crate) fn request_of(sink: &Elasticsearch, records: &[Record]) -> Request {
    let (mut body, mut ends) = (Vec::new(), Vec::new());
    sink.encode_all(records, &mut body, &mut ends);
    let items = ends.into_iter().zip(records).map(|(end, record)| (end, record.weight())).collect();
    Request { body, items, ..Request::default() }
}

pub(crate) fn request(sink: &Elasticsearch, flows: Range<u64>) -> Request {
    request_of(sink, &flows.map(end).collect::<Vec<_>>())
}
