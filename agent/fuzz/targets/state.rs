//! State directories: any pair of files is taken over, set aside or refused. Inputs whose first byte is odd get right
//! checksums, so that what lies behind them is reached, too.
#![no_main]

use std::{fs, path::PathBuf, sync::LazyLock};

use conntally::{
    flow::{FlowTable, FlowTableOptions},
    state::{Directory, Found},
};
use libfuzzer_sys::fuzz_target;

const HEADER: usize = 72;
const FRAME: usize = 32;

/// The smallest thing of which a file may hold many.
const FLOW: usize = 244;

static PLACE: LazyLock<PathBuf> = LazyLock::new(|| {
    let memory = PathBuf::from("/dev/shm");
    let root = if memory.is_dir() { memory } else { std::env::temp_dir() };
    root.join(format!("conntally-fuzz-state.{}", std::process::id()))
});

fuzz_target!(|input: &[u8]| {
    play(input);
    // It may take memory that outlives the process.
    let _ = fs::remove_dir_all(&*PLACE);
});

fn play(input: &[u8]) {
    let [first, low, high, files @ ..] = input else { return };
    let length = files.len();
    let (snapshot, log) = files.split_at(length.min(usize::from(u16::from_le_bytes([*low, *high]))));
    let (mut snapshot, mut log) = (snapshot.to_vec(), log.to_vec());
    if first & 1 == 1 {
        seal(&mut snapshot, 2);
        seal(&mut log, 1);
    }
    let directory = Directory::open(&PLACE).expect("the folder of the fuzzer is ours");
    fs::write(PLACE.join("snapshot.1"), snapshot).expect("there is room");
    fs::write(PLACE.join("log.1"), log).expect("there is room");
    let Ok(Found { past: Some(past), .. }) = directory.read() else { return };
    let records: usize = past.unwritten.values().map(Vec::len).sum();
    let flows = past.flows.len() + past.ended.len();
    assert!((flows + records) * FLOW <= 2 * length, "more than there are bytes for");
    let mut table = FlowTable::new(FlowTableOptions::new(8, past.boot_id, past.accounting_since));
    past.clock.iter().for_each(|reading| {
        table.re_anchor(*reading);
    });
    past.followed_on().for_each(|flow| table.restore(&flow));
    past.ended.iter().for_each(|flow| table.restore_ended(flow));
    assert!(table.len() <= 8);
    table.abandon(&mut Vec::new());
}

/// Writes what the format demands of header and frames; see `state/format.rs`.
fn seal(file: &mut [u8], kind: u8) {
    let Some((header, mut rest)) = file.split_at_mut_checked(HEADER) else { return };
    header[..16]
        .copy_from_slice(&[b'C', b'T', b'A', b'L', b'L', b'Y', b'S', b'T', 2, 0, kind, 0, 0, 0, 0, 0]);
    header[48..56].copy_from_slice(&1u64.to_le_bytes());
    header[64..68].fill(0);
    write_sum(header);
    while let Some((frame, after)) = rest.split_at_mut_checked(FRAME) {
        let payload = u32::from_le_bytes([frame[0], frame[1], frame[2], frame[3]]) as usize;
        frame[5..8].fill(0);
        let Some((payload, after)) = after.split_at_mut_checked(payload) else { return write_sum(frame) };
        frame[24..28].copy_from_slice(&crc32c::crc32c(payload).to_le_bytes());
        write_sum(frame);
        rest = after;
    }
}

/// The last four bytes become the checksum of those before.
fn write_sum(bytes: &mut [u8]) {
    if let Some((content, sum)) = bytes.split_last_chunk_mut() {
        *sum = crc32c::crc32c(content).to_le_bytes();
    }
}
