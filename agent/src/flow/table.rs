//! The flow table: each flow's life from its first sight to its single end.
//!
//! What it promises:
//! - The deltas of a flow's records add up to its final totals, less what it had moved before a first sight
//!   midlife, in whatever order the observations of two settled batches come.
//! - A flow has one first record and one end; after the end nothing follows. A flow whose end is its first sight
//!   has a single record, its end, with all it moved as delta. Only a flow that was found gone can have a second
//!   end, when its true one is told after all and it had moved more.
//! - Totals that go back give no delta. They are counted (`totals_regressed`); somebody reset the counters.
//! - Memory is bounded. Past `max_flows` living flows an unknown one is not taken in: each sight of it is counted
//!   (`flow_table_full`), and its end is delivered whole, so that only resolution in time is lost.

use std::collections::VecDeque;

use super::books::{Books, Share};
use super::clock::WallClock;
use super::due::due_ns;
use super::forgetting::{Ended, MISSED_NS};
use super::identity::flow_id;
use super::matching::{Relation, may_be_met_anew, preference, relation};
use super::options::{FlowTableOptions, Wanted};
use super::saved::SavedFlow;
use super::slab::{Ahead, Slab};
use super::state::{Facts, FlowState};
use super::strangers::Strangers;
use super::wheel::Wheel;
use crate::model::{
    Anchor, EndReason, FlowId, Observation, ObservationKind, Record, RecordKind, Sum, Totals,
};
use crate::source::{Batch, Losses};

/// Settled batches after which nothing late can come from an ended flow: one would do by the source's promise.
pub(crate) const LATE_BATCHES: u64 = 2;

/// Observations whose flows are fetched from memory together.
const TOGETHER: usize = 32;

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
pub(super) struct Counts {
    table_full: u64,
    regressed: u64,
    pub(super) ended_forgotten: u64,
    end_after_missed: u64,
    end_of_forgotten: u64,
}

/// How a flow ends.
#[derive(Clone, Copy, Debug)]
pub(super) struct Ending {
    reason: EndReason,
    /// What its last record brings.
    delta: Totals,
    /// The final totals, if they were told.
    told: Option<Totals>,
}

impl Ending {
    /// Found gone.
    pub(super) const MISSED: Self = Self::gone(EndReason::Missed);

    const fn gone(reason: EndReason) -> Self {
        let nothing = crate::model::Counter { packets: 0, bytes: 0 };
        Self { reason, delta: Totals { original: nothing, reply: nothing }, told: None }
    }

    fn told(o: &Observation, delta: Totals) -> Self {
        let totals = if o.has_counters { o.totals } else { Totals::default() };
        Self { reason: o.end_reason.unwrap_or(EndReason::Unknown), delta, told: Some(totals) }
    }
}

/// Turns observations into records.
#[derive(Debug)]
pub struct FlowTable {
    pub(super) options: FlowTableOptions,
    clock: WallClock,
    pub(super) flows: Slab,
    pub(super) wheel: Wheel,
    /// Flows whose end was told, oldest first.
    pub(super) ended: VecDeque<Ended>,
    /// Flows that were found gone, oldest first.
    pub(super) missed: VecDeque<Ended>,
    /// How many of both were forgotten before their turn.
    pub(super) forgotten_early: usize,
    pub(super) strangers: Strangers,
    /// Every flow of the kernel's table was met: whoever is met later began later.
    pub(super) walked: bool,
    pub(super) settled_batches: u64,
    /// What ends now may be forgotten when this many batches are settled.
    forget_at: u64,
    /// The latest moment that anything spoke of.
    pub(super) newest_ns: u64,
    pub(super) books: Books,
    stats: FlowTableStats,
    pub(super) counts: Counts,
    /// Each flow as it was at each record of the latest batch, if somebody wants to know.
    journal: Option<Vec<SavedFlow>>,
}

impl FlowTable {
    /// An empty table.
    #[must_use]
    pub fn new(options: FlowTableOptions) -> Self {
        Self {
            clock: WallClock::anchor(options.accounting_since),
            flows: Slab::default(),
            wheel: Wheel::new(options.accounting_since.boot_ns),
            ended: VecDeque::new(),
            missed: VecDeque::new(),
            forgotten_early: 0,
            strangers: Strangers::default(),
            walked: false,
            settled_batches: 0,
            forget_at: LATE_BATCHES,
            newest_ns: 0,
            books: Books::default(),
            stats: FlowTableStats::default(),
            counts: Counts::default(),
            journal: None,
            options,
        }
    }

