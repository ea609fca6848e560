//! The flows of one namespace that were seen alive: what is due, what is new, what is gone.
//!
//! Pure: it sees messages and moments, no socket. Invariants: a flow is reported before its end is, unless its end
//! is the first thing that carries its counters; a flow is found gone only after two complete dumps without it,
//! with the events read until empty before each judgement.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

use hashbrown::{HashMap, HashSet, hash_map::Entry};

use super::{clock::Moment, curve::Curve, recent::RecentEnds};
use crate::{
    kernel::netlink::conntrack::ConntrackMessage,
    model::{EndReason, Observation, ObservationKind, Status, Totals, Tuple},
};

/// What all namespaces share.
#[derive(Clone, Debug)]
pub(super) struct Rules {
    pub(super) curve: Curve,
    /// When the source started, `CLOCK_REALTIME`: flows with a later start are new.
    pub(super) since_real_ns: u64,
    /// Flows to keep in mind at most, all namespaces together.
    pub(super) max_flows: usize,
    /// Flows kept in mind.
    pub(super) tracked: Arc<AtomicUsize>,
}

/// One entry of the kernel's table. With `id` two entries of the same tuple stay apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Key {
    original: Tuple,
    zone: u16,
    id: u32,
}

impl Key {
    const fn of(flow: &ConntrackMessage) -> Self {
        Self { original: flow.original, zone: flow.zone, id: flow.id }
    }
}

