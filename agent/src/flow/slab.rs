//! Where flows are kept: dense storage with a free list, and an index by namespace, zone and tuple.

use std::hash::{BuildHasher, Hash, Hasher};

use foldhash::quality::RandomState;
use hashbrown::HashTable;

use super::chunks::Chunks;
use super::state::{Facts, FlowState};
use crate::model::{FlowId, Observation, Sum, Tuple};

/// A flow and what the table alone keeps of it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Entry {
    pub(super) flow: FlowState,
    /// How much further than `flow.totals` its counters were when the kernel's table was last walked.
    pub(super) ahead: Ahead,
}

/// Packets and bytes of both directions.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Ahead {
    pub(super) packets: u64,
    pub(super) bytes: u64,
}

impl Ahead {
    pub(super) const fn of(sum: Sum) -> Self {
        Self { packets: sum.packets, bytes: sum.bytes }
    }

    /// The same as a sum.
    pub(super) const fn sum(self) -> Sum {
        Sum { flows: 0, packets: self.packets, bytes: self.bytes }
    }
}

/// Flows by position and by tuple. Several flows may have the same tuple.
#[derive(Debug, Default)]
pub(super) struct Slab {
    entries: Chunks<Entry>,
    free: Vec<u32>,
    index: HashTable<u32>,
    /// Seeded at random: peers choose their ports and could choose them to collide.
    hasher: RandomState,
}

impl Slab {
    /// Hash of the observation's namespace, zone and original tuple.
    pub(super) fn hash(&self, o: &Observation) -> u64 {
        hash_of(&self.hasher, o.netns, o.zone, &o.original)
    }

    /// The flows, living or ended, of the observation's namespace, zone and original tuple.
    pub(super) fn same_tuple<'a>(
        &'a self,
        hash: u64,
        o: &'a Observation,
    ) -> impl Iterator<Item = (u32, &'a FlowState)> {
        self.index
            .iter_hash(hash)
            .filter_map(|&position| Some((position, self.get(position)?)))
            .filter(|(_, flow)| flow.original == o.original && flow.netns == o.netns && flow.zone == o.zone)
    }

    /// The position that is most likely that of the given hash; which flow lies there was not looked at.
    pub(super) fn likely(&self, hash: u64) -> Option<u32> {
        self.index.find(hash, |_| true).copied()
    }

    /// Reads from all over an entry, so that it is in the cache.
    pub(super) fn touch(&self, position: u32) -> u64 {
        self.entry(position).map_or(0, |Entry { flow, ahead }| {
            let [label, ..] = flow.labels;
            flow.totals.original.packets
                ^ flow.baseline.reply.bytes
                ^ flow.moved_ns
                ^ u64::from(flow.original.src_port ^ flow.reply.src_port)
                ^ u64::from(flow.zone)
                ^ u64::from(label)
                ^ ahead.bytes
        })
    }

    pub(super) fn get(&self, position: u32) -> Option<&FlowState> {
        self.entries.get(position).map(|entry| &entry.flow)
    }

    pub(super) fn entry(&self, position: u32) -> Option<&Entry> {
        self.entries.get(position)
    }

    pub(super) fn entry_mut(&mut self, position: u32) -> Option<&mut Entry> {
        self.entries.get_mut(position)
    }

    /// All positions that were ever used. At a free one lies the flow that was there last.
    pub(super) fn positions(&self) -> std::ops::Range<u32> {
        0..self.entries.len()
    }

    /// Stores a flow whose hash nobody computed.
    pub(super) fn insert_unhashed(&mut self, flow: FlowState) -> u32 {
        self.insert(hash_of_flow(&self.hasher, &flow), flow)
    }

    /// Stores a flow under the hash of its namespace, zone and original tuple.
    pub(super) fn insert(&mut self, hash: u64, flow: FlowState) -> u32 {
        let position = self.place(Entry { flow, ahead: Ahead::default() });
        let Self { entries, hasher, index, .. } = self;
        let hash_again = |&at: &u32| entries.get(at).map_or(0, |entry| hash_of_flow(hasher, &entry.flow));
        index.insert_unique(hash, position, hash_again);
        position
    }

    /// Forgets a flow; its position will be used again.
    pub(super) fn remove(&mut self, position: u32) {
        let Some(hash) = self.get(position).map(|flow| hash_of_flow(&self.hasher, flow)) else { return };
        if let Ok(entry) = self.index.find_entry(hash, |&at| at == position) {
            entry.remove();
            self.free.push(position);
            // A free place is not to be taken for a flow that has to be kept, nor for that flow.
            if let Some(entry) = self.entries.get_mut(position) {
                entry.flow.facts.set(Facts::MISSED, false);
                entry.flow.flow_id = FlowId::default();
            }
        }
    }

    /// How many flows are stored.
    pub(super) fn len(&self) -> usize {
        self.index.len()
    }

    /// Bytes allocated.
    pub(super) fn memory(&self) -> usize {
        self.entries.memory() + self.index.allocation_size() + self.free.capacity() * size_of::<u32>()
    }

    fn place(&mut self, entry: Entry) -> u32 {
        if let Some(position) = self.free.pop() {
            if let Some(place) = self.entries.get_mut(position) {
                *place = entry;
            }
            return position;
        }
        self.entries.push(entry)
    }
}

fn hash_of_flow(hasher: &RandomState, flow: &FlowState) -> u64 {
    hash_of(hasher, flow.netns, flow.zone, &flow.original)
}

fn hash_of(hasher: &RandomState, netns: u32, zone: u16, original: &Tuple) -> u64 {
    let mut hasher = hasher.build_hasher();
    original.hash(&mut hasher);
    hasher.write_u64(u64::from(netns) << 16 | u64::from(zone));
    hasher.finish()
}
