//! The state against an agent that dies at any moment, and against files that were damaged.

mod damage;
mod ends;
mod kills;

use std::collections::{BTreeMap, HashMap};
use std::fs;
use std::sync::Arc;

use proptest::prelude::*;
use tempfile::TempDir;

use super::format::FileKind;
use super::row::{ENTRY_BYTES, read_entries, write_entry, write_record};
use super::{Begin, Directory, Flows, MISSING, Past, State, StateError};

use crate::flow::{FlowTable, FlowTableOptions, SavedFlow};
use crate::model::ObservationKind::{End, Existing, New, Update};
use crate::model::{
    Anchor, Backlog, Counter, EndReason, Family, FlowId, Observation, ObservationKind, Record, RecordKind,
    Records, Status, Totals, Tuple, protocol,
};
use crate::source::{Batch, Losses};

const SECOND: u64 = 1_000_000_000;
const BOOT: [u8; 16] = [7; 16];
const SOURCE: u64 = 900 * SECOND;
const SINCE: Anchor = Anchor { boot_ns: 1000 * SECOND, real_ns: 1_700_000_000 * SECOND as i64 };

/// An agent without source and output.
struct Agent {
    table: FlowTable,
    state: State,
    backlog: Backlog,
    handed_on: Vec<(u64, Records)>,
}

fn directory(dir: &TempDir) -> Directory {
    Directory::open(dir.path()).unwrap()
}

/// How often this reason is counted.
fn count(losses: &Losses, reason: &str) -> u64 {
    losses.iter().filter(|(known, _)| *known == reason).map(|(_, count)| count).sum()
}

fn past(dir: &TempDir) -> Option<Past> {
    directory(dir).read().unwrap().past
}

impl Agent {
    fn fresh(dir: &TempDir) -> Self {
        Self::start(dir, SINCE, 0, &BTreeMap::new(), |_| ())
    }

    fn start(
        dir: &TempDir,
        since: Anchor,
        next_batch: u64,
        unwritten: &BTreeMap<u64, Vec<Record>>,
        fill: impl FnOnce(&mut FlowTable),
    ) -> Self {
        let mut table = FlowTable::new(FlowTableOptions::new(100_000, BOOT, since));
        fill(&mut table);
        table.keep_journal();
        let begin = Begin {
            boot_id: BOOT,
            accounting_since: since,
            next_batch,
            clock: Vec::new(),
            source_since_ns: SOURCE,
        };
        let backlog = Backlog::default();
        unwritten.iter().for_each(|(number, records)| backlog.push(*number, records.clone().into()));
        let state = State::begin(directory(dir), begin, &table, &backlog.batches());
        Self { table, state, backlog, handed_on: Vec::new() }
    }

    /// Follows on where another was killed.
    fn after(dir: &TempDir, past: &Past, now: u64) -> Self {
        Self::start(dir, since(past, now), past.next_batch, &past.unwritten, |table| restore(table, past))
    }

    fn see(&mut self, observations: Vec<Observation>) -> Vec<Record> {
        self.take(Batch { observations, settled: true, look: None })
    }

    fn take(&mut self, batch: Batch) -> Vec<Record> {
        let mut records = Vec::new();
        self.state.note_settled(self.table.settled_batches());
        self.table.apply(&batch, &mut records);
        for (records, flows) in records.chunks(3).zip(self.table.journal().chunks(3)) {
            let number = self.state.append(records, flows);
            let batch = Records::from(records.to_vec());
            self.backlog.push(number, Arc::clone(&batch));
            self.handed_on.push((number, batch));
        }
        records
    }

    fn write_out(&self, batches: usize) {
        (0..batches).for_each(|_| self.backlog.pop());
    }

    fn tick(&mut self) {
        self.state.tick(&self.table, &self.backlog);
    }

    fn flows(&self) -> Flows {
        let saved = self.table.save(0..self.table.places()).filter(|flow| !flow.ended);
        saved.map(|flow| (flow.flow_id, flow)).collect()
    }
}

