//! The flow table: each flow's life from its first sight to its single end.
//!
//! What it promises:
//! - The deltas of a flow's records add up to its final totals, less what it had moved before a first sight
//!   midlife, in whatever order the observations of two settled batches come.
//! - A flow has one first record and one end; after the end nothing follows. A flow whose end is its first sight
//!   has a single record, its end, with all it moved as delta.
//! - Totals that go back give no delta. They are counted (`totals_regressed`); somebody reset the counters.
//! - Memory is bounded. Past `max_flows` living flows an unknown one is not taken in: each sight of it is counted
//!   (`flow_table_full`), and its end is delivered whole, so that only resolution in time is lost.

use std::collections::VecDeque;

use super::clock::WallClock;
use super::identity::flow_id;
use super::matching::{Relation, is_dumped, preference, relation};
use super::saved::SavedFlow;
use super::slab::Slab;
use super::state::{Facts, FlowState};
use crate::model::{Anchor, EndReason, FlowId, Observation, ObservationKind, Record, RecordKind, Totals};
use crate::source::{Batch, Losses};

/// Settled batches after which nothing late can come from an ended flow: one would do by the source's promise.
const LATE_BATCHES: u64 = 2;

/// What the table must know from the start.
#[derive(Clone, Copy, Debug)]
pub struct FlowTableOptions {
    /// Living flows at most.
    pub max_flows: usize,
    /// Ended flows that are remembered at most, so that late observations of them are recognised.
    pub max_ended: usize,
    /// The boot id, part of each flow's identity.
    pub boot_id: [u8; 16],
    /// Since when every flow's birth is seen. What an older flow had moved when it is first seen is not billed.
    pub accounting_since: Anchor,
}

impl FlowTableOptions {
    /// Sensible limits for a machine that may hold `max_flows` flows.
    #[must_use]
    pub fn new(max_flows: usize, boot_id: [u8; 16], accounting_since: Anchor) -> Self {
        Self { max_flows, max_ended: (max_flows / 4).max(65_536), boot_id, accounting_since }
    }
}

/// What went through the table so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct FlowTableStats {
    /// Flows that live now.
    pub live: usize,
    /// Flows taken in, those first seen at their end included.
    pub flows: u64,
    /// End records.
    pub ends: u64,
    /// Records of all kinds.
    pub records: u64,
    /// Bytes of all deltas, both directions.
    pub bytes: u64,
}

/// How often something was not as it should be.
#[derive(Clone, Copy, Debug, Default)]
struct Counts {
    table_full: u64,
    regressed: u64,
    ended_forgotten: u64,
    end_after_missed: u64,
}

/// An ended flow that is still remembered.
#[derive(Clone, Copy, Debug)]
struct Ended {
    position: u32,
    /// May be forgotten when this many batches are settled.
    forget_at: u64,
}

/// Turns observations into records.
#[derive(Debug)]
pub struct FlowTable {
    options: FlowTableOptions,
    clock: WallClock,
    pub(super) flows: Slab,
    /// Oldest first.
    ended: VecDeque<Ended>,
    settled_batches: u64,
    stats: FlowTableStats,
    counts: Counts,
    /// Each flow as it was at each record of the latest batch, if somebody wants to know.
    journal: Option<Vec<SavedFlow>>,
}

impl FlowTable {
    /// An empty table.
    #[must_use]
    pub fn new(options: FlowTableOptions) -> Self {
        Self {
            options,
            clock: WallClock::anchor(options.accounting_since),
            flows: Slab::default(),
            ended: VecDeque::new(),
            settled_batches: 0,
            stats: FlowTableStats::default(),
            counts: Counts::default(),
            journal: None,
        }
    }

    /// Compares the clocks; to be called before each batch. Returns a step of the wall clock in nanoseconds.
    pub fn re_anchor(&mut self, now: Anchor) -> Option<i64> {
        self.clock.re_anchor(now)
    }

    /// Takes in a batch and appends the records that follow from it.
    pub fn apply(&mut self, batch: &Batch, records: &mut Vec<Record>) {
        self.journal.iter_mut().for_each(Vec::clear);
        let forget_at = self.settled_batches + u64::from(batch.settled) + LATE_BATCHES;
        for observation in &batch.observations {
            self.observe(observation, forget_at, records);
        }
        if batch.settled {
            self.settled_batches += 1;
        }
        self.forget_ended();
    }

    /// After a complete dump of the given namespaces was applied: ends as missed what lives there and was seen
    /// neither by the dump nor otherwise since it began at `began_boot_ns`. To be called when everything that
    /// happened before the dump was applied, too, or ends under way are told as missed.
    pub fn reconcile(
        &mut self,
        began_boot_ns: u64,
        is_dumped_netns: impl Fn(u32) -> bool,
        records: &mut Vec<Record>,
    ) {
        let forget_at = self.settled_batches + LATE_BATCHES;
        for position in self.flows.positions() {
            let is_gone = self.flows.get(position).is_some_and(|flow| {
                let lives = !flow.facts.has(Facts::ENDED);
                lives && flow.last_seen_ns < began_boot_ns && is_dumped(flow) && is_dumped_netns(flow.netns)
            });
            if is_gone {
                if let Some(flow) = self.flows.get_mut(position) {
                    flow.last_seen_ns = began_boot_ns;
                }
                self.end(position, Some(EndReason::Missed), forget_at, Totals::default(), records);
            }
        }
    }