    /// Compares the clocks; to be called before each batch. Returns a step of the wall clock in nanoseconds.
    pub fn re_anchor(&mut self, now: Anchor) -> Option<i64> {
        self.clock.re_anchor(now)
    }

    /// Takes in a batch and appends the records that follow from it.
    pub fn apply(&mut self, batch: &Batch, records: &mut Vec<Record>) {
        self.journal.iter_mut().for_each(Vec::clear);
        self.forget_at = self.settled_batches + u64::from(batch.settled) + LATE_BATCHES;
        for together in batch.observations.chunks(TOGETHER) {
            for (o, (hash, position)) in together.iter().zip(self.approach(together)) {
                if !self.observe_usual(position, o, records) {
                    self.observe(o, hash, records);
                }
            }
        }
        if let Some(look) = &batch.look {
            self.newest_ns = self.newest_ns.max(look.began_boot_ns);
            self.apply_look(look, records);
        }
        if batch.settled {
            self.settled_batches += 1;
        }
        self.forget_ended();
        self.forget_missed();
    }

    /// Takes in a flow that an agent before this one knew and billed up to its totals, living or missed. To be called
    /// before the first batch; whatever the flow has moved since is in its next record.
    pub(super) fn adopt(&mut self, mut flow: FlowState) -> u32 {
        if flow.facts.has(Facts::NO_COUNTERS) && flow.facts.has(Facts::MIDLIFE) {
            // Its next sight replaces both.
            flow.baseline = flow.totals;
        }
        self.newest_ns = self.newest_ns.max(flow.last_seen_ns);
        if flow.facts.has(Facts::ENDED) {
            // That agent's audit told of it. It is in no book of this one unless its true end comes.
            flow.facts.set(Facts::TOLD_BEFORE, true);
            let position = self.flows.insert_unhashed(flow);
            let forget_at = self.newest_ns.saturating_add(MISSED_NS);
            self.missed.push_back(Ended::of(position, &flow, forget_at));
            return position;
        }
        let position = self.flows.insert_unhashed(flow);
        let Some(entry) = self.flows.entry(position) else { return position };
        let held = flow.held().map_or(Sum::default(), |held| Sum::moved(&held));
        self.books.baseline += Sum::of_flow(&flow.totals) - held;
        self.books.change_living(Share::default(), Share::of(entry));
        self.wheel.note_seen(position, flow.last_seen_ns);
        position
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

    /// The flows at these places, which an agent that starts later has to know: those that live, and those that have
    /// ended and are remembered.
    pub fn save(&self, places: std::ops::Range<u32>) -> impl Iterator<Item = SavedFlow> + '_ {
        let flows = places.filter_map(|place| self.flows.get(place));
        flows.filter(|flow| !is_forgotten(flow)).map(FlowState::saved)
    }

