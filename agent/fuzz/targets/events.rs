//! Events of the kernel programs, as if those said anything: each becomes an observation, the flow table takes it and
//! bills no more than was told, and every record becomes one line of JSON.
#![no_main]

use conntally::{
    flow::{Anchor, FlowTable, FlowTableOptions},
    model::{Record, RecordKind},
    sinks::json::{self, EncodeContext},
    source::{Batch, bpf::observation},
};
use conntally_common::Event;
use libfuzzer_sys::fuzz_target;
use zerocopy::FromBytes as _;

fuzz_target!(|input: &[u8]| {
    // Which batches are settled, then the events.
    let Some((settled, bytes)) = input.split_first_chunk() else { return };
    let settled = u64::from_le_bytes(*settled);
    let since = Anchor { real_ns: 1_700_000_000_000_000_000, boot_ns: 1_000_000_000 };
    let mut table = FlowTable::new(FlowTableOptions::new(8, [7; 16], since));
    let mut records = Vec::new();
    for (number, bytes) in bytes.chunks(size_of::<Event>()).enumerate() {
        let Ok(event) = Event::ref_from_bytes(bytes) else { continue };
        let batch = Batch {
            observations: vec![observation(event)],
            settled: settled >> (number % 64) & 1 == 1,
            ..Batch::default()
        };
        table.apply(&batch, &mut records);
    }
    assert!(table.len() <= 8);
    for (position, record) in records.iter().enumerate() {
        check_line(record);
        check_deltas(&records[..=position], record);
    }
});

fn check_line(record: &Record) {
    let context = EncodeContext {
        host: "fuzz".to_owned(),
        netns_name: Box::new(|_| None),
        networks: Default::default(),
    };
    let mut line = Vec::new();
    json::Encoder::new(context).encode(std::slice::from_ref(record), &mut line);
    assert_eq!(line.iter().filter(|&&byte| byte == b'\n').count(), 1);
}

/// All that was billed of a flow so far is no more than its totals.
fn check_deltas(until: &[Record], last: &Record) {
    let mut earlier = until.iter().rev().skip(1).filter(|record| record.flow_id == last.flow_id);
    // No kernel gives two flows of a tuple the same start; made-up events do, and then both have the same id.
    let is_repeated = |record: &Record| {
        record.kind == RecordKind::End || record.flags.weak_id || last.kind == RecordKind::New
    };
    if last.flags.weak_id || last.flags.no_counters || earlier.any(is_repeated) {
        return;
    }
    let of_flow = until.iter().filter(|record| record.flow_id == last.flow_id);
    let billed = of_flow.fold(0u128, |sum, record| sum + u128::from(record.delta.original.bytes));
    assert!(billed <= u128::from(last.totals.original.bytes), "{billed} bytes billed: {last:?}");
}
