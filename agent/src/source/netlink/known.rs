//! The flows of one namespace that were seen alive: what is due, what is new, what is gone.
//!
//! Pure: it sees messages and moments, no socket. Invariants: a flow is reported before its end is, unless its end
//! is the first thing that carries its counters; what moved until a flow's last sight is reported before it is found
//! gone; a flow is found gone only after two complete dumps without it,
//! with the events read until empty before each judgement.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

use hashbrown::{HashMap, HashSet};

use super::{
    clock::Moment,
    flow::{Flow, Key, packets},
    recent::RecentEnds,
};
use crate::{
    kernel::netlink::conntrack::ConntrackMessage,
    model::{EndReason, Observation, ObservationKind, RateCurve, Status},
};

/// For so long after its start, in nanoseconds, the source tells the birth of a flow even if its end has the start:
/// the reader sets up meanwhile, and takes what began before that for old.
const OPENING: u64 = 10_000_000_000;

/// The event of a birth may come so many nanoseconds after a dump that shows the flow. One that comes later repeats
/// what another listener did not take.
const BIRTH_LAG: u64 = 1_000_000_000;

/// Dumps of tables with no more entries than this take so few milliseconds that there may be some without need.
pub(super) const CHEAP: u32 = 4_000;

/// What all namespaces share.
#[derive(Clone, Debug)]
pub(super) struct Rules {
    pub(super) curve: RateCurve,
    /// So much before its due time, in nanoseconds, a flow may be reported: half of the time between two dumps, so
    /// that the one dump that is nearest to the due time reports it.
    pub(super) early_ns: u64,
    /// When the source started, `CLOCK_REALTIME`: flows with a later start are new.
    pub(super) since_real_ns: u64,
    /// Flows to keep in mind at most, all namespaces together.
    pub(super) max_flows: usize,
    /// Flows kept in mind.
    pub(super) tracked: Arc<AtomicUsize>,
}

/// The known flows of one namespace.
#[derive(Debug)]
pub(super) struct Known {
    netns: u32,
    rules: Rules,
    flows: HashMap<Key, Flow>,
    /// Complete dumps so far.
    round: u32,
    /// When the first of the flows is due.
    earliest_due_ns: u64,
    /// Flows that ended since the dump under way began. The kernel prepares each part of a dump before it is asked
    /// for it, so that a part may show a flow alive whose end was read already.
    ended_in_dump: HashSet<Key>,
    dumping: bool,
    /// A dump was complete: what was not in it is younger.
    has_baseline: bool,
    /// A flow was not kept in mind, so that an unknown one may be old.
    overfull: bool,
    /// Flows were born since the latest dump.
    births: bool,
    /// Every flow that moved is due.
    hurried: bool,
    /// The dump under way reports each flow, moved or not.
    reciting: bool,
    /// Flows older than the listener: of their ends the kernel may tell nothing (`nf_conntrack_events` = 2, the
    /// default), so that what was not dumped of them is lost.
    old: usize,
    recent_ends: RecentEnds,
}

impl Known {
    pub(super) fn new(netns: u32, rules: Rules) -> Self {
        Self {
            netns,
            rules,
            flows: HashMap::new(),
            round: 0,
            earliest_due_ns: u64::MAX,
            ended_in_dump: HashSet::new(),
            dumping: false,
            has_baseline: false,
            overfull: false,
            births: false,
            hurried: false,
            reciting: false,
            old: 0,
            recent_ends: RecentEnds::default(),
        }
    }

    /// A dump is about to be asked for; `reciting`: it is to report each flow, moved or not.
    pub(super) fn begin_dump(&mut self, reciting: bool) {
        self.reciting = reciting;
        self.ended_in_dump.clear();
        self.dumping = true;
        self.births = false;
    }

    /// The dump has ended, whether complete or not.
    pub(super) fn end_dump(&mut self) {
        self.ended_in_dump = HashSet::new();
        self.dumping = false;
        self.reciting = false;
    }

    /// Whether every flow that was there at first has been reported.
    pub(super) const fn has_baseline(&self) -> bool {
        self.has_baseline
    }

    /// Whether a flow was not kept in mind, so that not each of them can be reported.
    pub(super) const fn is_overfull(&self) -> bool {
        self.overfull
    }