fn since(past: &Past, now: u64) -> Anchor {
    let now = Anchor { boot_ns: now, real_ns: SINCE.real_ns + (now - SINCE.boot_ns) as i64 };
    if past.is_whole() { past.accounting_since } else { now }
}

fn restore(table: &mut FlowTable, past: &Past) {
    let attached_anew = |flow| SavedFlow { born_ns: 0, ..flow };
    past.followed_on().for_each(|flow| table.restore(&attached_anew(flow)));
    past.ended.iter().for_each(|flow| table.restore_ended(&attached_anew(*flow)));
}

/// A sight of a flow of the given port that began a second after `SINCE`.
fn sight(kind: ObservationKind, port: u16, at: u64, packets: u64) -> Observation {
    let original = Tuple {
        family: Family::V4,
        protocol: protocol::UDP,
        src: [1; 16],
        dst: [2; 16],
        src_port: port,
        dst_port: 53,
    };
    let moved = Counter { packets, bytes: packets * 100 };
    Observation {
        kind,
        boot_ns: SINCE.boot_ns + at * SECOND,
        conntrack: 0xffff_0000 + u64::from(port) * 256,
        born_ns: SINCE.boot_ns + SECOND,
        start_ns: SINCE.real_ns.unsigned_abs() + SECOND,
        netns: 1,
        zone: 3,
        protocol_state: None,
        has_counters: true,
        midlife: false,
        announced: false,
        status: Status(Status::CONFIRMED),
        mark: 5,
        labels: [9; 16],
        original,
        reply: Tuple { src: [2; 16], dst: [1; 16], src_port: 53, dst_port: port, ..original },
        totals: Totals { original: moved, reply: Counter::default() },
        end_reason: (kind == ObservationKind::End).then_some(EndReason::Timeout),
    }
}

/// A life of several flows: two end, one of them at its first sight.
fn live(agent: &mut Agent) {
    agent.see((1..=5).map(|port| sight(New, port, 2, 1)).collect());
    agent.tick();
    agent.see(vec![sight(Update, 1, 3, 10), sight(Update, 2, 3, 20), sight(Update, 1, 4, 11)]);
    agent.tick();
    agent.see(vec![sight(End, 2, 5, 21), sight(End, 6, 5, 2), sight(Update, 3, 5, 30)]);
}

fn deltas(records: impl IntoIterator<Item = Record>) -> HashMap<FlowId, u64> {
    let mut sums = HashMap::new();
    for record in records {
        *sums.entry(record.flow_id).or_default() += record.delta.original.bytes;
    }
    sums
}

/// Records of batches, each batch once.
fn unique(batches: &[(u64, Records)]) -> Vec<Record> {
    let batches: HashMap<u64, _> = batches.iter().cloned().collect();
    batches.values().flat_map(|records| records.to_vec()).collect()
}

#[test]
fn a_killed_agent_leaves_each_flow_and_what_may_not_have_been_written() {
    let dir = tempfile::tempdir().unwrap();
    let mut agent = Agent::fresh(&dir);
    live(&mut agent);
    agent.write_out(1);
    let (flows, handed_on) = (agent.flows(), agent.handed_on.clone());
    drop(agent);
    let past = past(&dir).unwrap();
    assert_eq!(past.damage, []);
    assert_eq!(past.flows, flows);
    assert_eq!((past.boot_id, past.accounting_since), (BOOT, SINCE));
    assert_eq!(past.next_batch, handed_on.len() as u64);
    let unwritten: Vec<_> =
        past.unwritten.iter().map(|(number, records)| (*number, records.clone())).collect();
    let handed_on: Vec<_> = handed_on.iter().map(|(number, records)| (*number, records.to_vec())).collect();
    assert_eq!(unwritten, handed_on, "the first was written, but nothing was noted since");
}

#[test]
fn after_a_planned_end_nothing_is_handed_on_again() {
    let dir = tempfile::tempdir().unwrap();
    let mut agent = Agent::fresh(&dir);
    live(&mut agent);
    agent.write_out(agent.handed_on.len());
    let flows = agent.flows();
    let Agent { state, backlog, .. } = agent;
    state.finish(&backlog);
    let past = past(&dir).unwrap();
    assert!(past.unwritten.is_empty() && past.is_whole());
    assert_eq!(past.flows, flows);
}

