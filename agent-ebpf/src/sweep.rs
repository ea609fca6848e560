//! Looks at flows that user space says are due, without a packet: the program `sweep`.
//!
//! Nothing keeps an entry alive meanwhile. Its memory always holds some entry (the kernel allocates them typesafe by
//! RCU), and its slot tells whose: slot, status, extensions and start are looked at before and after the rest is read.

use aya_ebpf::helpers::bpf_ktime_get_ns;
use conntally_common::{EventKind, SHOWN_STATUS, Slot, VISITS as VISITS_LEN, Visit, VisitVerdict};

use crate::{
    entry::{Conntrack, Head},
    event::{About, begin},
    maps::{CONTROL, SIGHTS, SWEEPS, TOUR, VISITS},
    slots,
    speak::{interval, is_due, mark_announced},
    tour::{self, Block, Tour},
};

/// A run takes no longer, plus the flows between two looks at the clock. The kernel runs it without preemption.
const BUDGET_NS: u64 = 300_000;
/// Flows between two looks at the clock.
const CLOCK_EVERY: u32 = 16;

/// Looks at the flows of the map `VISITS` until the list or the time is over.
#[inline(always)]
pub fn run() {
    let began = now();
    if tour::begin().is_none() {
        return;
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
    let (Some(visit), Some(tour)) = (VISITS.get_ptr_mut(index), TOUR.get_ptr_mut(0)) else { return 0 };
    // SAFETY: both pointers are map values.
    unsafe {
        if (*visit).conntrack == 0 {
            return 0;
        }
        (*visit).verdict = look(visit, tour, index);
    }
    1
}

/// # Safety
/// Both pointers are values of their maps.
#[inline(always)]
unsafe fn look(visit: *const Visit, tour: *mut Tour, index: u32) -> u32 {
    // SAFETY: the caller's promise.
    let conntrack = Conntrack(unsafe { (*visit).conntrack });
    let Some(slot) = slots::bucket(conntrack).and_then(|bucket| slots::find(bucket, conntrack)) else {
        return VisitVerdict::GONE;
    };
    // SAFETY: as above; the slot lies in a map value.
    unsafe {
        if (&raw const (*slot).born_ns).read_volatile() != (*visit).born_ns {
            return VisitVerdict::GONE;
        }
        if (*tour).sweeps == 0 && !is_due((&raw const (*slot).due).read_volatile()) {
            return VisitVerdict::NOT_DUE;
        }
        let mut head = Head::room();
        if !head.copy_tail(conntrack) || !head.is_live() {
            return VisitVerdict::GONE;
        }
        let Some(block) = tour::extensions(tour, &head) else { return VisitVerdict::GONE };
        if is_known(visit, &head, block) {
            return VisitVerdict::UNCHANGED;
        }
        tell(visit, tour, slot, &mut head, block, index)
    }
}

/// Makes the event of a flow that has changed. Its head is read after its extensions, status and their address last:
/// so what it says also tells whether all was still the same flow's.
///
/// # Safety
/// All pointers are, or lie in, values of their maps.
#[inline(always)]
unsafe fn tell(
    visit: *const Visit,
    tour: *mut Tour,
    slot: *mut Slot,
    head: &mut Head,
    block: Block,
    index: u32,
) -> u32 {
    let (Some(event), Some(control)) = (SIGHTS.get_ptr_mut(index), CONTROL.get_ptr(0)) else {
        return VisitVerdict::GONE;
    };
    // SAFETY: the caller's promise.
    unsafe {
        let (conntrack, ext) = (Conntrack((*visit).conntrack), head.ext());
        if !head.copy(conntrack) || !head.is_live() || head.ext() != ext {
            return VisitVerdict::GONE;
        }
        let netns = tour::netns(tour, head);
        let (born_ns, now_ns, flags) = ((*visit).born_ns, (*tour).now_ns, (*slot).flags);
        let about = About { kind: EventKind::UPDATE, now_ns, born_ns, flags: flags as u8, netns };
        begin(event, conntrack, head, &about);
        block.describe(event);
        if !is_same(slot, visit) {
            return VisitVerdict::GONE;
        }
        let wait = interval(control, now_ns.saturating_sub(born_ns), || netns);
        mark_announced(slot, flags);
        (&raw mut (*slot).due).write_volatile((*event).jiffies.wrapping_add(wait));
    }
    VisitVerdict::CHANGED
}

/// Whether user space knows all that a record would show.
///
/// # Safety
/// `visit` is a value of the map `VISITS`.
#[inline(always)]
unsafe fn is_known(visit: *const Visit, head: &Head, block: Block) -> bool {
    // SAFETY: the caller's promise.
    unsafe {
        block.packets() == (*visit).packets
            && (head.status() ^ (*visit).status) & SHOWN_STATUS == 0
            && head.mark() == (*visit).mark
            && block.joined_labels() == (*visit).labels
    }
}

/// Whether a slot is that of the flow that user space means.
///
/// # Safety
/// Both pointers are map values.
#[inline(always)]
unsafe fn is_same(slot: *const Slot, visit: *const Visit) -> bool {
    // SAFETY: the caller's promise. Volatile, because other CPUs write it.
    unsafe {
        (&raw const (*slot).conntrack).read_volatile() == (*visit).conntrack
            && (&raw const (*slot).born_ns).read_volatile() == (*visit).born_ns
    }
}

#[inline(always)]
fn now() -> u64 {
    // SAFETY: the helper only reads a clock.
    unsafe { bpf_ktime_get_ns() }
}