    /// Whether flows were born that no dump has shown yet.
    pub(super) const fn has_births(&self) -> bool {
        self.births
    }

    /// From now on dumps report each flow that moved, due or not.
    pub(super) const fn hurry(&mut self) {
        self.hurried = true;
    }

    /// Whether a dump could tell anything, when the namespace has so many entries.
    pub(super) fn wants_dump(&self, entries: u32, now: Moment) -> bool {
        usize::try_from(entries).ok() != Some(self.flows.len())
            || self.earliest_due_ns <= now.boot_ns.saturating_add(self.rules.early_ns)
            || (self.old > 0 && entries <= CHEAP)
    }

    /// The event of a flow's birth. It carries neither counters nor start: the next dump or its end reports it.
    pub(super) fn born(&mut self, flow: &ConntrackMessage, now: Moment, out: &mut Vec<Observation>) {
        let (key, seen, netns) = (Key::of(flow), self.round + 1, self.netns);
        if let Some(known) = self.flows.get_mut(&key) {
            // A dump may have been quicker than the event.
            if known.start_ns == 0 && !known.young && now.boot_ns < known.met_ns.saturating_add(BIRTH_LAG) {
                known.young = true;
                out.push(known.tell(ObservationKind::New, netns, &key));
            }
        } else if self.has_room() {
            self.keep(key, Flow::born(flow, now, seen));
            self.earliest_due_ns = 0;
            self.births = true;
        } else {
            self.overfull = true;
        }
    }

    /// The event of a flow's end.
    pub(super) fn ended(&mut self, flow: &ConntrackMessage, now: Moment, out: &mut Vec<Observation>) {
        let key = Key::of(flow);
        let told = self.recent_ends.remember((key, flow.start_ns, packets(flow.counters)), now.boot_ns);
        // Without a start the same again may be the end of the next flow, if one is known to live.
        if told && (flow.start_ns != 0 || !self.flows.contains_key(&key)) {
            return;
        }
        if self.dumping {
            self.ended_in_dump.insert(key);
        }
        let known = self.take(&key, flow, now, out);
        let young = known.map_or_else(|| self.is_young(flow), |known| known.young);
        let reported = known.is_some_and(|known| known.reported);
        if !reported && young && flow.start_ns < self.rules.since_real_ns.saturating_add(OPENING) {
            out.push(flow.observation(ObservationKind::New, self.netns, now.boot_ns));
        }
        let mut end = flow.observation(ObservationKind::End, self.netns, now.boot_ns);
        end.midlife = !reported && !young && flow.start_ns == 0;
        // The kernel's event of an end has no labels: `ctnetlink_conntrack_event` writes them for living flows only.
        if let Some(known) = known.filter(|_| end.labels == [0; 16]) {
            end.labels = known.labels();
        }
        out.push(end);
    }

    /// Forgets the flow that has ended. Another one that is known in its place was there before it, and is gone, or
    /// came after it, and stays.
    fn take(
        &mut self,
        key: &Key,
        flow: &ConntrackMessage,
        now: Moment,
        out: &mut Vec<Observation>,
    ) -> Option<Flow> {
        let mut known = *self.flows.get(key)?;
        let is_other = known.start_ns != 0 && flow.start_ns != 0 && known.start_ns != flow.start_ns;
        if is_other && flow.start_ns < known.start_ns {
            return None;
        }
        self.forget(key);
        if is_other {
            known.depart(self.netns, key, now, out);
        }
        (!is_other).then_some(known)
    }