#[test]
fn what_moved_while_no_agent_ran_is_billed_once_and_ids_stay() {
    let dir = tempfile::tempdir().unwrap();
    let mut agent = Agent::fresh(&dir);
    live(&mut agent);
    let mut billed = deltas(unique(&agent.handed_on));
    drop(agent);
    let mut next = Agent::after(&dir, &past(&dir).unwrap(), SINCE.boot_ns + 60 * SECOND);
    // Born under the new programs, as they see it; one began while no agent ran.
    let again = |kind, port, packets| Observation {
        born_ns: SINCE.boot_ns + 60 * SECOND,
        midlife: true,
        ..sight(kind, port, 61, packets)
    };
    let records = next.see(vec![
        again(Update, 1, 15),
        again(Existing, 3, 30),
        again(Update, 4, 1),
        again(Existing, 7, 9),
    ]);
    let told: Vec<_> = records.iter().map(|record| (record.kind, record.delta.original.packets)).collect();
    assert_eq!(told, [(RecordKind::Update, 4), (RecordKind::New, 9)]);
    assert!(records.iter().all(|record| !record.flags.first_seen_midlife));
    let records = [records, next.see(vec![sight(End, 1, 62, 16)])].concat();
    for (id, bytes) in deltas(records) {
        *billed.entry(id).or_default() += bytes;
    }
    let mut sums: Vec<u64> = billed.into_values().collect();
    sums.sort_unstable();
    assert_eq!(sums, [100, 100, 200, 900, 1600, 2100, 3000]);
}

/// The programs that outlive an agent tell the same births.
fn after_with_programs(dir: &TempDir, past: &Past) -> Agent {
    Agent::start(dir, past.accounting_since, past.next_batch, &past.unwritten, |table| {
        past.followed_on().for_each(|flow| table.restore(&flow));
        past.ended.iter().for_each(|flow| table.restore_ended(flow));
    })
}

#[test]
fn a_flow_without_a_stamp_is_met_again_by_its_tuple() {
    let dir = tempfile::tempdir().unwrap();
    let mut agent = Agent::fresh(&dir);
    let unstamped = |o| Observation { start_ns: 0, ..o };
    agent.see(vec![unstamped(sight(New, 1, 2, 5)), unstamped(sight(New, 2, 2, 5))]);
    drop(agent);
    let mut next = Agent::after(&dir, &past(&dir).unwrap(), SINCE.boot_ns + 60 * SECOND);
    let again = |o| Observation { born_ns: SINCE.boot_ns + 60 * SECOND, midlife: true, ..unstamped(o) };
    let moved = Observation { conntrack: 1, ..again(sight(Existing, 2, 61, 9)) };
    let records = next.see(vec![again(sight(Existing, 1, 61, 8)), moved]);
    let told: Vec<_> = records
        .iter()
        .map(|record| (record.kind, record.delta.original.packets, record.flags.first_seen_midlife))
        .collect();
    assert_eq!(
        told,
        [(RecordKind::Update, 3, false), (RecordKind::New, 0, true)],
        "another entry is another flow"
    );
}

#[test]
fn a_snapshot_in_pieces_and_the_log_beside_it_give_the_latest_of_each_flow() {
    let dir = tempfile::tempdir().unwrap();
    let mut agent = Agent::fresh(&dir);
    let all = |kind, at, packets| (1..=10_000).map(|port| sight(kind, port, at, packets)).collect::<Vec<_>>();
    agent.see(all(New, 2, 1));
    agent.state.begin_generation(&agent.table, &agent.backlog.batches()).unwrap();
    for (round, port) in [4000, 5000, 9000, 9500].into_iter().enumerate() {
        let at = 3 + round as u64;
        agent.see(vec![
            sight(Update, port, at, 50),
            sight(End, port + 1, at, 60),
            sight(New, 20_000 + port, at, 1),
        ]);
        assert_eq!(past_beside(&dir).flows, agent.flows(), "round {round}");
        agent.tick();
        assert_eq!(past_beside(&dir).flows, agent.flows(), "round {round}");
    }
    assert!(agent.state.copy.is_none(), "the snapshot is done");
    let files = fs::read_dir(dir.path()).unwrap().count();
    assert_eq!(files, 3, "lock, log and snapshot are left");
    assert_eq!(past_beside(&dir).unwritten.len(), agent.handed_on.len(), "carried on into the new log");
}

