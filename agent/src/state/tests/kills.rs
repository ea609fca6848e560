//! Agents that are killed at any moment, one after the other, while the rings of the kernel programs outlive them: every
//! byte is billed once.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::fs;

use proptest::prelude::*;
use tempfile::TempDir;

use super::super::format::FileKind;
use super::{
    Agent, End, New, Observation, Records, Update, after_with_programs, by_port, past, put_back, sight,
    unique,
};
use crate::source::Batch;

/// A ring whose room is given back after what was in it has been kept.
#[derive(Default)]
struct Ring {
    waiting: VecDeque<Observation>,
    taken: usize,
}

impl Ring {
    /// Takes so many, and tells whether that was all.
    fn take(&mut self, limit: usize, out: &mut Vec<Observation>) -> bool {
        let before = out.len();
        out.extend(self.waiting.iter().skip(self.taken).take(limit));
        self.taken += out.len() - before;
        self.taken == self.waiting.len()
    }

    fn give_back(&mut self) {
        self.waiting.drain(..std::mem::take(&mut self.taken));
    }
}

#[derive(Clone, Debug)]
enum Step {
    /// A flow does the next that it does in its life.
    Live(u16),
    /// At most so many events of each ring.
    Read(usize),
    /// A new generation, whose snapshot is whole at once.
    Switch,
    /// At some byte of what was written last.
    Kill(usize),
    /// The same, with nothing that was removed since the start.
    KillBeforeTheSnapshot(usize),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        8 => (1u16..12).prop_map(Step::Live),
        6 => (1usize..6).prop_map(Step::Read),
        3 => Just(Step::Read(usize::MAX)),
        1 => Just(Step::Switch),
        3 => any::<usize>().prop_map(Step::Kill),
        2 => any::<usize>().prop_map(Step::KillBeforeTheSnapshot),
    ]
}

/// A machine with an agent on it.
struct Machine {
    dir: TempDir,
    agent: Option<Agent>,
    handed_on: Vec<(u64, Records)>,
    updates: Ring,
    ends: Ring,
    lives: HashMap<u16, u64>,
    moved: HashMap<u16, u64>,
    now: u64,
    /// The files that the agent found.
    found: BTreeMap<String, Vec<u8>>,
    /// Bytes of the present log before the last read was appended, or the switch to it.
    kept: usize,
    switched: bool,
}

impl Machine {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let mut machine = Self {
            agent: Some(Agent::fresh(&dir)),
            dir,
            handed_on: Vec::new(),
            updates: Ring::default(),
            ends: Ring::default(),
            lives: HashMap::new(),
            moved: HashMap::new(),
            now: 1,
            found: BTreeMap::new(),
            kept: 0,
            switched: true,
        };
        machine.kept = machine.log().1.len();
        machine
    }

    fn agent(&mut self) -> &mut Agent {
        self.agent.as_mut().unwrap()
    }

    /// The present log and what is in it.
    fn log(&mut self) -> (String, Vec<u8>) {
        let state = &self.agent().state;
        let path = state.directory.place(FileKind::Log, state.header.generation);
        (path.file_name().unwrap().to_str().unwrap().to_owned(), fs::read(path).unwrap())
    }

    fn play(&mut self, step: &Step) {
        self.now += 1;
        match step {
            Step::Live(port) => self.live(*port),
            Step::Read(limit) => drop(self.read(*limit)),
            Step::Switch => self.switch(),
            Step::Kill(at) => self.kill(*at, false),
            Step::KillBeforeTheSnapshot(at) => self.kill(*at, true),
        }
    }

    /// A flow begins, moves twice and ends; then its life is over.
    fn live(&mut self, port: u16) {
        let age = self.lives.entry(port).or_default();
        *age += 1;
        let event = |kind| sight(kind, port, self.now, 10 * *age);
        match *age {
            1 => self.updates.waiting.push_back(event(New)),
            2 | 3 => self.updates.waiting.push_back(event(Update)),
            4 => self.ends.waiting.push_back(event(End)),
            _ => return,
        }
        self.moved.insert(port, 1000 * *age);
    }

    fn read(&mut self, limit: usize) -> bool {
        self.updates.give_back();
        self.ends.give_back();
        let (mut observations, mut ends) = (Vec::new(), Vec::new());
        let are_ends_all = self.ends.take(limit, &mut ends);
        let settled = self.updates.take(limit, &mut observations) && are_ends_all;
        observations.extend(ends);
        self.kept = self.log().1.len();
        self.agent().take(Batch { observations, settled, look: None });
        let new = std::mem::take(&mut self.agent().handed_on);
        self.handed_on.extend(new);
        self.agent().tick();
        settled
    }

    fn switch(&mut self) {
        let Agent { state, table, backlog, .. } = self.agent();
        state.begin_generation(table, &backlog.batches()).unwrap();
        assert!(state.copy.is_none());
        self.switched = true;
        self.kept = self.log().1.len();
    }

    fn kill(&mut self, at: usize, before_its_snapshot: bool) {
        let (name, mut log) = self.log();
        self.agent = None;
        if before_its_snapshot && !self.switched {
            put_back(&self.dir, &self.found);
        }
        log.truncate(self.kept + at % (log.len() + 1 - self.kept));
        fs::write(self.dir.path().join(name), log).unwrap();
        self.updates.taken = 0;
        self.ends.taken = 0;
        let past = past(&self.dir).unwrap();
        assert_eq!(past.damage, []);
        self.handed_on.retain(|(number, _)| *number < past.next_batch);
        self.found = super::files(&self.dir);
        // As numbers follow the clock.
        let past = super::Past { next_batch: past.next_batch + 1_000_000, ..past };
        self.agent = Some(after_with_programs(&self.dir, &past));
        self.switched = false;
        self.kept = self.log().1.len();
    }
}

proptest! {
    #[test]
    fn every_byte_is_billed_once_however_often_agents_are_killed(steps in proptest::collection::vec(step(), 1..60)) {
        let mut machine = Machine::new();
        steps.iter().for_each(|step| machine.play(step));
        while !machine.read(usize::MAX) {}
        prop_assert_eq!(by_port(&unique(&machine.handed_on)), machine.moved);
    }
}
