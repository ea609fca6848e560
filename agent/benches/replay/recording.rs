//! Recordings of any length: waves of flows that are born, move and end, so that no more than a wave lives at once.

use std::io::{BufWriter, Write};

use anyhow::Result;
use conntally::flow::Anchor;
use conntally::model::{Counter, Observation, ObservationKind, Totals, Tuple, protocol};
use conntally::source::Batch;
use conntally::source::replay::RecordingWriter;
use conntally::source::replay::format::Header;

use crate::sights;

/// Flows of a wave; of each come three records.
const WAVE: u64 = 20_000;

/// Observations that a source reads at once.
const BATCH: u64 = 2_000;

/// Time between a flow's records, nanoseconds.
const STEP: u64 = 5_000_000_000;

const BEGIN: Anchor = Anchor { real_ns: 1_700_000_000_000_000_000, boot_ns: 1_000_000_000 };

/// Writes one that makes that many records.
pub(super) fn write(to: impl Write, records: u64) -> Result<()> {
    let header = Header { boot_id: [7; 16], accounting_since: BEGIN };
    let mut writer = RecordingWriter::new(BufWriter::new(to), &header)?;
    let mut now = BEGIN;
    for wave in 0..records / (3 * WAVE) + 1 {
        let flows = WAVE.min(records / 3 - wave * WAVE);
        for (kind, packets) in
            [(ObservationKind::New, 1), (ObservationKind::Update, 4), (ObservationKind::End, 9)]
        {
            now = Anchor { real_ns: now.real_ns + STEP.cast_signed(), boot_ns: now.boot_ns + STEP };
            for first in (0..flows).step_by(BATCH as usize) {
                let batch = first..flows.min(first + BATCH);
                let observations = batch.map(|flow| sight(wave * WAVE + flow, kind, packets, now)).collect();
                writer.write(&Batch { observations, settled: true, look: None }, now)?;
            }
        }
    }
    writer.finish()?.flush()?;
    Ok(())
}

/// Everything about a flow follows from its number.
fn sight(number: u64, kind: ObservationKind, packets: u64, now: Anchor) -> Observation {
    let [.., a, b, c] = number.to_be_bytes();
    let mut original = Tuple { protocol: protocol::TCP, src_port: 40_000, dst_port: 443, ..Tuple::default() };
    original.src[..4].copy_from_slice(&[10, a, b, c]);
    original.dst[..4].copy_from_slice(&[192, 0, 2, c]);
    let moved = Counter { packets, bytes: packets * 500 };
    Observation {
        // The kernel uses the places of ended flows again.
        conntrack: 0xffff_8880_0000_0000 + number % WAVE * 256,
        born_ns: BEGIN.boot_ns + number,
        start_ns: BEGIN.real_ns.unsigned_abs() + number,
        totals: Totals { original: moved, reply: moved },
        ..sights::sight(kind, original, now.boot_ns)
    }
}
