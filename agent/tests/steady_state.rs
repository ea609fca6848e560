//! The way of an observation to a line of JSON takes no memory once as many flows live as before.
#![expect(unsafe_code, reason = "counting allocations needs a global allocator")]

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;

use conntally::flow::{Anchor, FlowTable, FlowTableOptions};
use conntally::model::{
    Counter, EndReason, Family, Observation, ObservationKind, Record, Status, Totals, Tuple, protocol,
};
use conntally::sinks::json::{self, EncodeContext};
use conntally::source::Batch;

thread_local! {
    static ALLOCATIONS: Cell<u64> = const { Cell::new(0) };
}

struct Counting;

// SAFETY: everything is handed on to the system's allocator; counting allocates nothing.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        ALLOCATIONS.set(ALLOCATIONS.get() + 1);
        // SAFETY: the caller keeps to the contract, which is the same.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        // SAFETY: the caller keeps to the contract, which is the same.
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

const FLOWS: u16 = 1000;

fn sight(kind: ObservationKind, port: u16, now: u64, packets: u64) -> Observation {
    let original = Tuple {
        family: Family::V6,
        protocol: protocol::UDP,
        src: [1; 16],
        dst: [2; 16],
        src_port: port,
        dst_port: 53,
    };
    let reply = Tuple { src: [2; 16], dst: [1; 16], src_port: 53, dst_port: port, ..original };
    let moved = Counter { packets, bytes: packets * 100 };
    Observation {
        kind,
        boot_ns: now,
        conntrack: u64::from(port) << 8,
        born_ns: now,
        start_ns: now / 1000 * 1000,
        netns: 1,
        zone: 0,
        protocol_state: None,
        has_counters: true,
        midlife: false,
        status: Status(Status::CONFIRMED),
        mark: 0,
        labels: [0; 16],
        original,
        reply,
        totals: Totals { original: moved, reply: moved },
        end_reason: (kind == ObservationKind::End).then_some(EndReason::Timeout),
    }
}

/// One life of every flow, told in three batches.
fn round(number: u64, batch: &mut Batch, mut consume: impl FnMut(&Batch)) {
    let stages = [(ObservationKind::New, 1), (ObservationKind::Update, 5), (ObservationKind::End, 6)];
    for (kind, packets) in stages {
        batch.clear();
        batch.settled = true;
        batch.observations.extend((0..FLOWS).map(|port| sight(kind, port, number * 1000 + packets, packets)));
        consume(batch);
    }
}

#[test]
fn steady_state_takes_no_memory() {
    let since = Anchor { real_ns: 0, boot_ns: 0 };
    let mut table = FlowTable::new(FlowTableOptions::new(100_000, [0; 16], since));
    let context = EncodeContext { host: "gw1".to_owned(), netns_name: Box::new(|_| None) };
    let mut batch = Batch::default();
    let mut records: Vec<Record> = Vec::new();
    let mut lines = Vec::new();
    let mut told = 0;
    for number in 1..20 {
        let before = ALLOCATIONS.get();
        round(number, &mut batch, |batch| {
            records.clear();
            table.apply(batch, &mut records);
            lines.clear();
            records.iter().for_each(|record| json::encode(record, &context, &mut lines));
            told += records.len();
        });
        let allocations = ALLOCATIONS.get() - before;
        assert!(number > 1 || allocations > 0, "allocations are not counted");
        assert!(number < 10 || allocations == 0, "{allocations} allocations in round {number}");
    }
    assert_eq!(told, 19 * 3 * usize::from(FLOWS));
    assert!(table.is_empty());
}