#[test]
fn a_state_is_of_several_sources_until_all_of_it_was_told_by_one() {
    let dir = tempfile::tempdir().unwrap();
    let mut agent = Agent::fresh(&dir);
    agent.see((1..=10_000).map(|port| sight(New, port, 2, 1)).collect());
    drop(agent);
    let first = past(&dir).unwrap();
    assert_eq!((first.flows.len(), first.source_since_ns), (10_000, Some(SOURCE)));

    let mut table = FlowTable::new(FlowTableOptions::new(100_000, BOOT, SINCE));
    restore(&mut table, &first);
    table.keep_journal();
    let begin = Begin {
        boot_id: BOOT,
        accounting_since: SINCE,
        next_batch: first.next_batch,
        clock: Vec::new(),
        source_since_ns: SOURCE + 1,
    };
    let state = State::begin(directory(&dir), begin, &table, &[]);
    let mut agent = Agent { table, state, backlog: Backlog::default(), handed_on: Vec::new() };
    assert!(agent.state.copy.is_some(), "the snapshot is not whole");
    assert_eq!(past_beside(&dir).source_since_ns, None);
    let latest = |boot| agent.state.directory.latest_source(boot);
    assert_eq!((latest(BOOT), latest([0; 16])), (Some(SOURCE + 1), None));
    while agent.state.copy.is_some() {
        agent.tick();
    }
    assert_eq!(past_beside(&dir).source_since_ns, Some(SOURCE + 1));
}

/// What an agent that started now would find, without taking the lock.
fn past_beside(dir: &TempDir) -> Past {
    let copy = tempfile::tempdir().unwrap();
    for file in fs::read_dir(dir.path()).unwrap() {
        let file = file.unwrap();
        fs::copy(file.path(), copy.path().join(file.file_name())).unwrap();
    }
    let past = past(&copy).unwrap();
    assert_eq!(past.damage, []);
    past
}

fn past_files(dir: &TempDir) -> Vec<String> {
    let names =
        fs::read_dir(dir.path()).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
    names.filter(|name| name != "lock").collect()
}

/// The files of a directory, by name.
fn files(dir: &TempDir) -> BTreeMap<String, Vec<u8>> {
    let read = |name: String| (name.clone(), fs::read(dir.path().join(name)).unwrap());
    past_files(dir).into_iter().map(read).collect()
}

fn put_back(dir: &TempDir, files: &BTreeMap<String, Vec<u8>>) {
    past_files(dir).iter().for_each(|name| fs::remove_file(dir.path().join(name)).unwrap());
    files.iter().for_each(|(name, bytes)| fs::write(dir.path().join(name), bytes).unwrap());
}

fn by_port(records: &[Record]) -> HashMap<u16, u64> {
    let mut sums = HashMap::new();
    for record in records {
        *sums.entry(record.original.src_port).or_default() += record.delta.original.bytes;
    }
    sums
}

#[test]
fn a_directory_that_is_in_use_is_refused_and_names_who_uses_it() {
    let dir = tempfile::tempdir().unwrap();
    let held = directory(&dir);
    let error = Directory::open(dir.path()).unwrap_err();
    assert!(matches!(error, StateError::InUse { .. }));
    assert!(error.to_string().contains(&format!("in use by process {}", std::process::id())), "{error}");
    drop(held);
    directory(&dir);
}

