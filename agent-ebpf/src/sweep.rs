//! Looks at flows that user space says are due, without a packet: the program `sweep`.
//!
//! Nothing keeps an entry alive meanwhile. Its slot tells whose it is: slot and status are looked at before and after the
//! rest is read. Only where the kernel skipped the program that would have cleared the slot at the end, the memory may be
//! another entry's or anything's: user space compares the tuple.

use aya_ebpf::helpers::bpf_ktime_get_ns;
use conntally_common::{Event, EventKind, SHOWN_STATUS, Slot, VISITS as VISITS_LEN, Visit, VisitVerdict};

use crate::{
    entry::{Conntrack, Head, is_live},
    event::{About, begin},
    maps::{CONTROL, SIGHTS, SWEEPS, VISITS},
    slots,
    speak::{interval, is_due, mark_announced},
    tour::{self, Block, Tour},
};

/// A run takes no longer, plus the flows between two looks at the clock. The kernel runs it without preemption.
const BUDGET_NS: u64 = 300_000;
/// Flows between two looks at the clock.
const CLOCK_EVERY: u32 = 32;

/// The value of the map `VISITS`.
#[repr(C)]
pub struct Visits {
    /// The list that user space writes.
    list: [Visit; VISITS_LEN as usize],
    tour: Tour,
    /// [`conntally_common::Control::sweeps`]
    sweeps: u64,
}

/// Looks at the flows of the map `VISITS` until the list or the time is over.
#[inline(always)]
pub fn run() {
    let began = now();
    let (Some(visits), Some(control)) = (VISITS.get_ptr_mut(0), CONTROL.get_ptr(0)) else { return };
    // SAFETY: both pointers are map values.
    unsafe {
        tour::begin(&raw mut (*visits).tour);
        (*visits).sweeps = u64::from((*control).sweeps);
    }
    let mut index = 0;
    while index < VISITS_LEN {
        if index % CLOCK_EVERY == CLOCK_EVERY - 1 && now() - began > BUDGET_NS {
            break;
        }
        if sweep_visit(index) == 0 {
            break;
        }
        index += 1;
    }
    if let Some(sweeps) = SWEEPS.get_ptr_mut(0) {
        let took_ns = now() - began;
        // SAFETY: the pointer is the map's value.
        unsafe {
            (*sweeps).runs += 1;
            (*sweeps).spent_ns += took_ns;
            (*sweeps).longest_ns = (*sweeps).longest_ns.max(took_ns);
        }
    }
}

/// Looks at one flow; 0 when the list is over. A global function: verified once, not once for each call.
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn sweep_visit(index: u32) -> u32 {
    let Some(visits) = VISITS.get_ptr_mut(0) else { return 0 };
    if index >= VISITS_LEN {
        return 0;
    }
    // SAFETY: the pointer is the map's value, the index was compared just now.
    unsafe {
        let visit = (&raw mut (*visits).list).cast::<Visit>().add(index as usize);
        if (*visit).conntrack == 0 {
            return 0;
        }
        (*visit).verdict = look(visit, visits, index);
    }
    1
}

/// # Safety
/// `visits` is the map's value, `visit` lies in it.
#[inline(always)]
unsafe fn look(visit: *const Visit, visits: *mut Visits, index: u32) -> u32 {
    // SAFETY: the caller's promise.
    let conntrack = Conntrack(unsafe { (*visit).conntrack });
    let Some(slot) = slots::bucket(conntrack).and_then(|bucket| slots::find(bucket, conntrack)) else {
        return VisitVerdict::GONE;
    };
    // SAFETY: as above; the slot lies in a map value.
    unsafe {
        if slots::born_ns(slot) != (*visit).born_ns {
            return VisitVerdict::GONE;
        }
        if (*visits).sweeps == 0 && !is_due((&raw const (*slot).due).read_volatile()) {
            return VisitVerdict::NOT_DUE;
        }
        let mut head = Head::room();
        if !head.copy_tail(conntrack) {
            return VisitVerdict::GONE;
        }
        let status = head.status();
        if !is_live(status) {
            return VisitVerdict::GONE;
        }
        let tour = &raw mut (*visits).tour;
        let Some(block) = tour::extensions(tour, &head) else { return VisitVerdict::GONE };
        if is_known(visit, status, head.mark(), block) {
            return VisitVerdict::UNCHANGED;
        }
        tell(visit, visits, slot, &mut head, block, index)
    }
}

/// Makes the event of a flow that has changed. What was not read yet is read after its extensions, and the status once
/// more: with the slot it tells whether all was the same flow's.
///
/// # Safety
/// `visits` is the map's value, `visit` lies in it, and `slot` in one.
#[inline(always)]
unsafe fn tell(
    visit: *const Visit,
    visits: *mut Visits,
    slot: *mut Slot,
    head: &mut Head,
    block: Block,
    index: u32,
) -> u32 {
    let Some(event) = SIGHTS.get_ptr_mut(index) else { return VisitVerdict::GONE };
    // SAFETY: the caller's promise; the event is a map's value.
    unsafe {
        let (conntrack, tour) = (Conntrack((*visit).conntrack), &raw mut (*visits).tour);
        if !head.copy_front(conntrack) || !head.is_live() {
            return VisitVerdict::GONE;
        }
        let netns = tour::netns(tour, head);
        let (born_ns, now_ns, flags) = ((*visit).born_ns, (*tour).now_ns, slots::flags(slot));
        let about = About { kind: EventKind::UPDATE, now_ns, born_ns, flags: flags as u8, netns };
        begin(event, conntrack, head, &about);
        block.describe(event);
        if !is_same(slot, visit) {
            return VisitVerdict::GONE;
        }
        mark_announced(slot, flags);
        if (*visits).sweeps == 0 {
            put_off(slot, event);
        }
    }
    VisitVerdict::CHANGED
}

/// Has the flow's packets wait for its next time, where packets speak.
///
/// # Safety
/// `slot` lies in a map's value, `event` tells of its flow.
#[inline(always)]
unsafe fn put_off(slot: *mut Slot, event: *const Event) {
    // SAFETY: the caller's promise.
    unsafe {
        let age_ns = (*event).boot_ns.saturating_sub((*event).born_ns);
        let wait = interval(age_ns, (*event).netns);
        (&raw mut (*slot).due).write_volatile((*event).jiffies.wrapping_add(wait));
    }
}

/// Whether user space knows all that a record would show.
///
/// # Safety
/// `visit` lies in a map's value.
#[inline(always)]
unsafe fn is_known(visit: *const Visit, status: u32, mark: u32, block: Block) -> bool {
    // SAFETY: the caller's promise.
    unsafe {
        block.packets() == (*visit).packets
            && (status ^ (*visit).status) & SHOWN_STATUS == 0
            && mark == (*visit).mark
            && block.labels_in_one() == (*visit).labels
    }
}

/// Whether a slot is that of the flow that user space means.
///
/// # Safety
/// Both pointers lie in map values.
#[inline(always)]
unsafe fn is_same(slot: *const Slot, visit: *const Visit) -> bool {
    // SAFETY: the caller's promise. Volatile, because other CPUs write it.
    unsafe {
        (&raw const (*slot).conntrack).read_volatile() == (*visit).conntrack
            && slots::born_ns(slot) == (*visit).born_ns
    }
}

#[inline(always)]
fn now() -> u64 {
    // SAFETY: the helper only reads a clock.
    unsafe { bpf_ktime_get_ns() }
}
