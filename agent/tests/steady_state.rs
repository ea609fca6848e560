//! The way of an event from the kernel's ring to a line of JSON, visits and looks take no memory once as many flows live as
//! before.
#![expect(unsafe_code, reason = "counting allocations needs a global allocator")]

#[path = "../benches/ring/kernel.rs"]
#[expect(dead_code, reason = "the benchmark does more with it")]
mod kernel;
#[path = "../benches/ring/reader.rs"]
#[expect(dead_code, reason = "as above")]
mod reader;
mod sights;

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::time::Duration;

use conntally::flow::{Anchor, FlowTable, FlowTableOptions, Visits};
use conntally::model::{
    Counter, Family, Observation, ObservationKind, RateCurve, Record, Totals, Tuple, protocol,
};
use conntally::sinks::json::{self, EncodeContext};
use conntally::source::{Batch, Look, Scope};
use sights::sight;

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

/// One of so many flows is found gone.
const MISSED: u16 = 100;

const SECOND: u64 = 1_000_000_000;

fn seen(kind: ObservationKind, port: u16, born: u64, now: u64, packets: u64) -> Observation {
    let original = Tuple {
        family: Family::V6,
        protocol: protocol::UDP,
        src: [1; 16],
        dst: [2; 16],
        src_port: port,
        dst_port: 53,
    };
    let moved = Counter { packets, bytes: packets * 100 };
    Observation {
        conntrack: u64::from(port + 1) << 8,
        born_ns: born,
        start_ns: born,
        totals: Totals { original: moved, reply: moved },
        ..sight(kind, original, now)
    }
}

/// One life of every flow, told in four batches; a look at all of them comes with the third. Every hundredth flow
/// is then found gone instead of ended.
fn round(number: u64, batch: &mut Batch, mut consume: impl FnMut(&Batch, u64)) {
    use ObservationKind::{End, Existing, New, Update};
    let begin = number * 3600 * SECOND;
    for (stage, (kind, packets)) in (1..).zip([(New, 1), (Update, 5), (Existing, 5), (End, 6)]) {
        let now = begin + stage * 10 * SECOND;
        batch.clear();
        batch.settled = true;
        let ports = (0..FLOWS).filter(|port| kind != End || port % MISSED != 0);
        batch.observations.extend(ports.map(|port| seen(kind, port, begin, now, packets)));
        batch.look = (kind == Existing).then_some(Look { began_boot_ns: now, scope: Scope::All });
        consume(batch, now);
    }
    for second in [50, 60] {
        batch.clear();
        let began_boot_ns = begin + second * SECOND;
        batch.look = Some(Look { began_boot_ns, scope: Scope::All });
        consume(batch, began_boot_ns);
    }
}

#[test]
fn steady_state_takes_no_memory() {
    let since = Anchor { real_ns: 0, boot_ns: 0 };
    let curve = RateCurve::new(&[(Duration::ZERO, Duration::from_secs(5))]);
    let options = FlowTableOptions::new(100_000, [0; 16], since).with_visits(Visits::Always, curve);
    let mut table = FlowTable::new(options);
    let context = EncodeContext {
        host: "gw1".to_owned(),
        netns_name: Box::new(|_| None),
        networks: Default::default(),
    };
    let mut encoder = json::Encoder::new(context);
    let (mut batch, mut due) = (Batch::default(), Vec::new());
    let mut records: Vec<Record> = Vec::new();
    let mut lines = Vec::new();
    let (mut told, mut visits) = (0, 0);
    for number in 1..20 {
        let before = ALLOCATIONS.get();
        round(number, &mut batch, |batch, now| {
            records.clear();
            table.apply(batch, &mut records);
            due.clear();
            table.take_due(now, usize::from(FLOWS), &mut due);
            lines.clear();
            encoder.encode(&records, &mut lines);
            told += records.len();
            visits += due.len();
        });
        let allocations = ALLOCATIONS.get() - before;
        assert!(number > 1 || allocations > 0, "allocations are not counted");
        assert!(number < 10 || allocations == 0, "{allocations} allocations in round {number}");
    }
    assert_eq!(told, 19 * 3 * usize::from(FLOWS));
    assert!(visits >= 19 * usize::from(FLOWS), "{visits} visits");
    assert_eq!(table.books().missed.flows, 19 * u64::from(FLOWS / MISSED));
    assert!(table.is_empty());
}

/// A ring of the kernel is filled by a program that hangs on nothing, and read as the agent reads it.
#[test]
fn reading_a_ring_takes_no_memory() {
    const EVENTS: u32 = 4 * FLOWS as u32;
    if !nix::unistd::geteuid().is_root() {
        assert!(
            std::env::var_os("REQUIRE_ROOT_TESTS").is_none(),
            "not root, and REQUIRE_ROOT_TESTS forbids to skip"
        );
        eprintln!("skipped: needs root to load a program");
        return;
    }
    let kernel = kernel::Kernel::new(1 << 20, FLOWS.into()).unwrap();
    let mut reader = reader::Reader::open(&kernel.ring).unwrap();
    let mut told = 0;
    for round in 1..20 {
        kernel.produce(EVENTS).unwrap();
        let before = ALLOCATIONS.get();
        told += reader.read_all();
        let allocations = ALLOCATIONS.get() - before;
        assert!(round > 1 || allocations > 0, "allocations are not counted");
        assert!(round < 10 || allocations == 0, "{allocations} allocations in round {round}");
    }
    assert_eq!(told, 19 * u64::from(EVENTS));
}
