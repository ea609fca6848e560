//! A million living flows fit into 300 bytes each, with their index and due times.

mod sights;

use conntally::flow::{Anchor, FlowTable, FlowTableOptions, Visits};
use conntally::model::{Observation, ObservationKind, RateCurve, Tuple};
use conntally::source::Batch;
use sights::sight;
use std::time::Duration;

const FLOWS: u32 = 1_000_000;

fn flow(number: u32) -> Observation {
    let mut original = Tuple { protocol: 17, dst_port: 53, ..Tuple::default() };
    original.src[..4].copy_from_slice(&number.to_be_bytes());
    let boot_ns = u64::from(number);
    Observation {
        conntrack: boot_ns << 8,
        born_ns: boot_ns + 1,
        ..sight(ObservationKind::New, original, boot_ns)
    }
}

#[test]
fn a_million_flows_take_300_bytes_each() {
    let since = Anchor { real_ns: 0, boot_ns: 0 };
    let curve = RateCurve::new(&[(Duration::ZERO, Duration::from_secs(5))]);
    let options = FlowTableOptions::new(FLOWS as usize, [0; 16], since).with_visits(Visits::Always, curve);
    let mut table = FlowTable::new(options);
    let (mut batch, mut records) = (Batch::default(), Vec::new());
    for first in (0..FLOWS).step_by(1000) {
        batch.clear();
        records.clear();
        batch.observations.extend((first..first + 1000).map(flow));
        table.apply(&batch, &mut records);
    }
    assert_eq!(table.len(), FLOWS as usize);
    let each = table.memory() / FLOWS as usize;
    println!("{each} bytes per flow");
    assert!((200..=300).contains(&each), "{each} bytes per flow");
}
