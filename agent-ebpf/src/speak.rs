//! What happens at each hook: decides whether a flow speaks, and submits its event.

use conntally_common::{Bucket, CURVE_STEPS, EventFlags, EventKind, LossReason, Slot, Unannounced};

use crate::{
    entry::{Conntrack, Head},
    event::{About, Submitted, boot_ns, is_wanted, jiffies, submit},
    maps::{CONTROL, UNANNOUNCED, count_loss},
    packet::OwnPacket,
    slots::{self, FlagByte},
};

/// Some event of the flow was submitted.
pub const ANNOUNCED: u32 = EventFlags::ANNOUNCED as u32;
/// The flow was met in the middle of its life.
pub const MIDLIFE: u32 = EventFlags::MIDLIFE as u32;

/// Packets that race for one flow are confirmed within this time, also where a virtual CPU is stopped in between.
const CLASH_NS: i64 = 1_000_000_000;

/// A packet is being accounted. Nearly always the flow is known and not due: that path must stay short.
///
/// Only else is `own` asked, for the entry's address as a plain number and the packet.
#[inline(always)]
pub fn on_packet(conntrack: Conntrack, own: impl FnOnce() -> (u64, OwnPacket)) {
    let Some(bucket) = slots::bucket(conntrack) else { return };
    if let Some(slot) = slots::find(bucket, conntrack)
        // SAFETY: the slot lies in a map value.
        && !is_due(unsafe { (&raw const (*slot).due).read_volatile() })
    {
        return;
    }
    let (address, own) = own();
    speak(address, own.direction, own.packets, own.bytes);
}

/// A flow was confirmed or inserted.
///
/// Where two packets of one UDP flow raced, the packet carries the winner's entry, which was announced before.
#[inline(always)]
pub fn on_new(conntrack: Conntrack) {
    let mut head = Head::room();
    if !head.copy(conntrack) {
        return count_loss(LossReason::READ_FAILED);
    }
    if !head.is_live() {
        return;
    }
    let now_ns = boot_ns();
    let slot = match meet_new(conntrack, now_ns) {
        Some(Met::Anew(slot)) => slot,
        Some(Met::Before(slot)) if slots::flags(slot) & MIDLIFE != 0 => {
            // A walk met it between its insertion and this moment.
            slots::set_flag(slot, FlagByte::Given, 0);
            slot
        }
        Some(Met::Before(_)) => return,
        None => return count_loss(LossReason::NO_SLOT),
    };
    submit_update(conntrack, &head, slot, now_ns, OwnPacket::NONE, || true);
}

/// The slot of an entry that was confirmed just now.
enum Met {
    /// Nobody met it before.
    Anew(*mut Slot),
    /// Who met it announces it, perhaps on another CPU at this very moment.
    Before(*mut Slot),
}

/// Gives a slot to an entry that has none, or one that is old enough to be left over from an earlier flow at its address.
/// The birth of one that was met on another CPU at this very moment may even be later than `now_ns`.
///
/// Programs can be preempted, and whoever runs meanwhile may meet the same entry: nothing stands between the look at the
/// bucket and the slot that is not needed there.
#[inline(always)]
fn meet_new(conntrack: Conntrack, now_ns: u64) -> Option<Met> {
    let (bucket, due) = (slots::bucket(conntrack)?, jiffies());
    let slot = slots::own_or_free(bucket, conntrack)?;
    // SAFETY: the slot lies in a map value.
    let owner = unsafe { (&raw const (*slot).conntrack).read_volatile() };
    if owner == conntrack.0 && (now_ns.wrapping_sub(slots::born_ns(slot)) as i64) < CLASH_NS {
        return Some(Met::Before(slot));
    }
    // Who deletes an entry may come by before whoever put it into the table, and then has a slot for it.
    let deletion = if owner == conntrack.0 { slots::deletion(slot, due) } else { 0 };
    slots::fill(slot, conntrack, now_ns, due, deletion);
    Some(if slots::born_ns(slot) == now_ns { Met::Anew(slot) } else { Met::Before(slot) })
}

