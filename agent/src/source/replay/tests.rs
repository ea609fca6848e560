//! Recordings, whole and damaged.

use std::io::Cursor;

use proptest::prelude::*;

use super::format::{BLOCK_BYTES, HEADER_BYTES, MAX_RECORDS, RECORD_BYTES};
use super::reader::RecordingReader;
use super::*;
use crate::model::{Counter, EndReason, Family, Observation, ObservationKind, Status, Totals, Tuple};
use crate::source::{Look, Scope};

const HEADER: Header = Header {
    boot_id: [0xB0; 16],
    accounting_since: Anchor { real_ns: 1_700_000_000_000_000_000, boot_ns: 42 },
};

fn anchor(boot_ns: u64) -> Anchor {
    Anchor { real_ns: 1_700_000_000_000_000_000 + boot_ns as i64, boot_ns }
}

fn any_tuple() -> impl Strategy<Value = Tuple> {
    (any::<bool>(), any::<u8>(), any::<[u8; 16]>(), any::<[u8; 16]>(), any::<(u16, u16)>()).prop_map(
        |(is_v4, protocol, src, dst, (src_port, dst_port))| {
            let family = if is_v4 { Family::V4 } else { Family::V6 };
            Tuple { family, protocol, src, dst, src_port, dst_port }
        },
    )
}

fn any_observation() -> impl Strategy<Value = Observation> {
    use ObservationKind::{End, Existing, Gone, New, Update};
    let kind = prop::sample::select(vec![New, Update, Existing, End, Gone]);
    let reason = prop::sample::select(vec![
        None,
        Some(EndReason::Closed),
        Some(EndReason::Timeout),
        Some(EndReason::Deleted),
        Some(EndReason::Evicted),
        Some(EndReason::Replaced),
        Some(EndReason::Missed),
        Some(EndReason::Unknown),
    ]);
    let words = any::<([u64; 8], [u32; 3], u16, Option<u8>, [bool; 3], [u8; 16])>();
    (kind, reason, words, any_tuple(), any_tuple()).prop_map(|(kind, end_reason, words, original, reply)| {
        let (
            [a, b, c, d, e, f, g, h],
            [netns, status, mark],
            zone,
            protocol_state,
            [has_counters, midlife, announced],
            labels,
        ) = words;
        let totals =
            Totals { original: Counter { packets: e, bytes: f }, reply: Counter { packets: g, bytes: h } };
        Observation {
            kind,
            boot_ns: a,
            conntrack: b,
            born_ns: c,
            start_ns: d,
            netns,
            zone,
            protocol_state,
            has_counters,
            midlife,
            announced,
            status: Status(status),
            mark,
            labels,
            original,
            reply,
            totals,
            end_reason,
        }
    })
}

fn any_batch() -> impl Strategy<Value = Recorded> {
    (prop::collection::vec(any_observation(), 0..5), any::<bool>())
}

fn record(batches: &[Recorded]) -> Vec<u8> {
    let mut writer = RecordingWriter::new(Vec::new(), &HEADER).unwrap();
    for (boot_ns, (observations, settled)) in (100..).zip(batches) {
        let batch = Batch { observations: observations.clone(), settled: *settled, look: None };
        writer.write(&batch, anchor(boot_ns)).unwrap();
    }
    writer.finish().unwrap()
}

/// The observations of a batch and whether it was settled.
type Recorded = (Vec<Observation>, bool);

/// All batches of a recording and the source at its end.
fn replay(bytes: Vec<u8>) -> Result<(Vec<Recorded>, ReplaySource), RecordingError> {
    let mut source = ReplaySource::new(Cursor::new(bytes))?;
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    let mut batches = Vec::new();
    let mut batch = Batch::default();
    while runtime.block_on(source.read(&mut batch)).unwrap() == Progress::More {
        batches.push((batch.observations.clone(), batch.settled));
        batch.clear();
    }
    assert!(batch.observations.is_empty());
    Ok((batches, source))
}

fn sample() -> Observation {
    Observation {
        kind: ObservationKind::Update,
        boot_ns: 1,
        conntrack: 2,
        born_ns: 3,
        start_ns: 4,
        netns: 5,
        zone: 6,
        protocol_state: Some(7),
        has_counters: true,
        midlife: false,
        announced: false,
        status: Status(8),
        mark: 9,
        labels: [10; 16],
        original: Tuple::default(),
        reply: Tuple::default(),
        totals: Totals::default(),
        end_reason: None,
    }
}

#[test]
fn the_sizes_are_as_documented() {
    let bytes = record(&[(vec![sample(), sample()], false)]);
    assert_eq!(bytes.len(), HEADER_BYTES + BLOCK_BYTES + 2 * RECORD_BYTES);
}

#[test]
fn a_settled_batch_is_recorded_even_when_it_is_empty() {
    let (batches, source) =
        replay(record(&[(vec![], true), (vec![], false), (vec![sample()], true)])).unwrap();
    assert_eq!(batches, [(vec![], true), (vec![sample()], true)]);
    assert_eq!(*source.header(), HEADER);
    assert_eq!(source.anchor(), anchor(102));
}

#[test]
fn a_look_is_recorded_with_its_scope() {
    for scope in [Scope::All, Scope::Namespaces(vec![7, 9])] {
        let look = Some(Look { began_boot_ns: 5, scope });
        let batch = Batch { observations: vec![sample()], settled: true, look: look.clone() };
        let mut writer = RecordingWriter::new(Vec::new(), &HEADER).unwrap();
        writer.write(&batch, anchor(100)).unwrap();
        let mut reader = RecordingReader::new(Cursor::new(writer.finish().unwrap())).unwrap();
        let mut told = Batch::default();
        assert!(reader.next(&mut told).unwrap());
        assert_eq!((told.observations.len(), told.settled, told.look.clone()), (1, false, None));
        told.clear();
        assert!(reader.next(&mut told).unwrap());
        assert_eq!((told.observations.len(), told.settled, told.look), (0, true, look));
    }
}