#[derive(Clone, Copy, Debug)]
struct Flow {
    reply: Tuple,
    start_ns: u64,
    /// When it began as far as known, `CLOCK_BOOTTIME`.
    began_ns: u64,
    /// When it may be reported again, `CLOCK_BOOTTIME`.
    due_ns: u64,
    /// Packets of both directions when it was last reported.
    packets: u64,
    /// The round in which it was last seen.
    seen: u32,
    /// Whether it was reported; not yet when only the event of its birth was seen, which has no counters.
    reported: bool,
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
            recent_ends: RecentEnds::default(),
        }
    }

    /// A dump is about to be asked for.
    pub(super) fn begin_dump(&mut self) {
        self.ended_in_dump.clear();
        self.dumping = true;
    }

    /// The dump has ended, whether complete or not.
    pub(super) fn end_dump(&mut self) {
        self.ended_in_dump = HashSet::new();
        self.dumping = false;
    }

    /// Whether a dump could tell anything, when the namespace has so many entries.
    pub(super) fn wants_dump(&self, entries: u32, now: Moment) -> bool {
        usize::try_from(entries).ok() != Some(self.flows.len()) || self.earliest_due_ns <= now.boot_ns
    }

    /// The event of a flow's birth. It carries neither counters nor start: the next dump or its end reports it.
    pub(super) fn born(&mut self, flow: &ConntrackMessage, now: Moment) {
        let seen = self.round + 1;
        let room = self.has_room();
        // A dump may have been quicker than the event.
        if let Entry::Vacant(place) = self.flows.entry(Key::of(flow))
            && room
        {
            place.insert(Flow {
                reply: flow.reply,
                start_ns: 0,
                began_ns: now.boot_ns,
                due_ns: 0,
                packets: 0,
                seen,
                reported: false,
            });
            self.rules.tracked.fetch_add(1, Ordering::Relaxed);
            self.earliest_due_ns = 0;
        }
    }

    /// The event of a flow's end.
    pub(super) fn ended(&mut self, flow: &ConntrackMessage, now: Moment, out: &mut Vec<Observation>) {
        let key = Key::of(flow);
        let told = self.recent_ends.remember((key, flow.start_ns, packets(flow)), now.boot_ns);
        // Without a start the same again may be the end of the next flow, if one is known to live.
        if told && (flow.start_ns != 0 || !self.flows.contains_key(&key)) {
            return;
        }
        if self.dumping {
            self.ended_in_dump.insert(key);
        }
        let known = self.forget(&key);
        let mut end = flow.observation(ObservationKind::End, self.netns, now.boot_ns);
        match known {
            // Without a start only the event of its birth says that these totals began at zero.
            Some(Flow { reported: false, .. }) if flow.start_ns == 0 => {
                out.push(flow.observation(ObservationKind::New, self.netns, now.boot_ns));
            }
            None if flow.start_ns == 0 => end.midlife = true,
            _ => {}
        }
        out.push(end);
    }

    /// A flow in a dump. False when there is no room to keep it in mind.
    pub(super) fn dumped(
        &mut self,
        flow: &ConntrackMessage,
        now: Moment,
        out: &mut Vec<Observation>,
    ) -> bool {
        let key = Key::of(flow);
        let (seen, netns) = (self.round + 1, self.netns);
        // The event of an end is written after the entry is marked and before it leaves the table.
        let has_ended = flow.status.has(Status::DYING) || self.ended_in_dump.contains(&key);
        let Some(known) = self.flows.get_mut(&key) else {
            return has_ended || self.meet(key, flow, now, out);
        };
        known.seen = seen;
        if has_ended {
            return true;
        }
        if is_another(known, flow) {
            out.push(gone(netns, &key, known, now));
            self.forget(&key);
            return self.meet(key, flow, now, out);
        }
        let packets = packets(flow);
        if !known.reported {
            known.start_ns = flow.start_ns;
        } else if known.due_ns > now.boot_ns || known.packets == packets {
            return true;
        }
        let kind = if known.reported { ObservationKind::Update } else { ObservationKind::New };
        known.reported = true;
        known.packets = packets;
        known.due_ns = now.boot_ns + self.rules.curve.every(now.boot_ns.saturating_sub(known.began_ns));
        out.push(flow.observation(kind, netns, now.boot_ns));
        true
    }

    /// The first sight of a flow, in a dump.
    fn meet(&mut self, key: Key, flow: &ConntrackMessage, now: Moment, out: &mut Vec<Observation>) -> bool {
        if !self.has_room() {
            return false;
        }
        let new = flow.start_ns != 0 && flow.start_ns >= self.rules.since_real_ns;
        let kind = if new { ObservationKind::New } else { ObservationKind::Existing };
        let age_ns = if flow.start_ns == 0 { 0 } else { now.real_ns.saturating_sub(flow.start_ns) };
        self.flows.insert(
            key,
            Flow {
                reply: flow.reply,
                start_ns: flow.start_ns,
                began_ns: now.boot_ns.saturating_sub(age_ns),
                due_ns: now.boot_ns + self.rules.curve.every(age_ns),
                packets: packets(flow),
                seen: self.round + 1,
                reported: true,
            },
        );
        self.rules.tracked.fetch_add(1, Ordering::Relaxed);
        out.push(flow.observation(kind, self.netns, now.boot_ns));
        true
    }

    /// A dump is complete and the events were read until empty: what neither this one nor the previous one
    /// contained is gone.
    pub(super) fn judge(&mut self, now: Moment, out: &mut Vec<Observation>) {
        self.round += 1;
        let (round, netns) = (self.round, self.netns);
        let mut earliest = u64::MAX;
        let before = self.flows.len();
        self.flows.retain(|key, flow| {
            let alive = flow.seen + 1 >= round;
            if alive {
                earliest = earliest.min(flow.due_ns);
            } else {
                out.push(gone(netns, key, flow, now));
            }
            alive
        });
        self.earliest_due_ns = earliest;
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
        out.extend(self.flows.drain().map(|(key, flow)| gone(netns, &key, &flow, now)));
    }

    fn has_room(&self) -> bool {
        self.rules.tracked.load(Ordering::Relaxed) < self.rules.max_flows
    }

    fn forget(&mut self, key: &Key) -> Option<Flow> {
        let flow = self.flows.remove(key)?;
        self.rules.tracked.fetch_sub(1, Ordering::Relaxed);
        Some(flow)
    }
}

/// Whether an entry at the same place of the kernel's memory is another flow of the same tuple.
fn is_another(known: &Flow, flow: &ConntrackMessage) -> bool {
    let restarted = known.start_ns != 0 && flow.start_ns != 0 && known.start_ns != flow.start_ns;
    known.reported && (restarted || packets(flow) < known.packets)
}

fn packets(flow: &ConntrackMessage) -> u64 {
    flow.counters.map_or(0, |totals| totals.original.packets.saturating_add(totals.reply.packets))
}

fn gone(netns: u32, key: &Key, flow: &Flow, now: Moment) -> Observation {
    Observation {
        kind: ObservationKind::Gone,
        boot_ns: now.boot_ns,
        conntrack: 0,
        born_ns: 0,
        start_ns: flow.start_ns,
        netns,
        zone: key.zone,
        protocol_state: None,
        has_counters: false,
        midlife: false,
        status: Status::default(),
        mark: 0,
        labels: [0; 16],
        original: key.original,
        reply: flow.reply,
        totals: Totals::default(),
        end_reason: Some(EndReason::Missed),
    }
}

#[cfg(test)]
#[path = "known_tests.rs"]
mod tests;
