//! A flow as it is kept between two agents, and back.

use super::state::{Facts, FlowState};
use crate::model::{FlowId, ProtocolState, Status, Totals, Tuple};

/// What an agent has to know of a flow so that its successor goes on where it stopped. Times in `CLOCK_BOOTTIME`
/// nanoseconds unless said otherwise.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SavedFlow {
    /// Its identity, which stays.
    pub flow_id: FlowId,
    /// Address of the kernel's entry, 0 while unknown. It stays as long as the entry does.
    pub conntrack: u64,
    /// When the kernel programs first met it, 0 while unknown. Means something only while they stay attached.
    pub born_ns: u64,
    /// The kernel's start stamp, `CLOCK_REALTIME`; 0 while unknown.
    pub start_ns: u64,
    /// Its start, or first sight.
    pub start_boot_ns: u64,
    /// First sight.
    pub first_seen_ns: u64,
    /// Last sight.
    pub last_seen_ns: u64,
    /// When its counters were last seen to have moved, 0 for never.
    pub moved_ns: u64,
    /// The totals up to which it was billed.
    pub totals: Totals,
    /// What it had moved when it was first seen midlife.
    pub baseline: Totals,
    /// Connection labels.
    pub labels: [u8; 16],
    /// Tuple of the original direction.
    pub original: Tuple,
    /// Tuple of the reply direction.
    pub reply: Tuple,
    /// Status bits.
    pub status: Status,
    /// Connection mark.
    pub mark: u32,
    /// Inode of the network namespace.
    pub netns: u32,
    /// Conntrack zone.
    pub zone: u16,
    /// State of the protocol tracker.
    pub protocol_state: ProtocolState,
    /// It lived before it was first seen.
    pub midlife: bool,
    /// No sight of it had counters.
    pub no_counters: bool,
    /// Its id rests on the first sight.
    pub weak: bool,
    /// It was found gone and has had its end; kept so that it is not billed again if it turns up.
    pub missed: bool,
    /// Its end was told; kept so that a sight which comes late, or once more, is not billed.
    pub ended: bool,
    /// No record of it was wanted yet: nothing of its totals was billed.
    pub held: bool,
}

impl SavedFlow {
    /// The same flow, when it is no longer certain up to where it was billed: what it moved until its next sight is
    /// in no delta.
    #[must_use]
    pub fn uncertain(self) -> Self {
        Self { midlife: true, no_counters: true, ..self }
    }
}

impl FlowState {
    /// A copy to keep.
    pub(super) fn saved(&self) -> SavedFlow {
        SavedFlow {
            flow_id: self.flow_id,
            conntrack: self.conntrack,
            born_ns: self.born_ns,
            start_ns: self.start_ns,
            start_boot_ns: self.start_boot_ns,
            first_seen_ns: self.first_seen_ns,
            last_seen_ns: self.last_seen_ns,
            moved_ns: self.moved_ns,
            totals: self.totals,
            baseline: self.baseline,
            labels: self.labels,
            original: self.original,
            reply: self.reply,
            status: self.status,
            mark: self.mark,
            netns: self.netns,
            zone: self.zone,
            protocol_state: self.protocol_state,
            midlife: self.facts.has(Facts::MIDLIFE),
            no_counters: self.facts.has(Facts::NO_COUNTERS),
            weak: self.facts.has(Facts::WEAK),
            missed: self.facts.has(Facts::MISSED),
            ended: self.facts.has(Facts::ENDED) && !self.facts.has(Facts::MISSED),
            held: self.facts.has(Facts::HELD),
        }
    }

    /// A flow that was kept, to be met again. Its first record was long ago: whatever is announced from now on under
    /// its tuple, and by nothing else as this flow, is another one.
    pub(super) fn restored(saved: &SavedFlow) -> Self {
        Self {
            flow_id: saved.flow_id,
            conntrack: saved.conntrack,
            born_ns: saved.born_ns,
            start_ns: saved.start_ns,
            start_boot_ns: saved.start_boot_ns,
            first_seen_ns: 0,
            last_seen_ns: saved.last_seen_ns,
            moved_ns: saved.moved_ns,
            totals: saved.totals,
            baseline: saved.baseline,
            labels: saved.labels,
            original: saved.original,
            reply: saved.reply,
            status: saved.status,
            mark: saved.mark,
            netns: saved.netns,
            zone: saved.zone,
            protocol_state: saved.protocol_state,
            facts: Facts::restored(saved),
        }
    }
}

impl Facts {
    fn restored(saved: &SavedFlow) -> Self {
        let mut facts = Self::default();
        facts.set(Self::MIDLIFE, saved.midlife);
        facts.set(Self::NO_COUNTERS, saved.no_counters);
        facts.set(Self::WEAK, saved.weak);
        facts.set(Self::MET_MIDLIFE, true);
        facts.set(Self::ENDED, saved.missed || saved.ended);
        facts.set(Self::MISSED, saved.missed);
        facts.set(Self::HELD, saved.held);
        facts
    }
}