#[test]
fn another_version_is_set_aside() {
    let dir = tempfile::tempdir().unwrap();
    drop(Agent::fresh(&dir));
    for kind in ["log.1", "snapshot.1"] {
        let mut bytes = fs::read(dir.path().join(kind)).unwrap();
        bytes[8] = 9;
        let crc = crc32c::crc32c(&bytes[..68]);
        bytes[68..72].copy_from_slice(&crc.to_le_bytes());
        fs::write(dir.path().join(kind), bytes).unwrap();
    }
    let found = directory(&dir).read().unwrap();
    assert!(found.past.is_none());
    assert_eq!(found.losses, [("state_set_aside", 1)]);
    assert!(dir.path().join("log.1.version9").exists() && dir.path().join("snapshot.1.version9").exists());
    drop(Agent::fresh(&dir));
    assert!(past(&dir).unwrap().is_whole());
}

#[test]
fn a_directory_that_cannot_be_written_leaves_nothing_out_of_date_and_is_tried_again() {
    let dir = tempfile::tempdir().unwrap();
    let mut agent = Agent::fresh(&dir);
    live(&mut agent);
    agent.state.survive(Err(std::io::ErrorKind::StorageFull.into()));
    assert_eq!(past_files(&dir), ["unkept"]);
    agent.see(vec![sight(Update, 1, 6, 12)]);
    agent.tick();
    assert_eq!(past_files(&dir), ["unkept"], "it is not tried at once");
    assert_eq!(agent.state.losses(), [("state_unkept", 1)]);
    agent.state.try_again = Some(std::time::Instant::now());
    agent.tick();
    assert_eq!(past_beside(&dir).flows, agent.flows());
    assert_eq!(past_beside(&dir).unwritten.len(), agent.handed_on.len());
    assert!(!past_files(&dir).contains(&"unkept".to_owned()));
}

#[test]
fn an_agent_after_one_whose_state_could_not_be_kept_knows_that_it_is_missing() {
    let dir = tempfile::tempdir().unwrap();
    let mut agent = Agent::fresh(&dir);
    live(&mut agent);
    agent.state.survive(Err(std::io::ErrorKind::StorageFull.into()));
    drop(agent);
    for _ in 0..2 {
        let found = directory(&dir).read().unwrap();
        assert!(found.past.is_none());
        assert_eq!(found.losses, [(MISSING, 1)], "until a state is kept again");
    }
    drop(Agent::fresh(&dir));
    assert_eq!(count(&directory(&dir).read().unwrap().losses, MISSING), 0);
}

#[test]
fn steps_of_the_clock_are_kept_and_bounded() {
    let dir = tempfile::tempdir().unwrap();
    let mut agent = Agent::fresh(&dir);
    let now = |second: u64| Anchor { boot_ns: second * SECOND, real_ns: second as i64 };
    agent.state.note_clock(now(1), false);
    agent.state.note_clock(now(2), true);
    assert_eq!(past_beside(&dir).clock, [now(1), now(2)]);
    (3..1000).for_each(|second| agent.state.note_clock(now(second), true));
    let clock = past_beside(&dir).clock;
    assert_eq!((clock.len(), clock.last()), (super::keeper::CLOCK_READINGS, Some(&now(999))));
}

/// The directory as an agent leaves it that is killed before its snapshot is whole: what was there `before`, and its log
/// up to some byte.
fn kill_before_its_snapshot(agent: Agent, before: &BTreeMap<String, Vec<u8>>, dir: &TempDir, place: usize) {
    let log = agent.state.directory.place(FileKind::Log, agent.state.header.generation);
    drop(agent);
    let written = fs::read(&log).unwrap();
    put_back(dir, before);
    fs::write(&log, &written[..place % (written.len() + 1)]).unwrap();
}

