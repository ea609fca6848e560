//! Which known flow an observation speaks of, among those of the same namespace, zone and original tuple.
//!
//! A start stamp settles it, and so does the pair of entry address and birth, which may be two births of one moment.
//! Only where one of the two sides has neither in common with the other (a kernel without timestamps, seen by a dump and
//! by the hooks) it is judged by what is possible in time; then the rule is: rather bill too little, and count it, than
//! twice.

use super::state::{Facts, FlowState};
use crate::model::{Counter, Observation, ObservationKind};

/// Entries of clashing UDP flows are in no dump.
///
/// <https://github.com/torvalds/linux/blob/v6.12/include/uapi/linux/netfilter/nf_conntrack_common.h#L104>
const NAT_CLASH: u32 = 1 << 12;

/// How far apart the stamps of a dump and of an event of the same moment may be.
const DUMP_SLACK_NS: u64 = 1_000_000_000;

/// The announcement of a flow that was known this long already is that of a successor.
const LATE_NEW_NS: u64 = 10_000_000_000;

/// Between the clock and the slot that two CPUs race for lie some hundred instructions, and perhaps an interrupt.
const MET_TWICE_NS: u64 = 1_000_000;

/// How an observation relates to a known flow.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Relation {
    /// It speaks of another one.
    Other,
    /// It speaks of its successor, so this one has ended unseen.
    Successor,
    /// It may speak of this one but has nothing to add: the flow has ended, or the hooks read its counters.
    Redundant,
    /// It may well speak of this one, and nothing tells otherwise.
    Possible,
    /// It speaks of this one, which the kernel programs met once more.
    MetAnew,
    /// It speaks of this one.
    Same,
}

/// Judges one known flow of the same tuple.
pub(super) fn relation(flow: &FlowState, o: &Observation) -> Relation {
    if flow.start_ns != 0 && o.start_ns != 0 {
        return same_if(flow.start_ns == o.start_ns);
    }
    if has_incarnation(flow.conntrack, flow.born_ns) && has_incarnation(o.conntrack, o.born_ns) {
        if (flow.conntrack, flow.born_ns) == (o.conntrack, o.born_ns) {
            return Relation::Same;
        }
        let is_met_again = flow.conntrack == o.conntrack && (is_met_anew(flow, o) || is_met_twice(flow, o));
        return if is_met_again { Relation::MetAnew } else { Relation::Other };
    }
    if differ(flow.conntrack, o.conntrack) || differ(flow.born_ns, o.born_ns) {
        return Relation::Other;
    }
    if flow.facts.has(Facts::ENDED) { late(flow, o) } else { possible(flow, o) }
}

/// Whether the flow clashed with another: no dump and no walk shows it.
pub(super) fn is_clash(flow: &FlowState) -> bool {
    flow.status.has(NAT_CLASH)
}

/// Among several possible flows the one that an unidentified observation most likely means.
pub(super) fn preference(flow: &FlowState) -> (bool, u64) {
    (!is_clash(flow), flow.first_seen_ns)
}

fn possible(flow: &FlowState, o: &Observation) -> Relation {
    let born_after = true_birth(o.born_ns, o.midlife) > flow.last_seen_ns;
    let seen_before_birth = true_birth(flow.born_ns, flow.facts.has(Facts::MET_MIDLIFE)) > o.boot_ns;
    if born_after || seen_before_birth || contradicts(flow, o) {
        return Relation::Other;
    }
    if o.kind == ObservationKind::New && o.boot_ns > flow.first_seen_ns.saturating_add(LATE_NEW_NS) {
        return Relation::Successor;
    }
    // A dump that cannot say which flow of the tuple it saw might lend one flow the totals of the next.
    let is_life_sign = !matches!(o.kind, ObservationKind::End | ObservationKind::Gone);
    let is_vague = o.conntrack == 0 && flow.conntrack != 0 && is_life_sign;
    if is_vague { Relation::Redundant } else { Relation::Possible }
}

/// The hooks read the counters of a flow directly, so they cannot be lower than what a dump saw earlier.
fn contradicts(flow: &FlowState, o: &Observation) -> bool {
    let hooked_after_dump = o.conntrack != 0 && flow.conntrack == 0 && o.boot_ns >= flow.last_seen_ns;
    let comparable = o.kind != ObservationKind::Gone && o.kind != ObservationKind::New;
    hooked_after_dump && comparable && is_lower(flow, o)
}

