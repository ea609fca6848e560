//! Files that were cut, broken, lost or only just made: damage is noticed and counted, and nothing is billed twice.

use std::collections::HashMap;
use std::fs;
use std::path::Path;

use tempfile::TempDir;

use super::super::format::{FileKind, HEADER_BYTES};
use super::super::{Flows, MISSING, Past};
use super::{
    Agent, BOOT, Batch, End, FlowTable, FlowTableOptions, New, Records, SECOND, SINCE, Update, by_port,
    count, deltas, directory, live, past, put_back, restore, sight, since, unique,
};

#[test]
fn a_log_cut_anywhere_is_an_agent_that_died_there() {
    let dir = tempfile::tempdir().unwrap();
    let mut agent = Agent::fresh(&dir);
    live(&mut agent);
    let log = agent.state.directory.place(FileKind::Log, 1);
    let handed_on = agent.handed_on.clone();
    drop(agent);
    let whole = fs::read(&log).unwrap();
    for length in (HEADER_BYTES..whole.len()).rev() {
        fs::write(&log, &whole[..length]).unwrap();
        let past = past(&dir).unwrap();
        assert_eq!(past.damage, [], "cut to {length}");
        // Nothing was handed on that is not in the log.
        let before: Vec<_> =
            handed_on.iter().filter(|(number, _)| *number < past.next_batch).cloned().collect();
        let billed = deltas(unique(&before));
        for flow in past.flows.values() {
            assert_eq!(billed.get(&flow.flow_id), Some(&flow.totals.original.bytes), "cut to {length}");
        }
    }
}

#[test]
fn a_log_that_was_only_just_made_is_no_damage() {
    let dir = tempfile::tempdir().unwrap();
    let mut agent = Agent::fresh(&dir);
    live(&mut agent);
    let next = agent.state.directory.place(FileKind::Log, 2);
    drop(agent);
    let before = past(&dir).unwrap();
    for bytes in [0, 1, HEADER_BYTES - 1] {
        fs::write(&next, vec![0; bytes]).unwrap();
        assert_eq!(past(&dir).unwrap().damage, []);
        assert!(!next.exists(), "one that is left would lie between others");
        fs::write(&next, vec![0; bytes]).unwrap();
        let past = past(&dir).unwrap();
        assert_eq!((past.damage, past.next_batch), (Vec::new(), before.next_batch), "{bytes} bytes");
        assert_eq!(past.flows.len(), before.flows.len());
    }
    fs::write(&next, [0; HEADER_BYTES]).unwrap();
    assert_eq!(past(&dir).unwrap().damage.len(), 1);
}

#[test]
fn an_agent_that_dies_at_the_very_first_start_has_damaged_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let log = Agent::fresh(&dir).state.directory.place(FileKind::Log, 1);
    let begun = fs::read(&log).unwrap();
    for length in 0..=begun.len() {
        put_back(&dir, &[("log.1".to_owned(), begun[..length].to_vec())].into());
        let found = directory(&dir).read().unwrap();
        assert!(found.past.is_none() && found.losses.is_empty() && !log.exists(), "{length} bytes");
    }
    let mut agent = Agent::fresh(&dir);
    live(&mut agent);
    drop(agent);
    fs::remove_file(dir.path().join("snapshot.1")).unwrap();
    assert_eq!(past(&dir).unwrap().damage.len(), 1, "batches without a snapshot are not all");
}

#[test]
fn a_start_that_is_killed_among_many_flows_leaves_the_log_of_the_one_before_readable() {
    let dir = tempfile::tempdir().unwrap();
    let mut agent = Agent::fresh(&dir);
    agent.see((1..=5_000).map(|port| sight(New, port, 2, 1)).collect());
    let flows = agent.flows();
    let log = agent.state.directory.place(FileKind::Log, 1);
    agent.see(vec![sight(Update, 1, 3, 10)]);
    drop(agent);
    let whole = fs::read(&log).unwrap();
    fs::write(&log, &whole[..whole.len() - 1]).unwrap();
    let next = Agent::after(&dir, &past(&dir).unwrap(), SINCE.boot_ns + 60 * SECOND);
    assert!(next.state.copy.is_some(), "its snapshot is not whole");
    drop(next);
    let past = past(&dir).unwrap();
    assert_eq!(past.damage, []);
    let totals = |flows: &Flows| flows.iter().map(|(id, flow)| (*id, flow.totals)).collect::<HashMap<_, _>>();
    assert_eq!(totals(&past.flows), totals(&flows));
}

