//! What is remembered of flows that ended, so that late sights of them are recognised, and for how long.

use super::state::{Facts, FlowState};
use super::table::FlowTable;
use crate::model::Observation;

/// How long a flow that was found gone is remembered, in case its end is told after all.
pub(super) const MISSED_NS: u64 = 600_000_000_000;

/// Ended flows of one tuple that are remembered at most.
const MOST_ENDED_OF_TUPLE: usize = 128;

/// An ended flow that is still remembered.
#[derive(Clone, Copy, Debug)]
pub(super) struct Ended {
    position: u32,
    /// A part of the flow's id, by which it is told from one that took its place.
    tag: u32,
    /// May be forgotten when this many batches are settled; of a missed one, at this boot time.
    forget_at: u64,
}

impl Ended {
    pub(super) const fn of(position: u32, flow: &FlowState, forget_at: u64) -> Self {
        Self { position, tag: tag(flow), forget_at }
    }
}

const fn tag(flow: &FlowState) -> u32 {
    flow.flow_id.0 as u32
}

impl FlowTable {
    pub(super) fn forget_ended(&mut self) {
        while let Some(&oldest) = self.ended.front() {
            let is_early = oldest.forget_at > self.settled_batches;
            if is_early && self.ended.len() <= self.options.max_ended {
                break;
            }
            self.ended.pop_front();
            if self.is_remembered(oldest) {
                self.counts.ended_forgotten += u64::from(is_early);
                self.flows.remove(oldest.position);
            }
        }
    }

    /// Whether it is still there; else it was forgotten before its turn, which is noted.
    fn is_remembered(&mut self, ended: Ended) -> bool {
        let flow = self.flows.get(ended.position);
        let is_there = flow.is_some_and(|flow| flow.facts.has(Facts::ENDED) && tag(flow) == ended.tag);
        self.forgotten_early -= usize::from(!is_there);
        is_there
    }

    /// Forgets the oldest ended flow of a tuple that has too many: each event of the tuple is compared with all of them,
    /// and a peer decides how many there are.
    pub(super) fn forget_of_same_tuple(&mut self, hash: u64, o: &Observation) {
        let ended = || {
            let is_ended = |flow: &FlowState| flow.facts.has(Facts::ENDED) && !flow.facts.has(Facts::MISSED);
            self.flows.same_tuple(hash, o).filter(move |(_, flow)| is_ended(flow))
        };
        if ended().nth(MOST_ENDED_OF_TUPLE - 1).is_none() {
            return;
        }
        let Some((position, _)) = ended().min_by_key(|(_, flow)| flow.last_seen_ns) else { return };
        self.flows.remove(position);
        self.forgotten_early += 1;
        self.counts.ended_forgotten += 1;
    }

    pub(super) fn forget_missed(&mut self) {
        while let Some(&oldest) = self.missed.front() {
            if oldest.forget_at > self.newest_ns && self.missed.len() <= self.options.max_ended {
                break;
            }
            self.missed.pop_front();
            if !self.is_remembered(oldest) {
                continue;
            }
            if let Some(flow) = self.flows.get(oldest.position)
                && flow.facts.has(Facts::MISSED)
            {
                self.strangers.forget(flow.born_ns);
            }
            self.flows.remove(oldest.position);
        }
    }
}
