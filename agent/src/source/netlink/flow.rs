//! One flow as it was last seen.

use super::clock::Moment;
use crate::{
    kernel::netlink::conntrack::ConntrackMessage,
    model::{EndReason, Observation, ObservationKind, ProtocolState, Status, Totals, Tuple},
};

/// One entry of the kernel's table. With `id` two entries of the same tuple stay apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Key {
    original: Tuple,
    zone: u16,
    id: u32,
}

impl Key {
    pub(super) const fn of(flow: &ConntrackMessage) -> Self {
        Self { original: flow.original, zone: flow.zone, id: flow.id }
    }
}

/// What a dump said of a flow, less what never changes.
#[derive(Clone, Copy, Debug, Default)]
struct Sight {
    /// `CLOCK_BOOTTIME`, nanoseconds.
    boot_ns: u64,
    /// `None` when the kernel does not count the flow.
    totals: Option<Totals>,
    status: Status,
    mark: u32,
    labels: [u8; 16],
    protocol_state: ProtocolState,
}

impl Sight {
    const fn of(flow: &ConntrackMessage, now: Moment) -> Self {
        Self {
            boot_ns: now.boot_ns,
            totals: flow.counters,
            status: flow.status,
            mark: flow.mark,
            labels: flow.labels,
            protocol_state: flow.protocol_state,
        }
    }

    fn packets(&self) -> u64 {
        packets(self.totals)
    }

    const fn description(&self) -> Description {
        Description { status: self.status.0 & Status::SHOWN, mark: self.mark, labels: self.labels }
    }
}

/// What a record shows beside counters, and may change without them: an offloaded flow's may never move again.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Description {
    status: u32,
    mark: u32,
    labels: [u8; 16],
}

/// Packets of both directions.
pub(super) fn packets(totals: Option<Totals>) -> u64 {
    totals.map_or(0, |totals| totals.original.packets.saturating_add(totals.reply.packets))
}

/// A flow that lives as far as known.
#[derive(Clone, Copy, Debug)]
pub(super) struct Flow {
    reply: Tuple,
    /// `CLOCK_REALTIME`, nanoseconds; 0 when unknown.
    pub(super) start_ns: u64,
    /// When it began as far as known, `CLOCK_BOOTTIME`.
    pub(super) began_ns: u64,
    /// When it was first seen, likewise.
    pub(super) met_ns: u64,
    /// When it may be reported again, likewise.
    pub(super) due_ns: u64,
    /// Packets of both directions when it was last reported.
    told_packets: u64,
    /// What else of it was told then that may change.
    told: Description,
    latest: Sight,
    /// The round in which it was last seen.
    pub(super) seen: u32,
    /// Whether it was reported; not yet when only the event of its birth was seen, which has no counters.
    pub(super) reported: bool,
    /// Whether it is known to be younger than the listener, so that the kernel tells of its end.
    pub(super) young: bool,
}

impl Flow {
    /// From the event of its birth.
    pub(super) fn born(flow: &ConntrackMessage, now: Moment, seen: u32) -> Self {
        Self {
            reply: flow.reply,
            start_ns: 0,
            began_ns: now.boot_ns,
            met_ns: now.boot_ns,
            due_ns: 0,
            told_packets: 0,
            told: Description::default(),
            latest: Sight::default(),
            seen,
            reported: false,
            young: true,
        }
    }

    /// From a dump.
    pub(super) fn met(flow: &ConntrackMessage, now: Moment, seen: u32, young: bool) -> Self {
        let age_ns = if flow.start_ns == 0 { 0 } else { now.real_ns.saturating_sub(flow.start_ns) };
        Self {
            start_ns: flow.start_ns,
            began_ns: now.boot_ns.saturating_sub(age_ns),
            latest: Sight::of(flow, now),
            young,
            ..Self::born(flow, now, seen)
        }
    }

    /// A dump shows it again.
    pub(super) fn see(&mut self, flow: &ConntrackMessage, now: Moment) {
        self.reply = flow.reply;
        self.latest = Sight::of(flow, now);
        if !self.reported {
            self.start_ns = flow.start_ns;
        }
    }

    /// The labels of the latest dump, zero when there were none.
    pub(super) const fn labels(&self) -> [u8; 16] {
        self.latest.labels
    }

    /// How old it is, in nanoseconds.
    pub(super) const fn age_ns(&self, now: Moment) -> u64 {
        now.boot_ns.saturating_sub(self.began_ns)
    }

    /// Whether the latest sight tells more than the latest report.
    pub(super) fn has_moved(&self) -> bool {
        self.latest.packets() != self.told_packets || self.latest.description() != self.told
    }

    /// Whether an entry at the same place of the kernel's memory is another flow of the same tuple. Counters that
    /// went back prove it only without a start: anyone may reset them.
    pub(super) fn is_another(&self, flow: &ConntrackMessage) -> bool {
        let starts = [self.start_ns, flow.start_ns];
        let shrunk = packets(flow.counters) < self.latest.packets();
        self.reported && if starts.contains(&0) { shrunk } else { self.start_ns != flow.start_ns }
    }

    /// Reports the latest sight.
    pub(super) fn tell(&mut self, kind: ObservationKind, netns: u32, key: &Key) -> Observation {
        self.reported = true;
        self.told_packets = self.latest.packets();
        self.told = self.latest.description();
        self.observation(kind, netns, key)
    }

    /// What is left to be said of a flow that is gone: what it moved after the latest report, and that it is gone.
    pub(super) fn depart(&mut self, netns: u32, key: &Key, now: Moment, out: &mut Vec<Observation>) {
        if self.reported && self.has_moved() {
            out.push(self.tell(ObservationKind::Update, netns, key));
        }
        out.push(Observation {
            boot_ns: now.boot_ns,
            has_counters: false,
            totals: Totals::default(),
            end_reason: Some(EndReason::Missed),
            ..self.observation(ObservationKind::Gone, netns, key)
        });
    }

    fn observation(&self, kind: ObservationKind, netns: u32, key: &Key) -> Observation {
        Observation {
            kind,
            boot_ns: self.latest.boot_ns,
            conntrack: 0,
            born_ns: 0,
            start_ns: self.start_ns,
            netns,
            zone: key.zone,
            protocol_state: self.latest.protocol_state,
            has_counters: self.latest.totals.is_some(),
            midlife: false,
            announced: false,
            status: self.latest.status,
            mark: self.latest.mark,
            labels: self.latest.labels,
            original: key.original,
            reply: self.reply,
            totals: self.latest.totals.unwrap_or_default(),
            end_reason: None,
        }
    }
}
