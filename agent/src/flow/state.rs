//! What is remembered of one flow, and how an observation changes it.

use super::matching::is_at_birth;
use super::{WallClock, nat_kind};
use crate::model::{
    Counter, EndReason, FlowId, Observation, ObservationKind, ProtocolState, Record, RecordFlags, RecordKind,
    Status, Totals, Tuple,
};

/// Counters are read and stamped one after the other, on several CPUs at once: a sight stamped later may hold
/// slightly older counters. Beyond this it is a regression.
const MISORDER_NS: u64 = 1_000_000_000;

/// Facts about a flow, one bit each.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Facts(u8);

impl Facts {
    /// The agent saw the flow first in the middle of its life; `baseline` is in no delta.
    pub(super) const MIDLIFE: u8 = 1;
    /// No sight of it had counters.
    pub(super) const NO_COUNTERS: u8 = 1 << 1;
    /// The id rests on the first sight.
    pub(super) const WEAK: u8 = 1 << 2;
    /// `born_ns` is when the kernel programs met it, not its birth.
    pub(super) const MET_MIDLIFE: u8 = 1 << 3;
    /// Its end was recorded: kept only to recognise late sights.
    pub(super) const ENDED: u8 = 1 << 4;
    /// Its end was recorded because it was found gone.
    pub(super) const MISSED: u8 = 1 << 5;
    /// The last look at the kernel's table did not see it.
    pub(super) const ABSENT: u8 = 1 << 6;
    /// No delta of it was handed out: the next record that is handed out has all of it.
    pub(super) const HELD: u8 = 1 << 7;
    /// Of an ended flow: an agent before this one told its end, which may be observed once more, or found it gone. Only
    /// living flows are looked for, so it is the same bit as theirs.
    pub(super) const TOLD_BEFORE: u8 = Self::ABSENT;

    /// Whether one of these bits is set.
    pub(super) const fn has(self, bits: u8) -> bool {
        self.0 & bits != 0
    }

    pub(super) const fn set(&mut self, bit: u8, on: bool) {
        if on {
            self.0 |= bit;
        } else {
            self.0 &= !bit;
        }
    }
}

/// One flow. Times in `CLOCK_BOOTTIME` nanoseconds unless said otherwise.
///
/// Packed, because a flow id would like to be aligned to 16 bytes; all else is aligned.
#[repr(Rust, packed(8))]
#[derive(Clone, Copy, Debug)]
pub(super) struct FlowState {
    pub(super) flow_id: FlowId,
    /// Address of the kernel's entry, 0 while unknown.
    pub(super) conntrack: u64,
    /// When the kernel programs first met it, 0 while unknown.
    pub(super) born_ns: u64,
    /// The kernel's start stamp, `CLOCK_REALTIME`; 0 while unknown.
    pub(super) start_ns: u64,
    /// Its start, or first sight.
    pub(super) start_boot_ns: u64,
    pub(super) first_seen_ns: u64,
    pub(super) last_seen_ns: u64,
    /// When its counters were last seen to have moved, 0 for never.
    pub(super) moved_ns: u64,
    /// The highest totals seen.
    pub(super) totals: Totals,
    /// What it had moved when it was first seen midlife.
    pub(super) baseline: Totals,
    pub(super) labels: [u8; 16],
    pub(super) original: Tuple,
    pub(super) reply: Tuple,
    pub(super) status: Status,
    pub(super) mark: u32,
    pub(super) netns: u32,
    pub(super) zone: u16,
    pub(super) protocol_state: ProtocolState,
    pub(super) facts: Facts,
}

const _: () = assert!(size_of::<FlowState>() <= 248, "a million flows must fit");

/// What an observation brought.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Change {
    /// What is new; belongs into the next record.
    pub(super) delta: Totals,
    /// Mark, labels or status changed.
    pub(super) described: bool,
    /// The kernel's totals went back.
    pub(super) regressed: bool,
}

impl Change {
    pub(super) fn is_worth_a_record(&self) -> bool {
        self.described || self.delta != Totals::default()
    }
}

