//! A recording tells the same story as what was recorded, each time it is replayed.

mod sights;

use std::io::Write;

use conntally::flow::{Anchor, FlowTable, FlowTableOptions};
use conntally::model::{Counter, Observation, ObservationKind, Record, RecordKind, Totals, Tuple, protocol};
use conntally::source::replay::format::Header;
use conntally::source::replay::{RecordingWriter, ReplaySource};
use conntally::source::{Batch, Progress, Source};
use sights::sight;

const SINCE: Anchor = Anchor { real_ns: 1_700_000_000_000_000_000, boot_ns: 1_000_000_000 };

fn seen(kind: ObservationKind, port: u16, after_ns: u64, packets: u64) -> Observation {
    let original = Tuple { protocol: protocol::UDP, src_port: port, dst_port: 53, ..Tuple::default() };
    let moved = Counter { packets, bytes: packets * 100 };
    Observation {
        conntrack: 0xA0,
        born_ns: SINCE.boot_ns + 1,
        start_ns: SINCE.real_ns as u64 + 1,
        totals: Totals { original: moved, reply: moved },
        ..sight(kind, original, SINCE.boot_ns + after_ns)
    }
}

fn recorded() -> Vec<Batch> {
    use ObservationKind::{End, New, Update};
    let batches = [
        vec![seen(New, 1, 1, 1), seen(End, 2, 5, 3)],
        vec![seen(New, 2, 1, 1), seen(Update, 1, 6, 4)],
        vec![],
        vec![seen(End, 1, 9, 7)],
    ];
    batches.map(|observations| Batch { observations, settled: true, look: None }).into()
}

fn table(header: &Header) -> FlowTable {
    FlowTable::new(FlowTableOptions::new(100, header.boot_id, header.accounting_since))
}

async fn replayed(path: &std::path::Path) -> anyhow::Result<Vec<Record>> {
    let mut source = ReplaySource::open(path)?;
    let mut table = table(source.header());
    let (mut batch, mut records) = (Batch::default(), Vec::new());
    while source.read(&mut batch).await? == Progress::More {
        table.re_anchor(source.anchor());
        table.apply(&batch, &mut records);
        batch.clear();
    }
    Ok(records)
}

#[tokio::test]
async fn a_recording_tells_the_same_story_each_time() {
    let header = Header { boot_id: [7; 16], accounting_since: SINCE };
    let mut file = tempfile::NamedTempFile::new().unwrap();
    let mut writer = RecordingWriter::new(Vec::new(), &header).unwrap();
    let (mut live, mut direct) = (table(&header), Vec::new());
    for batch in recorded() {
        writer.write(&batch, SINCE).unwrap();
        live.apply(&batch, &mut direct);
    }
    file.write_all(&writer.finish().unwrap()).unwrap();
    assert_eq!(replayed(file.path()).await.unwrap(), direct);
    assert_eq!(replayed(file.path()).await.unwrap(), direct);
    let ends: Vec<_> = direct.iter().filter(|record| record.kind == RecordKind::End).collect();
    assert_eq!(ends.len(), 2);
    assert_eq!(direct.iter().map(|record| record.delta.original.packets).sum::<u64>(), 10);
}

#[test]
fn a_missing_recording_is_named() {
    let error = ReplaySource::open("no/such/file".as_ref()).err().unwrap();
    assert_eq!(error.to_string(), "cannot replay no/such/file");
    assert!(error.cause.to_string().contains("No such file"), "{}", error.cause);
}