/// A flow may be about to enter the table.
#[inline(always)]
pub fn on_registration(conntrack: Conntrack) {
    let born_ns = boot_ns();
    let slot = slots::bucket(conntrack).and_then(|bucket| slots::own_or_free(bucket, conntrack));
    let Some(slot) = slot else { return count_loss(LossReason::NO_SLOT) };
    slots::fill(slot, conntrack, born_ns, jiffies(), 0);
    let_wait(Unannounced { conntrack: conntrack.0, born_ns });
}

/// Puts a flow into the queue of those that are to be announced. Where that is full, the flow's next packet announces it,
/// if packets are hooked, and else the look that follows such a loss.
#[inline(always)]
fn let_wait(flow: Unannounced) {
    if UNANNOUNCED.push(flow, 0).is_err() {
        count_loss(LossReason::UPDATE_RING_FULL);
    }
}

/// Announces the next flow of the queue if it is still the same and nobody did; 0 when there is no more to do now.
///
/// Nothing keeps the entry alive meanwhile. Its slot tells whose it is: the slot is looked at before the entry is read and
/// again before the event goes. Where the kernel skipped the program that would have cleared the slot at the end, it may
/// outlive the entry, whose memory may be anything's by then.
///
/// Verified once for all its calls: the agent declares it global.
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn announce_next() -> u32 {
    let Ok(Some(next)) = UNANNOUNCED.pop() else { return 0 };
    let conntrack = Conntrack(next.conntrack);
    let Some(slot) = slots::bucket(conntrack).and_then(|bucket| slots::find_any(bucket, conntrack)) else {
        return 1;
    };
    // SAFETY: the slot lies in a map value.
    let is_same = || unsafe {
        (&raw const (*slot).conntrack).read_volatile() == next.conntrack
            && slots::born_ns(slot) == next.born_ns
            && slots::flags(slot) & ANNOUNCED == 0
    };
    let mut head = Head::room();
    if !is_same() || !head.copy(conntrack) || !head.is_entry() {
        return 1;
    }
    if head.is_live() {
        submit_update(conntrack, &head, slot, boot_ns(), OwnPacket::NONE, is_same);
    } else if head.is_on_its_way() {
        // The probe on confirmation runs before that puts the entry into the table, on another CPU. Its turn comes with
        // the next run.
        let_wait(next);
        return 0;
    }
    1
}

/// Someone deletes the entry.
#[inline(always)]
pub fn on_delete(conntrack: Conntrack, netlink_port: u32) {
    let who = if netlink_port == 0 { EventFlags::DELETED_BY_KERNEL } else { EventFlags::DELETED_BY_NETLINK };
    let Some(bucket) = slots::bucket(conntrack) else { return };
    match slots::find(bucket, conntrack) {
        Some(slot) => slots::set_flag(slot, FlagByte::Deleted, who),
        // A flow that is in the table can be deleted before whoever put it there has met it.
        None => slots::claim_deleted(bucket, conntrack, who, jiffies()),
    }
}

/// The flow is due, or has no slot yet. Apart from the packet path, so that this needs no registers there.
///
/// Verified once for all its calls: the agent declares it global. Such a function takes numbers and returns one.
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn speak(address: u64, direction: u32, packets: u32, bytes: u32) -> u32 {
    speak_of(Conntrack(address), OwnPacket { direction, packets, bytes });
    0
}

#[inline(always)]
fn speak_of(conntrack: Conntrack, own: OwnPacket) {
    let Some(bucket) = slots::bucket(conntrack) else { return };
    let known = slots::find_any(bucket, conntrack);
    let mut head = Head::room();
    if known.is_none() {
        // Nearly always the first packet of a flow, which is not confirmed yet.
        if head.copy_status(conntrack) && !head.is_live() {
            return;
        }
        if !slots::has_room(bucket) {
            return count_loss(LossReason::NO_SLOT);
        }
    }
    if !head.copy(conntrack) {
        return count_loss(LossReason::READ_FAILED);
    }
    if !head.is_live() {
        return;
    }
    let now_ns = boot_ns();
    let slot = match known {
        Some(slot) => slot,
        None => match meet_midlife(bucket, conntrack, &head, now_ns) {
            Some(slot) => slot,
            None => return count_loss(LossReason::NO_SLOT),
        },
    };
    submit_update(conntrack, &head, slot, now_ns, own, || true);
}