fn is_lower(flow: &FlowState, o: &Observation) -> bool {
    let is_lower = |now: Counter, seen: Counter| now.packets < seen.packets || now.bytes < seen.bytes;
    let (now, seen) = (o.totals, flow.totals);
    o.has_counters && (is_lower(now.original, seen.original) || is_lower(now.reply, seen.reply))
}

/// A flow without a slot is given one by the next hook or walk that meets it, and with it a later birth. Only another
/// flow at the same address has moved less.
fn is_met_anew(flow: &FlowState, o: &Observation) -> bool {
    let lives = !flow.facts.has(Facts::ENDED) && o.kind != ObservationKind::Gone;
    lives && o.midlife && o.born_ns > flow.born_ns && !is_lower(flow, o)
}

/// Two CPUs that meet a flow at the same moment may each give it a slot: two births of one flow, told of in any order.
/// One of them is at a packet; or both had a packet that opened it, and one of these was merged into the other's entry,
/// which then counts two, unless the kernel missed one.
///
/// Where it is the next flow at that address after all, whose announcement was read before its predecessor's end, that end
/// either has all that was told, and ends this one, or is lower, and then what was told was the successor's. Only if one of
/// the two has more packets and the other more bytes, or if the predecessor's end comes after the successor's, some is
/// billed twice.
fn is_met_twice(flow: &FlowState, o: &Observation) -> bool {
    let is_same_moment = flow.born_ns.abs_diff(o.born_ns) < MET_TWICE_NS;
    let is_at_packet = flow.facts.has(Facts::MET_MIDLIFE) || o.midlife;
    is_same_moment && (is_at_packet || are_both_openers(flow, o)) && fits(flow, o)
}

/// Whether both births may be those of a packet that opened the flow.
fn are_both_openers(flow: &FlowState, o: &Observation) -> bool {
    let may_be_later = o.kind != ObservationKind::New && o.boot_ns >= flow.start_boot_ns;
    let packets = flow.totals.original.packets.max(o.totals.original.packets);
    packets > 1 && (is_at_birth(o) || may_be_later)
}

/// Whether a program that met the flow at its birth says so at once. Others may overtake it in between.
pub(super) const fn is_at_birth(o: &Observation) -> bool {
    let is_announcement = matches!(o.kind, ObservationKind::New | ObservationKind::Update) && !o.midlife;
    is_announcement && o.born_ns != 0 && o.boot_ns.abs_diff(o.born_ns) < MET_TWICE_NS
}

/// Whether an observation with another birth can be of the time when this flow was at their address. Sights may be late
/// and lower; an end is told once, and has all.
fn fits(flow: &FlowState, o: &Observation) -> bool {
    let has_ended = flow.facts.has(Facts::ENDED);
    match o.kind {
        ObservationKind::Gone => false,
        ObservationKind::End => (!has_ended || flow.facts.has(Facts::MISSED)) && !is_lower(flow, o),
        _ => !has_ended || o.boot_ns <= flow.last_seen_ns,
    }
}

/// Whether an observation from midlife may be of this flow although it was judged to be another: then what it has
/// moved may have been billed.
pub(super) fn may_be_met_anew(flow: &FlowState, o: &Observation) -> bool {
    let has_had_its_end = flow.facts.has(Facts::ENDED) && !flow.facts.has(Facts::MISSED);
    !has_had_its_end && flow.conntrack == o.conntrack
}

/// Whether an observation of an ended flow's tuple came late, rather than from the next flow.
fn late(flow: &FlowState, o: &Observation) -> Relation {
    let from_dump = o.conntrack == 0 && o.kind != ObservationKind::New;
    let moment = match true_birth(o.born_ns, o.midlife) {
        0 if from_dump => o.boot_ns.saturating_sub(DUMP_SLACK_NS),
        0 => o.boot_ns,
        birth => birth,
    };
    if moment <= flow.last_seen_ns { Relation::Redundant } else { Relation::Other }
}

const fn same_if(same: bool) -> Relation {
    if same { Relation::Same } else { Relation::Other }
}

const fn has_incarnation(conntrack: u64, born_ns: u64) -> bool {
    conntrack != 0 && born_ns != 0
}

const fn differ(known: u64, said: u64) -> bool {
    known != 0 && said != 0 && known != said
}

/// When a flow was born by the boot clock, 0 when unknown.
const fn true_birth(born_ns: u64, met_midlife: bool) -> u64 {
    if met_midlife { 0 } else { born_ns }
}