    /// From now on [`FlowTable::journal`] tells of each batch.
    pub fn keep_journal(&mut self) {
        self.journal = Some(Vec::new());
    }

    /// The flow of each record of the latest batch as it was then, in the order of the records.
    #[must_use]
    pub fn journal(&self) -> &[SavedFlow] {
        self.journal.as_deref().unwrap_or_default()
    }

    /// Places of flows; any number of them may be free. They are visited for a copy of the table in pieces.
    #[must_use]
    pub fn places(&self) -> u32 {
        self.flows.positions().end
    }

    /// The flows at these places that an agent which starts later has to know: those that live, and those whose end
    /// was not seen.
    pub fn save(&self, places: std::ops::Range<u32>) -> impl Iterator<Item = SavedFlow> + '_ {
        let is_needed = |flow: &&FlowState| !flow.facts.has(Facts::ENDED) || flow.facts.has(Facts::MISSED);
        places.filter_map(|place| self.flows.get(place)).filter(is_needed).map(FlowState::saved)
    }

    /// Takes in a flow of an agent that ran before, in this boot. To be called before the first batch. Whatever the
    /// flow moved meanwhile is in its next record.
    pub fn restore(&mut self, saved: &SavedFlow) {
        if self.flows.len() >= self.options.max_flows {
            self.counts.table_full += 1;
            return;
        }
        let flow = FlowState::restored(saved, self.flows.hash(&saved.sight()));
        let position = self.flows.insert(flow);
        if saved.missed {
            self.ended.push_back(Ended { position, forget_at: self.settled_batches + LATE_BATCHES });
        }
    }

    /// Takes in a flow of which an agent that ran before, in this boot, told the end just before it stopped. To be
    /// called before the first batch. What that agent had read but not given back comes again, and must not count
    /// twice.
    pub fn restore_ended(&mut self, saved: &SavedFlow) {
        let mut flow = FlowState::restored(saved, self.flows.hash(&saved.sight()));
        flow.facts.set(Facts::ENDED, true);
        let position = self.flows.insert(flow);
        self.ended.push_back(Ended { position, forget_at: self.settled_batches + LATE_BATCHES });
    }

    /// Ends every flow as missed, with the totals known: their boot is over.
    pub fn abandon(&mut self, records: &mut Vec<Record>) {
        for position in self.flows.positions() {
            if self.flows.get(position).is_some_and(|flow| !flow.facts.has(Facts::ENDED)) {
                self.end(position, Some(EndReason::Missed), 0, Totals::default(), records);
            }
        }
    }

    /// How many flows live.
    #[must_use]
    pub fn len(&self) -> usize {
        self.flows.len() - self.ended.len()
    }

    /// Whether no flow lives.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// What went through so far.
    #[must_use]
    pub fn stats(&self) -> FlowTableStats {
        FlowTableStats { live: self.len(), ..self.stats }
    }

    /// How often something was lost or not as it should be, by reason.
    #[must_use]
    pub fn losses(&self) -> Losses {
        vec![
            ("flow_table_full", self.counts.table_full),
            ("totals_regressed", self.counts.regressed),
            ("ended_flows_forgotten_early", self.counts.ended_forgotten),
            ("end_after_missed", self.counts.end_after_missed),
        ]
    }

    /// Ends the table. Flows that still live get no record: the kernel goes on counting them, and an agent that
    /// starts later bills what it sees from then on.
    #[must_use]
    pub fn finish(self) -> (FlowTableStats, Losses) {
        (self.stats(), self.losses())
    }

    fn observe(&mut self, o: &Observation, forget_at: u64, records: &mut Vec<Record>) {
        let hash = self.flows.hash(o);
        match self.find(hash, o) {
            (Relation::Same | Relation::Possible, position) => {
                self.observe_known(position, o, forget_at, records);
            }
            (Relation::Redundant, position) => self.note_redundant(position, o),
            (Relation::Successor, position) => {
                self.end(position, Some(EndReason::Missed), forget_at, Totals::default(), records);
                self.observe_unknown(hash, o, forget_at, records);
            }
            (Relation::Other, _) => self.observe_unknown(hash, o, forget_at, records),
        }
    }

    /// The flow that is spoken of and how sure that is; a living one before an ended one.
    fn find(&self, hash: u64, o: &Observation) -> (Relation, u32) {
        self.flows
            .same_tuple(hash, o)
            .map(|(position, flow)| (relation(flow, o), preference(flow), position))
            .max_by_key(|&(relation, preference, _)| (relation, preference))
            .map_or((Relation::Other, 0), |(relation, _, position)| (relation, position))
    }

    fn observe_known(&mut self, position: u32, o: &Observation, forget_at: u64, records: &mut Vec<Record>) {
        let born_while_counting = self.is_born_while_counting(o);
        let Some(flow) = self.flows.get_mut(position) else { return };
        if flow.facts.has(Facts::ENDED) {
            return self.note_redundant(position, o);
        }
        if o.kind == ObservationKind::Gone {
            if o.boot_ns >= flow.last_seen_ns {
                flow.last_seen_ns = o.boot_ns;
                let reason = o.end_reason.or(Some(EndReason::Missed));
                self.end(position, reason, forget_at, Totals::default(), records);
            }
            return;
        }
        let change = flow.merge(o, born_while_counting);
        self.counts.regressed += u64::from(change.regressed);
        if o.kind == ObservationKind::End {
            self.end(position, o.end_reason.or(Some(EndReason::Unknown)), forget_at, change.delta, records);
        } else if change.is_worth_a_record() {
            let record = flow.record(RecordKind::Update, change.delta, None, &self.clock);
            self.hand_out(position, record, records);
        }
    }

    /// Nothing more is said of an ended flow; but if it was found gone, its true end may tell of more traffic.
    fn note_redundant(&mut self, position: u32, o: &Observation) {
        let Some(flow) = self.flows.get_mut(position) else { return };
        if !flow.facts.has(Facts::ENDED) {
            flow.last_seen_ns = flow.last_seen_ns.max(o.boot_ns);
        } else if o.kind == ObservationKind::End && flow.facts.has(Facts::MISSED) {
            self.counts.end_after_missed += u64::from(flow.is_behind(&o.totals));
        }
    }

    fn observe_unknown(&mut self, hash: u64, o: &Observation, forget_at: u64, records: &mut Vec<Record>) {
        let is_end = o.kind == ObservationKind::End;
        if o.kind == ObservationKind::Gone {
            return;
        }
        if !is_end && self.len() >= self.options.max_flows {
            self.counts.table_full += 1;
            return;
        }
        let mut flow = FlowState::first_seen(o, hash, self.flow_id(o), &self.clock);
        let change = flow.merge(o, self.is_born_while_counting(o) || self.is_started_while_counting(o));
        let position = self.flows.insert(flow);
        self.stats.flows += 1;
        if is_end {
            self.end(position, o.end_reason.or(Some(EndReason::Unknown)), forget_at, change.delta, records);
        } else {
            self.hand_out(position, flow.record(RecordKind::New, change.delta, None, &self.clock), records);
        }
    }

    /// Hands out the end of a flow and remembers the flow for a while.
    fn end(
        &mut self,
        position: u32,
        reason: Option<EndReason>,
        forget_at: u64,
        delta: Totals,
        records: &mut Vec<Record>,
    ) {
        let Some(flow) = self.flows.get_mut(position) else { return };
        flow.facts.set(Facts::ENDED, true);
        flow.facts.set(Facts::MISSED, reason == Some(EndReason::Missed));
        let record = flow.record(RecordKind::End, delta, reason, &self.clock);
        self.ended.push_back(Ended { position, forget_at });
        self.stats.ends += 1;
        self.hand_out(position, record, records);
    }

    fn hand_out(&mut self, position: u32, record: Record, records: &mut Vec<Record>) {
        if let (Some(journal), Some(flow)) = (&mut self.journal, self.flows.get(position)) {
            journal.push(flow.saved());
        }
        self.stats.records += 1;
        self.stats.bytes += record.delta.original.bytes + record.delta.reply.bytes;
        records.push(record);
    }

    fn forget_ended(&mut self) {
        while let Some(&oldest) = self.ended.front() {
            let is_early = oldest.forget_at > self.settled_batches;
            if is_early && self.ended.len() <= self.options.max_ended {
                break;
            }
            self.counts.ended_forgotten += u64::from(is_early);
            self.flows.remove(oldest.position);
            self.ended.pop_front();
        }
    }

    /// Whether the observation proves that the flow's birth was seen, or could have been.
    fn is_born_while_counting(&self, o: &Observation) -> bool {
        let since = self.options.accounting_since.boot_ns;
        o.kind == ObservationKind::New || (o.born_ns != 0 && o.born_ns >= since && !o.midlife)
    }

    /// Whether the start stamp proves it. To be asked at the first sight only: after a backward step of the clock
    /// the stamp of an old flow lies in the future at first, and later between then and now.
    fn is_started_while_counting(&self, o: &Observation) -> bool {
        let start = (o.start_ns != 0).then(|| self.clock.to_boot(o.start_ns, o.boot_ns)).flatten();
        start.is_some_and(|start| start >= self.options.accounting_since.boot_ns)
    }

    fn flow_id(&self, o: &Observation) -> FlowId {
        let first_sight = if o.born_ns == 0 { o.boot_ns } else { o.born_ns };
        let start = if o.start_ns == 0 { first_sight } else { o.start_ns };
        flow_id(&self.options.boot_id, o.netns, o.zone, &o.original, start)
    }
}