#[test]
fn a_huge_batch_becomes_several_blocks_of_which_the_last_is_settled() {
    let many = vec![sample(); MAX_RECORDS as usize + 1];
    let (batches, _) = replay(record(&[(many, true)])).unwrap();
    let shape: Vec<_> = batches.iter().map(|(records, settled)| (records.len(), *settled)).collect();
    assert_eq!(shape, [(MAX_RECORDS as usize, false), (1, true)]);
}

#[test]
fn damaged_records_are_left_out_and_the_rest_is_read() {
    let mut bytes = record(&[(vec![sample()], true), (vec![sample(); 2], true), (vec![sample(); 3], true)]);
    bytes[HEADER_BYTES + 2 * BLOCK_BYTES + RECORD_BYTES + 50] ^= 1;
    let (batches, source) = replay(bytes).unwrap();
    assert_eq!(batches.len(), 2);
    assert_eq!(batches[1].0.len(), 3);
    assert!(source.is_damaged());
    let expected =
        [("recording_damaged_blocks", 1), ("recording_records_skipped", 2), ("recording_bytes_skipped", 0)];
    assert_eq!(source.losses(), expected);
}

#[test]
fn after_a_damaged_front_the_rest_is_left_out_and_counted() {
    let mut bytes = record(&[(vec![sample()], true), (vec![sample()], true), (vec![sample()], true)]);
    bytes[HEADER_BYTES + BLOCK_BYTES + RECORD_BYTES + 5] ^= 1;
    let (batches, source) = replay(bytes).unwrap();
    assert_eq!(batches.len(), 1);
    assert_eq!(source.losses()[2].1, (2 * (RECORD_BYTES + BLOCK_BYTES)) as u64);
}

#[test]
fn of_a_block_that_is_cut_off_every_byte_is_counted() {
    let whole = record(&[(vec![sample()], true), (vec![sample()], true)]);
    let begin = HEADER_BYTES + BLOCK_BYTES + RECORD_BYTES;
    for left in [1, BLOCK_BYTES - 1, BLOCK_BYTES, BLOCK_BYTES + RECORD_BYTES - 1] {
        let (batches, source) = replay(whole[..begin + left].to_vec()).unwrap();
        assert_eq!(batches.len(), 1);
        assert_eq!(source.losses()[2].1, left as u64);
    }
}

#[test]
fn an_error_names_the_place() {
    let mut bytes = record(&[(vec![sample()], true), (vec![sample()], true)]);
    bytes.truncate(bytes.len() - 1);
    let mut reader = RecordingReader::new(Cursor::new(bytes)).unwrap();
    let mut batch = Batch::default();
    assert!(reader.next(&mut batch).unwrap());
    batch.clear();
    let error = reader.next(&mut batch).unwrap_err();
    assert_eq!(error.to_string(), "at byte 288: the recording is cut off");
}

#[test]
fn other_files_and_other_versions_are_refused_with_a_reason() {
    let message = |bytes: &[u8]| replay(bytes.to_vec()).err().unwrap().to_string();
    assert!(message(b"").contains("not a recording"));
    assert!(message(b"\x7fELF and more that is no recording").contains("not a recording"));
    let good = record(&[]);
    assert!(message(&good[..20]).contains("cut off"));
    let mut newer = good.clone();
    newer[8] = 3;
    assert!(message(&newer).contains("version 3"));
    let mut bent = good;
    bent[33] ^= 1;
    assert!(message(&bent).contains("header is damaged"));
}

proptest! {
    #[test]
    fn what_is_recorded_is_replayed(batches in prop::collection::vec(any_batch(), 0..6)) {
        let (replayed, source) = replay(record(&batches)).unwrap();
        let expected: Vec<_> =
            batches.into_iter().filter(|(records, settled)| *settled || !records.is_empty()).collect();
        prop_assert_eq!(replayed, expected);
        prop_assert!(!source.is_damaged());
    }

    #[test]
    fn a_damaged_recording_gives_only_what_was_recorded_and_reports_the_rest(
        batches in prop::collection::vec(any_batch(), 1..6),
        place: prop::sample::Index,
        bit in 0..8u32,
        cut: Option<prop::sample::Index>,
    ) {
        let whole = record(&batches);
        let recorded: usize = batches.iter().map(|(records, _)| records.len()).sum();
        let mut bytes = whole.clone();
        let at = place.index(bytes.len());
        bytes[at] ^= 1 << bit;
        if let Some(cut) = cut {
            bytes.truncate(cut.index(bytes.len()));
        }
        if let Ok((replayed, source)) = replay(bytes.clone()) {
            let all: Vec<Observation> = batches.into_iter().flat_map(|(records, _)| records).collect();
            let told: Vec<Observation> = replayed.into_iter().flat_map(|(records, _)| records).collect();
            prop_assert!(told.iter().all(|observation| all.contains(observation)));
            prop_assert!(bytes.len() < whole.len() || told.len() == recorded || source.is_damaged());
        }
    }

    #[test]
    fn garbage_after_a_header_does_no_harm(garbage in prop::collection::vec(any::<u8>(), 0..2000)) {
        let mut bytes = record(&[]);
        let is_garbage = !garbage.is_empty();
        bytes.extend(garbage);
        let (batches, source) = replay(bytes).unwrap();
        prop_assert!(batches.is_empty());
        prop_assert_eq!(source.is_damaged(), is_garbage);
    }
}