proptest! {
    #[test]
    fn a_record_is_read_as_it_was_written(
        port: u16, packets in 1u64..1 << 40, at in 3u64..1 << 30, mark: u32, zone: u16, labels: [u8; 16],
        netns: u32, state: Option<u8>, status: u32, has_counters: bool, unstamped: bool, reason in 0usize..7,
        v6: bool, nat: bool,
    ) {
        let reasons = [EndReason::Closed, EndReason::Timeout, EndReason::Deleted, EndReason::Evicted,
            EndReason::Replaced, EndReason::Missed, EndReason::Unknown];
        let family = if v6 { Family::V6 } else { Family::V4 };
        let dress = |o: Observation| Observation {
            mark, zone, labels, netns, has_counters, protocol_state: state, status: Status(status),
            start_ns: if unstamped { 0 } else { o.start_ns },
            end_reason: o.end_reason.map(|_| reasons[reason]),
            original: Tuple { family, ..o.original },
            reply: Tuple { family, dst_port: if nat { 99 } else { o.reply.dst_port }, ..o.reply },
            ..o
        };
        let mut table = FlowTable::new(FlowTableOptions::new(10, BOOT, SINCE));
        table.keep_journal();
        let sights = [sight(New, port, 2, 1), sight(Update, port, at, packets), sight(End, port, at + 1, packets + 1)];
        let mut records = Vec::new();
        table.apply(&Batch { observations: sights.map(dress).to_vec(), ..Batch::default() }, &mut records);
        prop_assert!(records.len() >= 2);
        let mut bytes = Vec::new();
        for (record, flow) in records.iter().zip(table.journal()) {
            write_entry(record, flow, &mut bytes);
            write_record(record, &mut bytes);
        }
        let read: Vec<_> = read_entries(&bytes).map(Option::unwrap).collect();
        prop_assert_eq!(read.len(), 2 * records.len());
        for (place, record) in records.iter().enumerate() {
            prop_assert_eq!(&read[2 * place].0, record);
            prop_assert_eq!(read[2 * place].1, table.journal()[place]);
            prop_assert_eq!(&read[2 * place + 1].0, record);
        }
    }

    #[test]
    fn kills_in_a_row_before_a_snapshot_is_whole_cost_only_what_was_never_handed_on(
        kills in proptest::collection::vec(any::<usize>(), 1..6),
    ) {
        let dir = tempfile::tempdir().unwrap();
        let mut agent = Agent::fresh(&dir);
        live(&mut agent);
        let mut handed_on = agent.handed_on.clone();
        drop(agent);
        for (kill, at) in kills.into_iter().zip(10..) {
            let known = past(&dir).unwrap();
            let before = files(&dir);
            let mut agent = Agent::after(&dir, &known, SINCE.boot_ns + 60 * SECOND);
            agent.see([1, 3, 4, 5].map(|port| sight(Update, port, at, 10 * at)).to_vec());
            agent.see(vec![sight(End, 7, at, 1), sight(New, 100 + at as u16, at, 1)]);
            handed_on.extend(agent.handed_on.clone());
            kill_before_its_snapshot(agent, &before, &dir, kill);
            let past = past(&dir).unwrap();
            prop_assert_eq!(&past.damage, &[]);
            // Nothing was handed on that is not in a log.
            handed_on.retain(|(number, _)| *number < past.next_batch);
            let unwritten: Vec<_> = past.unwritten.keys().copied().collect();
            prop_assert_eq!(unwritten, handed_on.iter().map(|(number, _)| *number).collect::<Vec<_>>());
            let billed = deltas(unique(&handed_on));
            for flow in past.flows.values() {
                prop_assert_eq!(billed.get(&flow.flow_id), Some(&flow.totals.original.bytes));
            }
        }
    }

    #[test]
    fn any_bytes_are_rows_or_refused(bytes in proptest::collection::vec(any::<u8>(), 0..3 * ENTRY_BYTES)) {
        prop_assert_eq!(read_entries(&bytes).count(), bytes.len().div_ceil(ENTRY_BYTES));
    }

    #[test]
    fn any_files_are_read_without_a_panic(
        log in proptest::collection::vec(any::<u8>(), 0..300), keep in 0usize..600, snapshot in 0usize..600,
    ) {
        let dir = tempfile::tempdir().unwrap();
        drop(Agent::fresh(&dir));
        for (name, keep) in [("log.1", keep), ("snapshot.1", snapshot)] {
            let path = dir.path().join(name);
            let mut bytes = fs::read(&path).unwrap();
            bytes.truncate(keep);
            bytes.extend_from_slice(&log);
            fs::write(&path, bytes).unwrap();
        }
        if let Some(past) = past(&dir) {
            prop_assert!(past.flows.is_empty() && past.unwritten.is_empty());
        }
    }
}