/// Bills on after `past` was read, and looks whether more was billed than moved.
fn nothing_is_billed_twice(handed_on: &[(u64, Records)], past: &Past) {
    let mut next = FlowTable::new(FlowTableOptions::new(100, BOOT, since(past, SINCE.boot_ns + 60 * SECOND)));
    restore(&mut next, past);
    let moved = |port| 100 + u64::from(port);
    let observations = (1..=6).map(|port| sight(Update, port, 61, moved(port))).collect();
    let mut records = Vec::new();
    next.apply(&Batch { observations, settled: true, look: None }, &mut records);
    let again = past.unwritten.iter().map(|(number, records)| (*number, records.clone().into()));
    let mut all = unique(&[handed_on.to_vec(), again.collect()].concat());
    all.extend(records);
    for (port, sum) in by_port(&all) {
        assert!(sum <= moved(port) * 100, "flow {port} moved {} and was billed {sum}", moved(port) * 100);
    }
}

fn break_each_byte(path: &Path, dir: &TempDir, handed_on: &[(u64, Records)]) {
    let whole = fs::read(path).unwrap();
    for place in 0..whole.len() {
        let mut broken = whole.clone();
        broken[place] ^= 1 << (place % 8);
        fs::write(path, &broken).unwrap();
        let found = directory(dir).read().unwrap();
        assert!(count(&found.losses, "state_damaged") > 0, "byte {place} is broken and nobody counted it");
        match found.past {
            Some(past) => {
                assert!(!past.is_whole(), "byte {place} is broken and nobody noticed");
                nothing_is_billed_twice(handed_on, &past);
            }
            None => panic!("byte {place} is broken and nothing was read"),
        }
    }
    fs::write(path, &whole).unwrap();
}

#[test]
fn a_broken_byte_anywhere_is_noticed_and_nothing_is_billed_twice() {
    let dir = tempfile::tempdir().unwrap();
    let mut agent = Agent::fresh(&dir);
    agent.see((1..=5).map(|port| sight(New, port, 2, 1)).collect());
    agent.state.begin_generation(&agent.table, &agent.backlog.batches()).unwrap();
    agent.see(vec![sight(Update, 1, 3, 10), sight(Update, 2, 3, 20), sight(Update, 1, 4, 11)]);
    agent.see(vec![sight(End, 2, 5, 21), sight(Update, 3, 5, 30)]);
    let handed_on = agent.handed_on.clone();
    let places = [FileKind::Log, FileKind::Snapshot].map(|kind| agent.state.directory.place(kind, 2));
    drop(agent);
    for place in places {
        break_each_byte(&place, &dir, &handed_on);
    }
    assert!(past(&dir).unwrap().is_whole());
}

#[test]
fn a_file_that_is_missing_is_noticed() {
    for missing in [FileKind::Log, FileKind::Snapshot] {
        let dir = tempfile::tempdir().unwrap();
        let mut agent = Agent::fresh(&dir);
        live(&mut agent);
        let handed_on = agent.handed_on.clone();
        fs::remove_file(agent.state.directory.place(missing, 1)).unwrap();
        drop(agent);
        let past = past(&dir).unwrap();
        assert!(!past.is_whole());
        nothing_is_billed_twice(&handed_on, &past);
    }
}

#[test]
fn every_damage_is_counted_also_those_that_are_not_told_one_by_one() {
    let dir = tempfile::tempdir().unwrap();
    let mut agent = Agent::fresh(&dir);
    let log = agent.state.directory.place(FileKind::Log, 1);
    let mut ends = Vec::new();
    for port in 1..=40 {
        agent.see(vec![sight(New, port, 2, 1)]);
        ends.push(usize::try_from(fs::metadata(&log).unwrap().len()).unwrap());
    }
    drop(agent);
    let mut bytes = fs::read(&log).unwrap();
    ends.iter().for_each(|end| bytes[end - 1] ^= 1);
    fs::write(&log, bytes).unwrap();
    let found = directory(&dir).read().unwrap();
    assert_eq!((count(&found.losses, "state_damaged"), found.past.unwrap().damage.len()), (40, 32));
}

#[test]
fn a_state_that_cannot_be_read_at_all_is_set_aside_and_counted() {
    let dir = tempfile::tempdir().unwrap();
    let mut agent = Agent::fresh(&dir);
    live(&mut agent);
    drop(agent);
    for kind in ["log.1", "snapshot.1"] {
        fs::write(dir.path().join(kind), "nonsense").unwrap();
    }
    let found = directory(&dir).read().unwrap();
    assert!(found.past.is_none() && dir.path().join("log.1.damaged").exists());
    assert_eq!(count(&found.losses, "state_damaged"), 2);
    assert_eq!(
        directory(&dir).read().unwrap().losses,
        [(MISSING, 1)],
        "whoever found it was killed before its own state began"
    );
    drop(Agent::fresh(&dir));
    let losses = directory(&dir).read().unwrap().losses;
    assert!(losses.iter().all(|(_, count)| *count == 0), "what was set aside is told of once: {losses:?}");
    assert!(!dir.path().join("unkept").exists());
}