/// Gives a slot to a flow that lived before its first sight, and says what it had moved until then: totals
/// without the packet at hand, so that this packet counts as new. Meanwhile the flow may have got one: whoever confirms
/// it may have been on the way.
#[inline(always)]
fn meet_midlife(bucket: *mut Bucket, conntrack: Conntrack, head: &Head, born_ns: u64) -> Option<*mut Slot> {
    if let Some(slot) = slots::find_any(bucket, conntrack) {
        return Some(slot);
    }
    let slot = slots::claim_free(bucket, conntrack, born_ns, 0, MIDLIFE)?;
    let about = About {
        kind: EventKind::UPDATE,
        now_ns: born_ns,
        born_ns,
        flags: EventFlags::MIDLIFE,
        netns: head.netns(),
    };
    match submit(conntrack, head, &about, OwnPacket::NONE, || true) {
        Submitted::Sent | Submitted::Stale => {}
        Submitted::Unreadable => count_loss(LossReason::READ_FAILED),
        Submitted::RingFull => count_loss(LossReason::UPDATE_RING_FULL),
    }
    Some(slot)
}

/// Submits a new flow or an update if `still_valid` after the entry was read, and says when the flow may speak
/// again.
#[inline(always)]
fn submit_update(
    conntrack: Conntrack,
    head: &Head,
    slot: *mut Slot,
    now_ns: u64,
    own: OwnPacket,
    still_valid: impl FnOnce() -> bool,
) {
    let (born_ns, flags) = (slots::born_ns(slot), slots::flags(slot));
    let Some(control) = CONTROL.get_ptr(0) else { return };
    let is_known = flags & (ANNOUNCED | MIDLIFE) != 0;
    let kind = if is_known { EventKind::UPDATE } else { EventKind::NEW };
    let (netns, mut wait) = (head.netns(), None);
    // SAFETY: the control is a map's value.
    if unsafe { is_wanted(control, kind) } {
        let about = About { kind, now_ns, born_ns, flags: flags as u8, netns };
        match submit(conntrack, head, &about, own, still_valid) {
            Submitted::Sent => mark_announced(slot, flags),
            // The slot is another flow's by now.
            Submitted::Stale => return,
            Submitted::Unreadable => return count_loss(LossReason::READ_FAILED),
            Submitted::RingFull => {
                count_loss(LossReason::UPDATE_RING_FULL);
                // SAFETY: as above.
                wait = Some(unsafe { (*control).retry });
            }
        }
    }
    let wait = wait.unwrap_or_else(|| interval(now_ns.saturating_sub(born_ns), netns));
    // SAFETY: the slot lies in a map value.
    unsafe { (&raw mut (*slot).due).write_volatile(jiffies().wrapping_add(wait)) };
}

/// Notes that user space heard of the flow.
#[inline(always)]
pub fn mark_announced(slot: *mut Slot, flags: u32) {
    if flags & ANNOUNCED == 0 {
        slots::set_flag(slot, FlagByte::Announced, EventFlags::ANNOUNCED);
    }
}

/// Jiffies until a flow of this age speaks again.
///
/// Verified once for all its calls: the agent declares it global.
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn interval(age_ns: u64, netns: u32) -> u32 {
    let Some(control) = CONTROL.get_ptr(0) else { return 0 };
    // SAFETY: the control is the map's value; user space sets at most `CURVE_STEPS` steps.
    unsafe {
        if (*control).selftest_netns != 0 && (*control).selftest_netns == netns {
            return 0;
        }
        let mut every = (*control).curve[0].every;
        let mut i = 1;
        while i < CURVE_STEPS {
            if i as u32 >= (*control).steps || age_ns < (*control).curve[i].age_ns {
                break;
            }
            every = (*control).curve[i].every;
            i += 1;
        }
        every
    }
}

/// Whether a deadline has come.
#[inline(always)]
pub fn is_due(due: u32) -> bool {
    jiffies().wrapping_sub(due) as i32 >= 0
}