    /// A flow in a dump. False when there is no room to keep it in mind.
    pub(super) fn dumped(
        &mut self,
        flow: &ConntrackMessage,
        now: Moment,
        out: &mut Vec<Observation>,
    ) -> bool {
        let (key, netns) = (Key::of(flow), self.netns);
        let has_ended = self.ended_in_dump.contains(&key);
        // The event of an end is written after the entry is marked and before it leaves the table.
        let is_dying = flow.status.has(Status::DYING);
        let Some(known) = self.flows.get_mut(&key) else {
            return has_ended || is_dying || self.meet(key, flow, now, out);
        };
        known.seen = self.round + 1;
        if has_ended {
            return true;
        }
        if known.is_another(flow) {
            known.depart(netns, &key, now, out);
            self.forget(&key);
            return is_dying || self.meet(key, flow, now, out);
        }
        known.see(flow, now);
        let is_due = self.hurried || known.due_ns <= now.boot_ns.saturating_add(self.rules.early_ns);
        if !is_dying && (!known.reported || (is_due && known.has_moved())) {
            let kind = if known.reported { ObservationKind::Update } else { ObservationKind::New };
            known.due_ns = now.boot_ns + self.rules.curve.every(known.age_ns(now));
            out.push(known.tell(kind, netns, &key));
        } else if self.reciting && !is_dying {
            out.push(known.tell(ObservationKind::Existing, netns, &key));
        }
        true
    }

    /// The first sight of a flow, in a dump.
    fn meet(&mut self, key: Key, flow: &ConntrackMessage, now: Moment, out: &mut Vec<Observation>) -> bool {
        if !self.has_room() {
            self.overfull = true;
            return false;
        }
        let young = self.is_young(flow);
        let kind = if young { ObservationKind::New } else { ObservationKind::Existing };
        let mut met = Flow::met(flow, now, self.round + 1, young);
        met.due_ns = now.boot_ns + self.rules.curve.every(met.age_ns(now));
        out.push(met.tell(kind, self.netns, &key));
        self.keep(key, met);
        true
    }

    /// Whether an unknown flow is younger than the source.
    const fn is_young(&self, flow: &ConntrackMessage) -> bool {
        let started_later = flow.start_ns != 0 && flow.start_ns >= self.rules.since_real_ns;
        started_later || (self.has_baseline && !self.overfull)
    }

    /// A dump is complete: from now on an unknown flow is a younger one.
    pub(super) const fn completed(&mut self) {
        self.has_baseline = true;
    }

    /// A dump is complete and the events were read until empty: what neither this one nor the previous one
    /// contained is gone.
    pub(super) fn judge(&mut self, now: Moment, out: &mut Vec<Observation>) {
        self.round += 1;
        let (round, netns) = (self.round, self.netns);
        let (mut earliest, mut old) = (u64::MAX, 0);
        let before = self.flows.len();
        self.flows.retain(|key, flow| {
            let alive = flow.seen + 1 >= round;
            if alive {
                earliest = earliest.min(flow.due_ns);
                old += usize::from(!flow.young);
            } else {
                flow.depart(netns, key, now, out);
            }
            alive
        });
        (self.earliest_due_ns, self.old) = (earliest, old);
        self.rules.tracked.fetch_sub(before - self.flows.len(), Ordering::Relaxed);
    }

    /// A flow in the last dump of a namespace that everyone has left: its totals are final.
    pub(super) fn dissolved(&mut self, flow: &ConntrackMessage, now: Moment, out: &mut Vec<Observation>) {
        if flow.status.has(Status::DYING) {
            return;
        }
        let first = out.len();
        self.ended(flow, now, out);
        for end in out.iter_mut().skip(first).filter(|o| o.kind == ObservationKind::End) {
            end.end_reason = Some(EndReason::Deleted);
        }
    }

    /// The namespace is gone, and with it every flow.
    pub(super) fn abandon(&mut self, now: Moment, out: &mut Vec<Observation>) {
        self.rules.tracked.fetch_sub(self.flows.len(), Ordering::Relaxed);
        let netns = self.netns;
        for (key, mut flow) in self.flows.drain() {
            flow.depart(netns, &key, now, out);
        }
    }

    fn has_room(&self) -> bool {
        self.rules.tracked.load(Ordering::Relaxed) < self.rules.max_flows
    }

    fn keep(&mut self, key: Key, flow: Flow) {
        self.flows.insert(key, flow);
        self.rules.tracked.fetch_add(1, Ordering::Relaxed);
    }

    fn forget(&mut self, key: &Key) -> Option<Flow> {
        let flow = self.flows.remove(key)?;
        self.rules.tracked.fetch_sub(1, Ordering::Relaxed);
        Some(flow)
    }
}

#[cfg(test)]
#[path = "known_tests.rs"]
mod tests;
