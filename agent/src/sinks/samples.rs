//! Records for the tests of sinks.

use proptest::prelude::*;

use crate::model::{
    Counter, EndReason, Family, FlowId, NatKind, Record, RecordFlags, RecordKind, Status, Totals, Tuple,
    protocol,
};

pub(crate) const SECOND: i64 = 1_000_000_000;
/// 2026-11-20T10:00:00Z
pub(crate) const TEN_O_CLOCK: i64 = 1_795_168_800 * SECOND;

pub(crate) fn v4(address: [u8; 4]) -> [u8; 16] {
    let mut bytes = [0; 16];
    bytes[..4].copy_from_slice(&address);
    bytes
}

pub(crate) const fn counter(packets: u64, bytes: u64) -> Counter {
    Counter { packets, bytes }
}

/// The end of a TCP connection through source NAT.
pub(crate) fn end_of_tcp() -> Record {
    let original = Tuple {
        family: Family::V4,
        protocol: protocol::TCP,
        src: v4([10, 0, 0, 2]),
        dst: v4([198, 51, 100, 7]),
        src_port: 40312,
        dst_port: 443,
    };
    let reply =
        Tuple { src: original.dst, dst: v4([192, 0, 2, 1]), src_port: 443, dst_port: 40312, ..original };
    Record {
        flow_id: FlowId(0x0f3c),
        kind: RecordKind::End,
        observed_ns: TEN_O_CLOCK + 5_100_000_000,
        observed_boot_ns: 105_100_000_000,
        start_ns: TEN_O_CLOCK + 1,
        duration_ns: 5_099_999_999,
        last_moved_ns: Some(TEN_O_CLOCK + 4_900_000_000),
        original,
        reply,
        nat: NatKind::Source,
        totals: Totals { original: counter(7, 700), reply: counter(5, 760) },
        delta: Totals { original: counter(1, 60), reply: counter(0, 0) },
        status: Status(Status::CONFIRMED | Status::SEEN_REPLY | Status::ASSURED),
        protocol_state: Some(8),
        end_reason: Some(EndReason::Closed),
        mark: 0,
        labels: [0; 16],
        zone: 0,
        netns: 4_026_531_840,
        flags: RecordFlags::default(),
    }
}

/// A ping by IPv6 that is still going on, first seen midlife, not translated.
pub(crate) fn ping() -> Record {
    let address = |last| {
        let mut bytes = [0; 16];
        bytes[..4].copy_from_slice(&[0x20, 0x01, 0x0d, 0xb8]);
        bytes[15] = last;
        bytes
    };
    let original = Tuple {
        family: Family::V6,
        protocol: protocol::ICMPV6,
        src: address(1),
        dst: address(2),
        src_port: 77,
        dst_port: 128 << 8,
    };
    Record {
        kind: RecordKind::Update,
        original,
        reply: Tuple { src: original.dst, dst: original.src, dst_port: 129 << 8, ..original },
        nat: NatKind::None,
        protocol_state: None,
        end_reason: None,
        flags: RecordFlags { first_seen_midlife: true, ..RecordFlags::default() },
        ..end_of_tcp()
    }
}

fn any_tuple() -> impl Strategy<Value = Tuple> {
    let ports = any::<(u16, u16)>();
    (any::<bool>(), any::<u8>(), any::<[u8; 16]>(), any::<[u8; 16]>(), ports).prop_map(
        |(is_v4, protocol, mut src, mut dst, (src_port, dst_port))| {
            let family = if is_v4 { Family::V4 } else { Family::V6 };
            if is_v4 {
                src[4..].fill(0);
                dst[4..].fill(0);
            }
            Tuple { family, protocol, src, dst, src_port, dst_port }
        },
    )
}

fn any_totals() -> impl Strategy<Value = Totals> {
    any::<[u64; 4]>().prop_map(|[a, b, c, d]| Totals { original: counter(a, b), reply: counter(c, d) })
}

/// Any record that the types allow.
pub(crate) fn any_record() -> impl Strategy<Value = Record> {
    let kinds = prop::sample::select(vec![RecordKind::New, RecordKind::Update, RecordKind::End]);
    let nats =
        prop::sample::select(vec![NatKind::None, NatKind::Source, NatKind::Destination, NatKind::Both]);
    let times = any::<(i64, i64, u64, Option<i64>)>();
    let words = any::<(u128, u32, u32, u32, u16, [u8; 16], Option<u8>)>();
    let flags = any::<(bool, bool, bool, bool)>();
    ((kinds, nats, times), words, flags, any_tuple(), any_tuple(), any_totals(), any_totals()).prop_map(
        |((kind, nat, times), words, flags, original, reply, totals, delta)| Record {
            flow_id: FlowId(words.0),
            kind,
            observed_ns: times.0,
            observed_boot_ns: 0,
            start_ns: times.1,
            duration_ns: times.2,
            last_moved_ns: times.3,
            original,
            reply: Tuple { family: original.family, ..reply },
            nat,
            totals,
            delta,
            status: Status(words.1),
            protocol_state: words.6,
            end_reason: (kind == RecordKind::End).then_some(EndReason::Unknown),
            mark: words.2,
            labels: words.5,
            zone: words.4,
            netns: words.3,
            flags: RecordFlags {
                first_seen_midlife: flags.0,
                no_counters: flags.1,
                weak_id: flags.2,
                offloaded: flags.3,
            },
        },
    )
}
