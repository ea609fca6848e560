//! Recordings: any file is read or refused. Inputs that begin with an odd byte get right checksums, so that what lies
//! behind them is reached, too.
#![no_main]

use std::{
    io::Cursor,
    pin::pin,
    task::{Context, Poll, Waker},
};

use conntally::{
    flow::{FlowTable, FlowTableOptions},
    source::{Batch, Progress, Source, replay::ReplaySource},
};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: &[u8]| {
    let Some((first, file)) = input.split_first() else { return };
    let mut file = file.to_vec();
    if first & 1 == 1 {
        seal(&mut file);
    }
    let length = file.len();
    let Ok(mut source) = ReplaySource::new(Cursor::new(file)) else { return };
    let header = *source.header();
    let mut table = FlowTable::new(FlowTableOptions::new(64, header.boot_id, header.accounting_since));
    let (mut batch, mut records, mut told) = (Batch::default(), Vec::new(), 0);
    while wait(source.read(&mut batch)).is_ok_and(|progress| progress == Progress::More) {
        told += batch.observations.len();
        table.re_anchor(source.anchor());
        table.apply(&batch, &mut records);
        batch.clear();
    }
    assert!(told * 184 <= length, "more records than there are bytes for");
    assert!(table.len() <= 64);
});

/// Writes the checksums of header and blocks where the format has them; see `docs/recording.md`.
fn seal(file: &mut [u8]) {
    let Some((header, mut rest)) = file.split_at_mut_checked(64) else { return };
    header[..8].copy_from_slice(b"CTALLYRC");
    // Both versions are read.
    header[8] = 1 + (header[8] & 1);
    header[9..12].copy_from_slice(b"\0\xb8\0");
    write_sum(header);
    while let Some((block, after)) = rest.split_at_mut_checked(40) {
        block[..4].copy_from_slice(b"CTBK");
        block[6..8].fill(0);
        let records = usize::from(u16::from_le_bytes([block[4], block[5]])) * 184;
        let Some((records, after)) = after.split_at_mut_checked(records) else { return write_sum(block) };
        block[32..36].copy_from_slice(&crc32c::crc32c(records).to_le_bytes());
        write_sum(block);
        rest = after;
    }
}

/// The last four bytes become the checksum of those before.
fn write_sum(bytes: &mut [u8]) {
    if let Some((content, sum)) = bytes.split_last_chunk_mut() {
        *sum = crc32c::crc32c(content).to_le_bytes();
    }
}

/// A file never makes one wait.
fn wait<T>(future: impl Future<Output = T>) -> T {
    let mut future = pin!(future);
    loop {
        if let Poll::Ready(done) = future.as_mut().poll(&mut Context::from_waker(Waker::noop())) {
            return done;
        }
    }
}
