//! What an agent loses of flows that a recording tells of: there everything comes as it is wanted.

use std::process::Command;

use conntally::model::{Observation, ObservationKind};
use conntally::source::replay::RecordingWriter;
use conntally::source::replay::format::Header;
use conntally::source::{Batch, Look, Scope};
use tempfile::NamedTempFile;

use crate::ports_of_flows::{SINCE, sight};
use crate::replaying::{file, recording};
use ObservationKind::{End, Existing, New, Update};

/// Bytes of a packet each way.
const BYTES: u64 = 200;

const SECOND_NS: u64 = 1_000_000_000;

/// For so long a flow that was found gone is remembered.
const REMEMBERED_S: u64 = 600;

/// What the agent said in the end, of completeness and of everything that was not as it should be.
struct Said {
    audit: String,
    account: String,
}

impl Said {
    /// That so many bytes were delivered, and lost by this; the rest is what was told besides.
    fn expect(&self, completeness: &str, delivered: u64, told: &str, account: &str) {
        let Self { audit, account: said } = self;
        assert!(audit.contains(&format!("completeness of bytes {completeness}, packets ")), "{audit}");
        assert!(!audit.contains('≠') && audit.contains(&format!(" = delivered {delivered} + ")), "{audit}");
        assert!(audit.ends_with(told), "{audit}");
        assert_eq!(said, account);
    }
}

fn replay(recording: &NamedTempFile) -> Said {
    let config = file(b"[flow]\nmax_flows = 1024\n[output]\nformat = \"json\"\n");
    let mut command = Command::new(env!("CARGO_BIN_EXE_conntally"));
    command.env("NO_COLOR", "1").arg("-c").arg(config.path()).arg("replay").arg(recording.path());
    let log = command.output().expect("the agent could not be started").stderr;
    let log = String::from_utf8(log).unwrap();
    let line = |word: &str| {
        let line = log.lines().rev().find_map(|line| line.split_once(word)).expect("an agent tells it").1;
        line.split(" flows=").next().unwrap().to_owned()
    };
    Said { audit: line("audit: "), account: line("account: ") }
}

/// Batches of which the last may be a look at all flows, in which nothing else was met.
fn looked_at(batches: impl IntoIterator<Item = (Vec<Observation>, Option<u64>)>) -> NamedTempFile {
    let batches = batches.into_iter().map(|(observations, began_s)| {
        let began = |seconds| Look { began_boot_ns: at(seconds), scope: Scope::All };
        Batch { observations, settled: true, look: began_s.map(began) }
    });
    written(batches)
}

fn written(batches: impl IntoIterator<Item = Batch>) -> NamedTempFile {
    let header = Header { boot_id: [7; 16], accounting_since: SINCE };
    let mut writer = RecordingWriter::new(Vec::new(), &header).unwrap();
    batches.into_iter().for_each(|batch| writer.write(&batch, SINCE).unwrap());
    file(&writer.finish().unwrap())
}

const fn at(seconds: u64) -> u64 {
    SINCE.boot_ns + seconds * SECOND_NS
}

/// A sight so many seconds after the beginning.
fn later(seconds: u64, observation: Observation) -> Observation {
    Observation { boot_ns: at(seconds), ..observation }
}

#[test]
fn each_sight_of_a_flow_for_which_the_table_has_no_room_is_counted() {
    let ports = 1..=1_024 + 6;
    let all = |kind, packets| ports.clone().map(|port| sight(kind, port, packets)).collect();
    replay(&recording([all(New, 1), all(Update, 2), all(End, 3)])).expect(
        "unknown, at most 100 %",
        3 * BYTES * 1_030,
        "; of unknown amount: flow_table_full 12",
        "lost flow_table_full 12",
    );
}

#[test]
fn an_ended_flow_of_a_tuple_with_too_many_is_forgotten_early() {
    let lives = (1..=130).map(|life| {
        let start_ns = SINCE.real_ns.unsigned_abs() + life;
        let of_life = |kind| Observation { start_ns, boot_ns: SINCE.boot_ns + life, ..sight(kind, 1, 1) };
        Batch { observations: [New, End].map(of_life).into(), settled: false, look: None }
    });
    replay(&written(lives)).expect(
        "unknown, at most 100 %",
        130 * BYTES,
        "; of unknown amount: ended_flows_forgotten_early 2",
        "lost ended_flows_forgotten_early 2",
    );
}

#[test]
fn what_a_look_saw_of_a_flow_that_was_then_found_gone_is_lost_at_least() {
    let looks = [
        (vec![sight(New, 1, 1)], None),
        (vec![later(1, sight(Existing, 1, 6))], Some(1)),
        (vec![], Some(10)),
        (vec![], Some(20)),
    ];
    replay(&looked_at(looks)).expect(
        "unknown, at most 16.67 %",
        BYTES,
        "; lost by missed: 1000 bytes, 10 packets, 0 flows; of unknown amount: ended_unseen 1",
        "nothing was lost",
    );
}

#[test]
fn the_end_of_a_flow_that_was_found_gone_tells_the_rest() {
    let looks = [
        (vec![sight(New, 1, 1)], None),
        (vec![], Some(10)),
        (vec![], Some(20)),
        (vec![later(21, sight(End, 1, 6))], None),
    ];
    replay(&looked_at(looks)).expect(
        "100 %",
        6 * BYTES,
        "delivered 1 + not yet due 0 + filtered 0 + lost 0",
        "lost end_after_missed 1",
    );
}

#[test]
fn the_end_of_a_forgotten_flow_makes_the_completeness_unknown() {
    let end = Observation { announced: true, ..sight(End, 1, 6) };
    let nameless = |observation| Observation { start_ns: 0, ..observation };
    let looks = [
        (vec![nameless(sight(New, 1, 1))], None),
        (vec![], Some(10)),
        (vec![], Some(20)),
        (vec![], Some(21 + REMEMBERED_S)),
        (vec![nameless(later(22 + REMEMBERED_S, end))], None),
    ];
    replay(&looked_at(looks)).expect(
        "unknown, at most 100 %",
        BYTES,
        "; of unknown amount: end_of_forgotten_flow 1; of unknown amount: ended_unseen 1",
        "lost end_of_forgotten_flow 1",
    );
}

#[test]
fn a_recording_that_is_cut_off_makes_the_completeness_unknown() {
    let whole = recording((1..=3).map(|port| vec![sight(End, port, 1)]));
    let bytes = std::fs::read(whole.path()).unwrap();
    let cut = file(&bytes[..bytes.len() - 7]);
    replay(&cut).expect(
        "unknown, at most 100 %",
        2 * BYTES,
        "; of unknown amount: recording_damaged_blocks 1; of unknown amount: recording_bytes_skipped 217",
        "lost recording_damaged_blocks 1, recording_bytes_skipped 217",
    );
}
