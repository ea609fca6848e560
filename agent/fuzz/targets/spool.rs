//! Spools: any two segments are read, and what can be read of them comes out in order. Inputs whose first byte is odd get
//! right checksums, so that what lies behind them is reached, too.
#![no_main]

use std::{fs, path::PathBuf, sync::LazyLock};

use conntally::{config::SpoolConfig, pipeline::spool::Store};
use libfuzzer_sys::fuzz_target;

const HEADER: usize = 64;
const FRAME: usize = 80;

/// What the table has of an item at least.
const LEAST_ENTRY: usize = 6;

static PLACE: LazyLock<PathBuf> = LazyLock::new(|| {
    let memory = PathBuf::from("/dev/shm");
    let root = if memory.is_dir() { memory } else { std::env::temp_dir() };
    root.join(format!("conntally-fuzz-spool.{}", std::process::id()))
});

fuzz_target!(|input: &[u8]| {
    play(input);
    // It may take memory that outlives the process.
    let _ = fs::remove_dir_all(&*PLACE);
});

fn play(input: &[u8]) {
    let [first, low, high, files @ ..] = input else { return };
    let length = files.len();
    let (one, other) = files.split_at(length.min(usize::from(u16::from_le_bytes([*low, *high]))));
    let (mut one, mut other) = (one.to_vec(), other.to_vec());
    if first & 1 == 1 {
        seal(&mut one, 0);
        seal(&mut other, 2);
    }
    fs::create_dir_all(&*PLACE).expect("the folder of the fuzzer is ours");
    fs::write(PLACE.join("segment.0"), one).expect("there is room");
    fs::write(PLACE.join("segment.2"), other).expect("there is room");
    let Ok(mut store) = Store::open(&SpoolConfig::in_dir(PLACE.clone()), "null", [0; 16]) else { return };
    let waiting = store.recovered().requests;
    let (mut bytes, mut taken) = (0, 0);
    while let Ok(Some((ticket, request))) = store.take() {
        assert_eq!(request.items.last().map(|(end, _)| *end as usize), Some(request.body.len()));
        bytes += FRAME + request.body.len() + request.items.len() * LEAST_ENTRY;
        taken += 1;
        store.done(ticket).expect("it can be written");
    }
    assert!(bytes <= length, "more requests than there are bytes for");
    assert!(taken <= waiting && store.is_idle());
}

/// Writes what the format demands of header and frames; see `docs/spool.md`.
fn seal(file: &mut [u8], number: u64) {
    let Some((header, mut rest)) = file.split_at_mut_checked(HEADER) else { return };
    header[..16].copy_from_slice(b"CTALLYSP\x01\0\0\0\0\0\0\0");
    header[32..40].copy_from_slice(&number.to_le_bytes());
    header[44..60].fill(0);
    header[44..48].copy_from_slice(b"null");
    let sum = crc32c::crc32c(&header[..60]);
    header[60..].copy_from_slice(&sum.to_le_bytes());
    let mut offset = HEADER as u64;
    while let Some((frame, after)) = rest.split_at_mut_checked(FRAME) {
        frame[..4].copy_from_slice(b"CTRQ");
        // Short ones, of which several fit.
        frame[5..8].fill(0);
        frame[9..12].fill(0);
        let payload = usize::from(frame[4]) + usize::from(frame[8]);
        let whole = after.len() >= payload;
        if whole {
            let sum = crc32c::crc32c(&after[..payload]);
            frame[64..68].copy_from_slice(&sum.to_le_bytes());
        }
        let sum = crc32c::crc32c_append(crc32c::crc32c(&frame[..68]), &offset.to_le_bytes());
        frame[68..72].copy_from_slice(&sum.to_le_bytes());
        offset += (FRAME + payload) as u64;
        if !whole {
            return;
        }
        rest = &mut after[payload..];
    }
}