impl FlowState {
    /// A flow at its first sight, of which nothing is billed yet.
    pub(super) fn first_seen(o: &Observation, flow_id: FlowId, clock: &WallClock) -> Self {
        let mut facts = Facts(Facts::MIDLIFE | Facts::NO_COUNTERS);
        facts.set(Facts::WEAK, o.start_ns == 0);
        facts.set(Facts::MET_MIDLIFE, o.midlife);
        Self {
            flow_id,
            conntrack: o.conntrack,
            born_ns: o.born_ns,
            start_ns: o.start_ns,
            start_boot_ns: start_in_boot_time(o, clock),
            first_seen_ns: o.boot_ns,
            last_seen_ns: o.boot_ns,
            moved_ns: 0,
            totals: Totals::default(),
            baseline: Totals::default(),
            labels: o.labels,
            original: o.original,
            reply: o.reply,
            status: o.status,
            mark: o.mark,
            netns: o.netns,
            zone: o.zone,
            protocol_state: o.protocol_state,
            facts,
        }
    }

    /// Takes in a sight of this flow. `born_while_counting`: it proves that the flow is younger than the
    /// accounting, so that all it ever moved is to be billed.
    pub(super) fn merge(&mut self, o: &Observation, born_while_counting: bool) -> Change {
        let mut change = self.merge_totals(o);
        if born_while_counting && self.facts.has(Facts::MIDLIFE) {
            self.facts.set(Facts::MIDLIFE, false);
            change.delta = sum(change.delta, std::mem::take(&mut self.baseline));
        }
        if change.delta != Totals::default() {
            self.moved_ns = self.moved_ns.max(o.boot_ns);
        }
        change.described = self.describe(o);
        self.identify(o);
        change
    }

    /// The same as [`FlowState::merge`] for an update of a living flow that is the same beyond doubt, of which nothing
    /// is held back, and that goes on from where it was. `None`, and nothing is changed, for any other.
    #[inline(always)]
    pub(super) fn merge_usual(&mut self, o: &Observation) -> Option<Change> {
        let is_known = self.conntrack != 0 && self.born_ns != 0;
        let is_same =
            self.conntrack == o.conntrack && self.born_ns == o.born_ns && self.start_ns == o.start_ns;
        let is_settled = o.midlife || !self.facts.has(Facts::MIDLIFE);
        let is_unusual = self.facts.has(Facts::NO_COUNTERS | Facts::ENDED | Facts::HELD);
        let is_later = o.boot_ns >= self.last_seen_ns;
        if !(is_known && is_same && is_settled && !is_unusual && is_later && o.has_counters) {
            return None;
        }
        let delta = Totals {
            original: beyond(o.totals.original, self.totals.original)?,
            reply: beyond(o.totals.reply, self.totals.reply)?,
        };
        self.totals = o.totals;
        self.facts.set(Facts::ABSENT, false);
        if delta != Totals::default() {
            self.moved_ns = self.moved_ns.max(o.boot_ns);
        }
        Some(Change { delta, described: self.describe(o), regressed: false })
    }

    /// What no record has told, if none has told anything yet.
    pub(super) fn held(&self) -> Option<Totals> {
        let mut billed = self.baseline;
        self.facts.has(Facts::HELD).then(|| advance(&mut billed, &self.totals).0)
    }

    /// The same; it counts as told from now on.
    pub(super) fn release(&mut self) -> Option<Totals> {
        let held = self.held();
        self.facts.set(Facts::HELD, false);
        held
    }

    /// The record of what just happened.
    #[inline(always)]
    pub(super) fn record(
        &self,
        kind: RecordKind,
        delta: Totals,
        end_reason: Option<EndReason>,
        clock: &WallClock,
    ) -> Record {
        let start_ns = if self.start_ns == 0 {
            clock.to_wall(self.start_boot_ns)
        } else {
            i64::try_from(self.start_ns).unwrap_or(i64::MAX)
        };
        Record {
            flow_id: self.flow_id,
            kind,
            observed_ns: clock.to_wall(self.last_seen_ns),
            observed_boot_ns: self.last_seen_ns,
            start_ns,
            duration_ns: self.last_seen_ns.saturating_sub(self.start_boot_ns),
            last_moved_ns: (self.moved_ns != 0).then(|| clock.to_wall(self.moved_ns)),
            original: self.original,
            reply: self.reply,
            nat: nat_kind(&self.original, &self.reply),
            totals: self.totals,
            delta,
            status: self.status,
            protocol_state: self.protocol_state,
            end_reason,
            mark: self.mark,
            labels: self.labels,
            zone: self.zone,
            netns: self.netns,
            flags: RecordFlags {
                first_seen_midlife: self.facts.has(Facts::MIDLIFE),
                no_counters: self.facts.has(Facts::NO_COUNTERS),
                weak_id: self.facts.has(Facts::WEAK),
                // Known by the rules of its namespace, which are not the table's business.
                offloaded: false,
            },
        }
    }

