//! Where flows are kept: dense storage with a free list, and an index by namespace, zone and tuple.

use std::hash::{BuildHasher, Hasher};

use foldhash::quality::RandomState;
use hashbrown::HashTable;

use super::state::FlowState;
use crate::model::{Observation, Tuple};

/// Observations that are looked at together: as many cache misses as a CPU waits for at the same time, or more.
pub(super) const AHEAD: usize = 32;

/// Flows by position and by tuple. Several flows may have the same tuple.
#[derive(Debug, Default)]
pub(super) struct Slab {
    flows: Vec<FlowState>,
    free: Vec<u32>,
    index: HashTable<u32>,
    /// Seeded at random: peers choose their ports and could choose them to collide.
    hasher: RandomState,
}

impl Slab {
    /// Hash of the observation's namespace, zone and original tuple.
    pub(super) fn hash(&self, o: &Observation) -> u64 {
        let Tuple { family, protocol, src, dst, src_port, dst_port } = o.original;
        let mut hasher = self.hasher.build_hasher();
        hasher.write_u128(u128::from_ne_bytes(src));
        hasher.write_u128(u128::from_ne_bytes(dst));
        let place = u64::from(o.netns) << 32 | u64::from(o.zone) << 16 | u64::from(protocol) << 8;
        let ports = u64::from(src_port) << 16 | u64::from(dst_port);
        hasher.write_u64(place | family as u64);
        hasher.write_u64(ports);
        hasher.finish()
    }

    /// The hashes of some observations, whose flows are now in the CPU's caches, mostly.
    ///
    /// A big table is not, and a flow found there is waited for: first its place in the index, then itself. Here
    /// nothing depends on what is looked at before, so the CPU waits for all of them together.
    pub(super) fn look_ahead(&self, observations: &[Observation]) -> [u64; AHEAD] {
        let mut hashes = [0; AHEAD];
        for (hash, observation) in hashes.iter_mut().zip(observations) {
            *hash = self.hash(observation);
        }
        let mut positions = [0; AHEAD];
        for ((position, &hash), _) in positions.iter_mut().zip(&hashes).zip(observations) {
            *position = self.index.iter_hash(hash).next().copied().unwrap_or_default();
        }
        let touched = positions.iter().zip(observations).filter_map(|(&position, _)| self.get(position));
        std::hint::black_box(touched.fold(0, |sum: u64, flow| sum ^ flow.touch()));
        hashes
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

    pub(super) fn get(&self, position: u32) -> Option<&FlowState> {
        self.flows.get(position as usize)
    }

    pub(super) fn get_mut(&mut self, position: u32) -> Option<&mut FlowState> {
        self.flows.get_mut(position as usize)
    }

    /// Stores a flow under its hash.
    pub(super) fn insert(&mut self, flow: FlowState) -> u32 {
        let position = self.place(flow);
        let flows = &self.flows;
        let hash_of = |&at: &u32| flows.get(at as usize).map_or(0, |flow| flow.hash);
        self.index.insert_unique(flow.hash, position, hash_of);
        position
    }

    /// Forgets a flow; its position will be used again.
    pub(super) fn remove(&mut self, position: u32) {
        let Some(hash) = self.get(position).map(|flow| flow.hash) else { return };
        if let Ok(entry) = self.index.find_entry(hash, |&at| at == position) {
            entry.remove();
            self.free.push(position);
        }
    }

    /// All positions that were ever used. At a free one lies the flow that was there last.
    pub(super) fn positions(&self) -> std::ops::Range<u32> {
        0..u32::try_from(self.flows.len()).unwrap_or(u32::MAX)
    }

    /// How many flows are stored.
    pub(super) fn len(&self) -> usize {
        self.index.len()
    }

    fn place(&mut self, flow: FlowState) -> u32 {
        if let Some(position) = self.free.pop() {
            if let Some(slot) = self.get_mut(position) {
                *slot = flow;
            }
            return position;
        }
        self.flows.push(flow);
        u32::try_from(self.flows.len() - 1).unwrap_or(u32::MAX)
    }
}
