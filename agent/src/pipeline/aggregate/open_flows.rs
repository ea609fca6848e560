//! How many flows are open in each group: each flow is remembered with the place where it counts.

use std::hash::{BuildHasherDefault, Hasher};

use hashbrown::HashMap;
use hashbrown::hash_map::Entry;

use crate::model::{Record, RecordKind};

/// Where a flow counts: the position of a series, and which of those that were there.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Seat {
    pub(super) position: u32,
    pub(super) generation: u32,
}

/// What changes by a record.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Moves {
    /// One flow less here.
    pub(super) leaves: Option<Seat>,
    /// One more here.
    pub(super) enters: Option<Seat>,
}

/// Flows that are open, 17 bytes each in a table that is half full on average.
#[derive(Debug)]
pub(super) struct OpenFlows {
    seats: HashMap<u64, Seat, BuildHasherDefault<AlreadyHashed>>,
    most: usize,
}

impl OpenFlows {
    /// For at most so many flows, which are all that the flow table has; others are in no gauge.
    pub(super) fn new(most: usize) -> Self {
        Self { seats: HashMap::default(), most }
    }

    /// Takes in a record of the group of a seat.
    pub(super) fn record(&mut self, record: &Record, seat: Seat) -> Moves {
        // The id is a hash: its lower half is as good.
        let flow = record.flow_id.0 as u64;
        if record.kind == RecordKind::End {
            return Moves { leaves: self.seats.remove(&flow), enters: None };
        }
        let is_full = self.seats.len() >= self.most;
        match self.seats.entry(flow) {
            Entry::Occupied(known) if *known.get() == seat => Moves::default(),
            Entry::Occupied(mut known) => Moves { leaves: Some(known.insert(seat)), enters: Some(seat) },
            Entry::Vacant(_) if is_full => Moves::default(),
            Entry::Vacant(free) => {
                free.insert(seat);
                Moves { leaves: None, enters: Some(seat) }
            }
        }
    }
}

/// Takes a number for its own hash.
#[derive(Clone, Copy, Debug, Default)]
struct AlreadyHashed(u64);

impl Hasher for AlreadyHashed {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.0 = self.0.rotate_left(8) ^ u64::from(*byte);
        }
    }

    fn write_u64(&mut self, number: u64) {
        self.0 = number;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::FlowId;
    use crate::sinks::samples::end_of_tcp;

    fn record(flow: u128, kind: RecordKind) -> Record {
        Record { flow_id: FlowId(flow), kind, ..end_of_tcp() }
    }

    #[test]
    fn a_flow_counts_once_moves_with_its_group_and_leaves_at_its_end() {
        let (one, two) = (Seat { position: 1, generation: 0 }, Seat { position: 2, generation: 0 });
        let mut flows = OpenFlows::new(10);
        let enters = |seat| Moves { leaves: None, enters: Some(seat) };
        assert_eq!(flows.record(&record(5, RecordKind::New), one), enters(one));
        assert_eq!(flows.record(&record(5, RecordKind::Update), one), Moves::default());
        let moved = flows.record(&record(5, RecordKind::Update), two);
        assert_eq!(moved, Moves { leaves: Some(one), enters: Some(two) });
        assert_eq!(flows.record(&record(5, RecordKind::End), one).leaves, Some(two));
        assert_eq!(flows.record(&record(5, RecordKind::End), one), Moves::default());
    }

    #[test]
    fn flows_beyond_the_limit_are_in_no_gauge() {
        let mut flows = OpenFlows::new(1);
        flows.record(&record(5, RecordKind::New), Seat::default());
        assert_eq!(flows.record(&record(6, RecordKind::New), Seat::default()), Moves::default());
        assert_eq!(flows.record(&record(6, RecordKind::End), Seat::default()), Moves::default());
    }
}