    fn merge_totals(&mut self, o: &Observation) -> Change {
        if !o.has_counters {
            return Change::default();
        }
        if self.facts.has(Facts::NO_COUNTERS) && self.facts.has(Facts::MIDLIFE) {
            self.baseline = o.totals;
            self.totals = o.totals;
        }
        self.facts.set(Facts::NO_COUNTERS, false);
        let (delta, lower) = advance(&mut self.totals, &o.totals);
        let is_final = o.kind == ObservationKind::End;
        let is_later = o.boot_ns >= self.last_seen_ns.saturating_add(MISORDER_NS);
        Change { delta, described: false, regressed: lower && (is_final || is_later) }
    }

    /// Takes over what describes the flow now, unless the sight is older than what is known.
    #[inline]
    fn describe(&mut self, o: &Observation) -> bool {
        if o.boot_ns < self.last_seen_ns && o.kind != ObservationKind::End {
            return false;
        }
        let changed = self.is_described_otherwise(o);
        self.last_seen_ns = self.last_seen_ns.max(o.boot_ns);
        self.mark = o.mark;
        self.labels = o.labels;
        self.status = o.status;
        self.reply = o.reply;
        self.protocol_state = o.protocol_state;
        changed
    }

    /// Whether a sight describes the flow in another way than its records did until now, whatever it moved.
    #[inline]
    pub(super) fn is_described_otherwise(&self, o: &Observation) -> bool {
        self.mark != o.mark || self.labels != o.labels || (self.status.0 ^ o.status.0) & Status::SHOWN != 0
    }

    /// Learns what tells this flow apart from others of its tuple. A flow that lost its slot gets another one, with a
    /// later birth, and is found by that; of two births of one moment the one that was told last is its slot's.
    pub(super) fn identify(&mut self, o: &Observation) {
        if self.conntrack == 0 {
            self.conntrack = o.conntrack;
        }
        let is_latest = o.boot_ns >= self.last_seen_ns.max(self.born_ns) || o.kind == ObservationKind::End;
        let is_told_last = o.born_ns != 0 && (is_latest || is_at_birth(o));
        if o.born_ns > self.born_ns || is_told_last {
            self.born_ns = o.born_ns;
            self.facts.set(Facts::MET_MIDLIFE, o.midlife);
        }
        if self.start_ns == 0 {
            self.start_ns = o.start_ns;
        }
    }
}

/// The boot clock of the kernel programs is exact; a stamp of the wall clock has to be converted.
fn start_in_boot_time(o: &Observation, clock: &WallClock) -> u64 {
    if o.born_ns != 0 && !o.midlife {
        return o.born_ns.min(o.boot_ns);
    }
    match o.start_ns {
        0 => o.boot_ns,
        start => clock.to_boot(start, o.boot_ns).unwrap_or(o.boot_ns),
    }
}

/// Raises `seen` to `now` and returns the difference, counter by counter, and whether one of them was lower.
fn advance(seen: &mut Totals, now: &Totals) -> (Totals, bool) {
    let mut lower = false;
    let mut raise = |seen: &mut u64, now: u64| {
        lower |= now < *seen;
        let delta = now.saturating_sub(*seen);
        *seen = now.max(*seen);
        delta
    };
    let mut counter = |seen: &mut Counter, now: &Counter| Counter {
        packets: raise(&mut seen.packets, now.packets),
        bytes: raise(&mut seen.bytes, now.bytes),
    };
    let delta = Totals {
        original: counter(&mut seen.original, &now.original),
        reply: counter(&mut seen.reply, &now.reply),
    };
    (delta, lower)
}

/// What is new since `seen`, unless one of the two figures went back.
#[inline(always)]
fn beyond(now: Counter, seen: Counter) -> Option<Counter> {
    let (packets, bytes) = (now.packets.checked_sub(seen.packets)?, now.bytes.checked_sub(seen.bytes)?);
    Some(Counter { packets, bytes })
}

fn sum(a: Totals, b: Totals) -> Totals {
    let counter = |a: Counter, b: Counter| Counter {
        packets: a.packets.saturating_add(b.packets),
        bytes: a.bytes.saturating_add(b.bytes),
    };
    Totals { original: counter(a.original, b.original), reply: counter(a.reply, b.reply) }
}
