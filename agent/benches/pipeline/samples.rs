//! Networks and records of 10,000 groups.

use anyhow::Result;
use conntally::model::{
    Counter, EndReason, Family, FlowId, NatKind, Record, RecordFlags, RecordKind, Status, Totals, Tuple,
    protocol,
};
use conntally::pipeline::networks::NetworkDefinition;

/// 2026-11-20T10:00:00Z
pub(super) const NOW: i64 = 1_795_168_800_000_000_000;

/// Prefixes, each a network.
pub(super) const NETWORKS: usize = 10_000;

/// As many of IPv4 as of IPv6, half of each internal; the first of both families hold the others of their half.
pub(super) fn networks() -> Result<Vec<NetworkDefinition>> {
    let mut all = Vec::new();
    for number in 0..NETWORKS as u32 {
        let (half, index) = (number % 4, number / 4);
        let (high, low) = (index >> 8, index & 0xff);
        let prefix = match (half, index) {
            (0, 0) => "10.0.0.0/8".to_owned(),
            (0, _) => format!("10.{high}.{low}.0/24"),
            (1, 0) => "198.16.0.0/12".to_owned(),
            (1, _) => format!("198.{}.{low}.0/24", 16 + high),
            (2, 0) => "2001:db8::/32".to_owned(),
            (2, _) => format!("2001:db8:{index:x}::/48"),
            (_, 0) => "2a00::/16".to_owned(),
            (_, _) => format!("2a00:{index:x}::/32"),
        };
        let internal = (index == 0 && half % 2 == 0).then_some(true);
        all.push(NetworkDefinition {
            name: format!("net-{number}"),
            prefixes: vec![prefix.parse()?],
            internal,
        });
    }
    Ok(all)
}

/// That many records of as many flows, from the internal half to the other one, those of a group far from each other.
pub(super) fn records(count: u64) -> Vec<Record> {
    (0..count).map(record).collect()
}

fn record(number: u64) -> Record {
    // 7,919 is prime to the number of groups: neighbours in time are no neighbours in any table.
    let group = (number * 7_919 % NETWORKS as u64) as u32;
    let original = tuple(group);
    let is_end = number % 3 == 2;
    let moved = Counter { packets: 3 + number % 100, bytes: 1_000 + number };
    let totals = Totals { original: moved, reply: moved };
    Record {
        flow_id: FlowId(u128::from((number / 3 + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15))),
        kind: if is_end { RecordKind::End } else { RecordKind::Update },
        observed_ns: NOW,
        observed_boot_ns: 1,
        start_ns: NOW - 5,
        duration_ns: 5,
        last_moved_ns: Some(NOW),
        original,
        reply: Tuple { src: original.dst, dst: original.src, ..original },
        nat: NatKind::None,
        totals,
        delta: totals,
        status: Status(Status::CONFIRMED | Status::SEEN_REPLY),
        protocol_state: None,
        end_reason: is_end.then_some(EndReason::Timeout),
        mark: 0x10,
        labels: [0; 16],
        zone: 0,
        netns: 4_026_531_840,
        flags: RecordFlags::default(),
    }
}

/// Every fourth of the groups is IPv6 to UDP port 53; as many networks are the source of groups as there are halves,
/// told apart by port and destination.
fn tuple(group: u32) -> Tuple {
    let (source, peer) = (group % 2_500, group / 2_500);
    let mut tuple = Tuple { src_port: 40_000 + (group % 20_000) as u16, ..Tuple::default() };
    let (high, low) = ((source >> 8) as u8, source as u8);
    if peer == 3 {
        (tuple.family, tuple.protocol, tuple.dst_port) = (Family::V6, protocol::UDP, 53);
        let [a, b] = (source as u16).to_be_bytes();
        tuple.src = [0x20, 0x01, 0x0d, 0xb8, a, b, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1];
        tuple.dst = [0x2a, 0, a, b, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1];
    } else {
        (tuple.family, tuple.protocol, tuple.dst_port) = (Family::V4, protocol::TCP, 443);
        let address = |bytes: [u8; 4]| {
            let mut all = [0; 16];
            all[..4].copy_from_slice(&bytes);
            all
        };
        tuple.src = address([10, high, low, 7]);
        let other = (source + peer * 31) % 2_500;
        tuple.dst = address([198, 16 + (other >> 8) as u8, other as u8, 9]);
    }
    tuple
}