    /// A record of each living flow that brings nothing.
    pub fn living(&self) -> impl Iterator<Item = Record> + '_ {
        let flows = self.flows.positions().filter_map(|position| self.flows.get(position));
        let living = flows.filter(|flow| !flow.facts.has(Facts::ENDED));
        living.map(|flow| flow.record(RecordKind::Update, Totals::default(), None, &self.clock))
    }

    /// Takes in a flow of an agent that ran before, in this boot. To be called before the first batch. Whatever the
    /// flow moved meanwhile is in its next record.
    pub fn restore(&mut self, saved: &SavedFlow) {
        if saved.ended {
            return self.restore_ended(saved);
        }
        let is_full = if saved.missed {
            self.missed.len() >= self.options.max_ended
        } else {
            self.len() >= self.options.max_flows
        };
        if is_full {
            self.counts.table_full += 1;
            self.strangers.forget(0);
            return;
        }
        self.adopt(FlowState::restored(saved));
    }

    /// Takes in a flow of which an agent that ran before, in this boot, told the end just before it stopped. To be
    /// called before the first batch. What that agent had read but not given back comes again, and must not count
    /// twice.
    pub fn restore_ended(&mut self, saved: &SavedFlow) {
        let mut flow = FlowState::restored(&SavedFlow { ended: true, missed: false, ..*saved });
        flow.facts.set(Facts::TOLD_BEFORE, true);
        let position = self.flows.insert_unhashed(flow);
        self.ended.push_back(Ended::of(position, &flow, self.settled_batches + LATE_BATCHES));
        self.forget_ended();
    }

    /// Ends every flow as missed, with the totals known: their boot is over.
    pub fn abandon(&mut self, records: &mut Vec<Record>) {
        for position in self.flows.positions() {
            if self.flows.get(position).is_some_and(|flow| !flow.facts.has(Facts::ENDED)) {
                self.end(position, Ending::MISSED, records);
            }
        }
    }

    /// How many flows live.
    #[must_use]
    pub fn len(&self) -> usize {
        self.flows.len() + self.forgotten_early - self.ended.len() - self.missed.len()
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

    /// The running sums that the audit needs.
    #[must_use]
    pub const fn books(&self) -> Books {
        self.books
    }

    /// Settled batches taken in.
    #[must_use]
    pub const fn settled_batches(&self) -> u64 {
        self.settled_batches
    }

    /// Bytes allocated for flows, their index, their due times and what is remembered of ended ones.
    #[must_use]
    pub fn memory(&self) -> usize {
        let remembered = (self.ended.capacity() + self.missed.capacity()) * size_of::<Ended>();
        self.flows.memory() + self.wheel.memory() + remembered
    }

    /// How often something was lost or not as it should be, by reason.
    #[must_use]
    pub fn losses(&self) -> Losses {
        vec![
            ("flow_table_full", self.counts.table_full),
            ("totals_regressed", self.counts.regressed),
            ("ended_flows_forgotten_early", self.counts.ended_forgotten),
            ("end_after_missed", self.counts.end_after_missed),
            ("end_of_forgotten_flow", self.counts.end_of_forgotten),
        ]
    }

    /// Ends the table. Flows that still live get no record: the kernel goes on counting them, and an agent that
    /// starts later bills what it sees from then on.
    #[must_use]
    pub fn finish(self) -> (FlowTableStats, Losses) {
        (self.stats(), self.losses())
    }

    /// Hashes observations and tells where their flows most likely lie. Brings what is kept of them into the
    /// processor's cache all at once: one after the other, among a million flows, most of the time would be spent
    /// waiting for memory.
    fn approach(&self, observations: &[Observation]) -> [(u64, u32); TOGETHER] {
        let mut places = [(0, u32::MAX); TOGETHER];
        for ((hash, _), o) in places.iter_mut().zip(observations) {
            *hash = self.flows.hash(o);
        }
        for ((hash, position), _) in places.iter_mut().zip(observations) {
            *position = self.flows.likely(*hash).unwrap_or(u32::MAX);
        }
        for ((_, position), _) in places.iter().zip(observations) {
            std::hint::black_box((self.flows.touch(*position), self.wheel.is_scheduled(*position)));
        }
        places
    }

    /// Takes in any observation.
    pub(super) fn observe(&mut self, o: &Observation, hash: u64, records: &mut Vec<Record>) {
        self.newest_ns = self.newest_ns.max(o.boot_ns);
        match self.find(hash, o) {
            (Relation::Same | Relation::MetAnew, position)
                if is_life_sign(o) && self.awaits_record(position) =>
            {
                self.note_alive(position, o);
            }
            (Relation::Same | Relation::MetAnew | Relation::Possible, position) => {
                self.observe_known(position, o, records)
            }
            (Relation::Redundant, position) => self.note_redundant(position, o, records),
            (Relation::Successor, position) => {
                self.end(position, Ending::MISSED, records);
                self.observe_unknown(hash, o, records);
            }
            (Relation::Other, _) => self.observe_unknown(hash, o, records),
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

    /// Whether a flow lives, has counters, and will tell them by its next record.
    fn awaits_record(&self, position: u32) -> bool {
        let no = [Facts::NO_COUNTERS, Facts::ENDED, Facts::HELD];
        self.flows.get(position).is_some_and(|flow| !no.into_iter().any(|fact| flow.facts.has(fact)))
    }

    fn observe_known(&mut self, position: u32, o: &Observation, records: &mut Vec<Record>) {
        let born_while_counting = self.is_born_while_counting(o);
        let Some(entry) = self.flows.entry_mut(position) else { return };
        if entry.flow.facts.has(Facts::ENDED) {
            return self.note_redundant(position, o, records);
        }
        if o.kind == ObservationKind::Gone {
            if o.boot_ns >= entry.flow.last_seen_ns {
                entry.flow.last_seen_ns = o.boot_ns;
                self.end(position, Ending::gone(o.end_reason.unwrap_or(EndReason::Missed)), records);
            }
            return;
        }
        let (before, baseline) = (Share::of(entry), entry.flow.baseline);
        let is_end = o.kind == ObservationKind::End;
        let is_held_life_sign = is_life_sign(o) && entry.flow.facts.has(Facts::HELD);
        let is_wanted = is_end || (self.options.wanted.update && !is_held_life_sign);
        let mut change = entry.flow.merge(o, born_while_counting);
        if is_wanted {
            change.delta = entry.flow.release().unwrap_or(change.delta);
        }
        entry.ahead = Ahead::of(before.live.beyond(Sum::moved(&entry.flow.totals)));
        entry.flow.facts.set(Facts::ABSENT, false);
        self.books.change_living(before, Share::of(entry));
        self.books.change_baseline(&baseline, &entry.flow.baseline);
        self.counts.regressed += u64::from(change.regressed);
        if is_end {
            return self.end(position, Ending::told(o, change.delta), records);
        }
        let due_ns = due_ns(&self.options, &entry.flow, o.kind);
        self.wheel.note(position, o.boot_ns, due_ns);
        if is_wanted && change.is_worth_a_record() {
            self.tell(position, RecordKind::Update, change.delta, None, records);
        }
    }

    /// A walk met a flow that is known. Its counters are told by the flow's next record; until then they are ahead.
    fn note_alive(&mut self, position: u32, o: &Observation) {
        let Some(entry) = self.flows.entry_mut(position) else { return };
        let before = Share::of(entry);
        entry.flow.identify(o);
        entry.flow.facts.set(Facts::ABSENT, false);
        let ahead = before.live + Sum::moved(&o.totals).beyond(before.live);
        entry.ahead = Ahead::of(ahead - Sum::moved(&entry.flow.totals));
        let is_behind = entry.ahead != Ahead::default() || entry.flow.is_described_otherwise(o);
        self.books.change_living(before, Share::of(entry));
        self.wheel.note_seen(position, o.boot_ns);
        self.schedule_if_forgotten(position, is_behind, o.boot_ns);
    }

    /// Nothing more is said of an ended flow; but if it was found gone, its true end may tell of more traffic.
    fn note_redundant(&mut self, position: u32, o: &Observation, records: &mut Vec<Record>) {
        let Some(entry) = self.flows.entry_mut(position) else { return };
        let facts = &mut entry.flow.facts;
        if !facts.has(Facts::ENDED) {
            facts.set(Facts::ABSENT, false);
            entry.flow.last_seen_ns = entry.flow.last_seen_ns.max(o.boot_ns);
            self.wheel.note_seen(position, o.boot_ns);
        } else if o.kind == ObservationKind::End && facts.has(Facts::MISSED) {
            self.end_after_all(position, o, records);
        } else if o.kind == ObservationKind::End && facts.has(Facts::TOLD_BEFORE) {
            facts.set(Facts::TOLD_BEFORE, false);
            self.books.end_again(entry);
        }
    }

    /// The true end of a flow that had been found gone: what it moved beyond what was delivered is billed by it.
    fn end_after_all(&mut self, position: u32, o: &Observation, records: &mut Vec<Record>) {
        let born_while_counting = self.is_born_while_counting(o);
        let Some(entry) = self.flows.entry_mut(position) else { return };
        if entry.flow.facts.has(Facts::TOLD_BEFORE) {
            self.books.follow_on(entry);
        } else {
            self.books.unmiss(entry);
        }
        let baseline = entry.flow.baseline;
        let change = entry.flow.merge(o, born_while_counting);
        entry.flow.facts.set(Facts::MISSED, false);
        entry.flow.facts.set(Facts::TOLD_BEFORE, false);
        let ending = Ending::told(o, change.delta);
        self.books.change_baseline(&baseline, &entry.flow.baseline);
        self.books.end(entry, &ending.told.unwrap_or_default());
        self.counts.regressed += u64::from(change.regressed);
        if change.delta != Totals::default() {
            self.counts.end_after_missed += 1;
            self.tell(position, RecordKind::End, change.delta, Some(ending.reason), records);
        }
    }

    fn observe_unknown(&mut self, hash: u64, o: &Observation, records: &mut Vec<Record>) {
        let is_end = o.kind == ObservationKind::End;
        if o.kind == ObservationKind::Gone {
            return;
        }
        if !is_end && self.len() >= self.options.max_flows {
            self.counts.table_full += 1;
            return self.strangers.refuse(o);
        }
        let may_be_billed = !self.strangers.may_be_forgotten(o);
        self.counts.end_of_forgotten += u64::from(!may_be_billed);
        let is_ours =
            self.is_born_while_counting(o) || self.is_started_while_counting(o) || self.is_newcomer(hash, o);
        let mut flow = FlowState::first_seen(o, self.new_id(hash, o), &self.clock);
        let mut change = flow.merge(o, is_ours && may_be_billed);
        if !is_end && self.options.wanted != Wanted::ALL {
            flow.facts.set(Facts::HELD, true);
            change.delta = Totals::default();
        }
        self.forget_of_same_tuple(hash, o);
        let position = self.flows.insert(hash, flow);
        if let Some(entry) = self.flows.entry(position) {
            self.books.change_living(Share::default(), Share::of(entry));
        }
        self.books.change_baseline(&Totals::default(), &flow.baseline);
        self.books.delivered.flows += 1;
        self.stats.flows += 1;
        if is_end {
            self.end(position, Ending::told(o, change.delta), records);
        } else {
            if self.options.wanted.new {
                self.tell(position, RecordKind::New, change.delta, None, records);
            }
            self.wheel.note(position, o.boot_ns, due_ns(&self.options, &flow, o.kind));
        }
    }

    /// Hands out the end of a living flow and remembers the flow for a while.
    pub(super) fn end(&mut self, position: u32, ending: Ending, records: &mut Vec<Record>) {
        let Some(entry) = self.flows.entry_mut(position) else { return };
        entry.flow.facts.set(Facts::ENDED, true);
        entry.flow.facts.set(Facts::ABSENT, false);
        entry.flow.facts.set(Facts::MISSED, ending.told.is_none());
        self.books.change_living(Share::of(entry), Share::default());
        let delta = entry.flow.release().unwrap_or(ending.delta);
        match ending.told {
            Some(totals) => {
                self.books.end(entry, &totals);
                self.ended.push_back(Ended::of(position, &entry.flow, self.forget_at));
            }
            None => {
                self.books.miss(entry);
                let forget_at = self.newest_ns.saturating_add(MISSED_NS);
                self.missed.push_back(Ended::of(position, &entry.flow, forget_at));
            }
        }
        self.wheel.vacate(position);
        self.stats.ends += 1;
        self.tell(position, RecordKind::End, delta, Some(ending.reason), records);
    }

    /// Hands out a record of the flow as it is now.
    pub(super) fn tell(
        &mut self,
        position: u32,
        kind: RecordKind,
        delta: Totals,
        end_reason: Option<EndReason>,
        records: &mut Vec<Record>,
    ) {
        let Some(flow) = self.flows.get(position) else { return };
        records.push(flow.record(kind, delta, end_reason, &self.clock));
        if let Some(journal) = &mut self.journal {
            journal.push(flow.saved());
        }
        self.stats.records += 1;
        let moved = delta.original.bytes.saturating_add(delta.reply.bytes);
        self.stats.bytes = self.stats.bytes.saturating_add(moved);
        self.books.delivered += Sum::moved(&delta);
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

    /// Whether it must have begun after the kernel's table was walked, as it was not met then; its birth went unseen,
    /// and no stamp tells of it. A dump may show what a flow was a while ago.
    fn is_newcomer(&self, hash: u64, o: &Observation) -> bool {
        let is_dumped = o.kind == ObservationKind::Existing && o.conntrack == 0;
        let may_be_known =
            || o.midlife && self.flows.same_tuple(hash, o).any(|(_, flow)| may_be_met_anew(flow, o));
        self.walked && o.start_ns == 0 && !is_dumped && self.strangers.is_empty() && !may_be_known()
    }

    /// The identity of a flow that nobody knows. A weak one may be that of a flow for which another was taken.
    fn new_id(&self, hash: u64, o: &Observation) -> FlowId {
        let of = |start| flow_id(&self.options.boot_id, o.netns, o.zone, &o.original, start);
        if o.start_ns != 0 {
            return of(o.start_ns);
        }
        let id = of(if o.born_ns == 0 { o.boot_ns } else { o.born_ns });
        let is_taken = self.flows.same_tuple(hash, o).any(|(_, flow)| { flow.flow_id } == id);
        if is_taken { of(o.boot_ns) } else { id }
    }
}

/// Whether it lies at a place that is free by now.
fn is_forgotten(flow: &FlowState) -> bool {
    flow.facts.has(Facts::ENDED) && flow.flow_id.0 == 0
}

/// Whether a walk of the kernel's table met the flow: proof that it lives, but not a record.
fn is_life_sign(o: &Observation) -> bool {
    o.kind == ObservationKind::Existing && o.conntrack != 0 && o.has_counters
}
