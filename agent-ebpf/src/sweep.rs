//! Looks at flows that user space says are due, without a packet: the program `sweep`.
//!
//! Nothing keeps an entry alive meanwhile. Its memory always holds some entry (the kernel allocates them typesafe by
//! RCU), and its slot tells whose: slot, status, extensions and start are looked at before and after the rest is read.

use core::mem::MaybeUninit;

use aya_ebpf::helpers::bpf_ktime_get_ns;
use conntally_common::{
    Control, Event, EventFlags, EventKind, SHOWN_STATUS, Slot, VISITS as VISITS_LEN, Visit, VisitVerdict,
};

use crate::{
    entry::{Conntrack, Head},
    event::{About, begin, jiffies},
    extensions::{Counters, zero},
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
    let (Some(visit), Some(control), Some(tour)) =
        (VISITS.get_ptr_mut(index), CONTROL.get_ptr(0), TOUR.get_ptr_mut(0))
    else {
        return 0;
    };
    let Some(event) = SIGHTS.get_ptr_mut(index) else { return 0 };
    // SAFETY: all pointers are map values.
    unsafe {
        if (*visit).conntrack == 0 {
            return 0;
        }
        (*visit).verdict = look(visit, control, tour, event);
    }
    1
}

/// # Safety
/// All pointers are values of their maps.
#[inline(always)]
unsafe fn look(visit: *const Visit, control: *const Control, tour: *mut Tour, event: *mut Event) -> u32 {
    // SAFETY: the caller's promise.
    let conntrack = Conntrack(unsafe { (*visit).conntrack });
    let Some(slot) = slots::bucket(conntrack).and_then(|bucket| slots::find(bucket, conntrack)) else {
        return VisitVerdict::GONE;
    };
    // SAFETY: as above; the slot lies in a map value.
    unsafe {
        if !is_same(slot, visit) {
            return VisitVerdict::GONE;
        }
        if (*control).sweeps == 0 && !is_due((&raw const (*slot).due).read_volatile()) {
            return VisitVerdict::NOT_DUE;
        }
        let mut head = Head::room();
        if !head.copy_tail(conntrack) || !head.is_live() {
            return VisitVerdict::GONE;
        }
        let Some(block) = tour::extensions(tour, &head) else { return VisitVerdict::GONE };
        let sight = Sight::of(block);
        if sight.is_known(visit, &head) {
            return VisitVerdict::UNCHANGED;
        }
        if !head.copy_front(conntrack) {
            return VisitVerdict::GONE;
        }
        let netns = tour::netns(tour, &head);
        let (born_ns, now_ns) = ((*visit).born_ns, (*tour).now_ns);
        let flags = slots::flags(slot);
        let about = About { kind: EventKind::UPDATE, now_ns, born_ns, flags: flags as u8, netns };
        begin(event, conntrack, &head, &about);
        sight.tell(event, block);
        let ext = head.ext();
        let is_untouched = head.copy_tail(conntrack)
            && head.is_live()
            && head.ext() == ext
            && block.start_now() == (*event).start_ns
            && is_same(slot, visit);
        if !is_untouched {
            return VisitVerdict::GONE;
        }
        let wait = interval(control, now_ns.saturating_sub(born_ns), || netns);
        mark_announced(slot, flags);
        (&raw mut (*slot).due).write_volatile(jiffies().wrapping_add(wait));
    }
    VisitVerdict::CHANGED
}

/// What a record shows of a flow beside its head.
struct Sight {
    counters: Counters,
    labels: [u64; 2],
    has_counters: bool,
}

impl Sight {
    #[inline(always)]
    fn of(block: Block) -> Self {
        let mut counters = MaybeUninit::<Counters>::uninit();
        let mut labels = MaybeUninit::<[u64; 2]>::uninit();
        // SAFETY: both are as long as zeroed.
        unsafe {
            zero::<4>(counters.as_mut_ptr().cast());
            zero::<2>(labels.as_mut_ptr().cast());
        }
        let has_counters = block.counters(counters.as_mut_ptr());
        block.labels(labels.as_mut_ptr());
        // SAFETY: zeroed, then perhaps filled.
        unsafe { Self { counters: counters.assume_init(), labels: labels.assume_init(), has_counters } }
    }

    /// Puts it into an event, with the times.
    ///
    /// # Safety
    /// `event` points to an event's memory, of which `flags` is set.
    #[inline(always)]
    unsafe fn tell(&self, event: *mut Event, block: Block) {
        // SAFETY: every write is to a field of the caller's event.
        unsafe {
            zero::<2>((&raw mut (*event).start_ns).cast());
            block.times((&raw mut (*event).start_ns).cast());
            (&raw mut (*event).counters).cast::<Counters>().write(self.counters);
            (&raw mut (*event).labels).cast::<[u64; 2]>().write(self.labels);
            if self.has_counters {
                (*event).flags |= EventFlags::COUNTERS;
            }
        }
    }

    /// Whether user space knows all that.
    ///
    /// # Safety
    /// `visit` is a value of the map `VISITS`.
    #[inline(always)]
    unsafe fn is_known(&self, visit: *const Visit, head: &Head) -> bool {
        let [original, _, reply, _] = self.counters;
        let [low, high] = self.labels;
        // SAFETY: the caller's promise.
        unsafe {
            original.wrapping_add(reply) == (*visit).packets
                && (head.status() ^ (*visit).status) & SHOWN_STATUS == 0
                && head.mark() == (*visit).mark
                && low ^ high == (*visit).labels
        }
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
