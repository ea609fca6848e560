//! What the kernel side shares with user space: rings, the slot table, settings, counters, constants.
//!
//! All that user space reads or writes while programs are attached is in its memory: see [`Tally`] for why.

use core::arch::asm;

use aya_ebpf::{
    bindings::BPF_F_MMAPABLE,
    helpers::bpf_get_smp_processor_id,
    macros::map,
    maps::{Array, PerCpuArray, Queue, RingBuf},
};
use conntally_common::{
    Bucket, Clock, Control, Event, Layout, Runs, SIGHTS as SIGHTS_LEN, Tally, Unannounced,
};

use crate::{sweep::Visits, walk::Walking};

/// New flows and updates. Sized at load.
#[map]
pub static UPDATES: RingBuf = RingBuf::with_byte_size(16 << 20, 0);

/// Ends, apart from the updates so that a flood of those cannot lose one. Sized at load.
#[map]
pub static ENDS: RingBuf = RingBuf::with_byte_size(16 << 20, 0);

/// Ends for which that ring had no room. Sized at load.
#[map]
pub static ENDS_OVERFLOW: RingBuf = RingBuf::with_byte_size(2 << 20, 0);

/// What was counted on each CPU, by its number. Sized at load to the number of CPUs.
#[map]
static TALLIES: Array<Tally> = Array::with_max_entries(1, BPF_F_MMAPABLE);

/// Where the program of ends puts an end together.
#[map]
pub static ENDING: PerCpuArray<Event> = PerCpuArray::with_max_entries(1, 0);

/// The slot table. Sized at load to `1 << BUCKET_BITS`.
#[map]
pub static SLOTS: Array<Bucket> = Array::with_max_entries(1 << 16, 0);

/// Settings that change at run time.
#[map]
pub static CONTROL: Array<Control> = Array::with_max_entries(1, BPF_F_MMAPABLE);

/// The answer of the program `clock`.
#[map]
pub static CLOCK: Array<Clock> = Array::with_max_entries(1, BPF_F_MMAPABLE);

/// Flows that only a probe has met so far. Sized at load to as many as the ring of updates has room for.
#[map]
pub static UNANNOUNCED: Queue<Unannounced> = Queue::with_max_entries(1 << 14, 0);

/// How many elements the last run of the program `announce` took from the queue.
#[map]
pub static TAKEN: Array<u64> = Array::with_max_entries(1, BPF_F_MMAPABLE);

/// The flows that the next run of the program `sweep` looks at. User space has the list in its memory, at the start.
#[map]
pub static VISITS: Array<Visits> = Array::with_max_entries(1, BPF_F_MMAPABLE);

/// How the runs of the program `sweep` went.
#[map]
pub static SWEEPS: Array<Runs> = Array::with_max_entries(1, BPF_F_MMAPABLE);

/// Addresses of the table that is walked, its size and its generation, found by the program `look_up`.
#[map]
pub static ADDRESSES: Array<u64> = Array::with_max_entries(3, BPF_F_MMAPABLE);

/// Where the program `walk` stands. User space has the start in its memory, what is kept between two runs.
#[map]
pub static WALK: Array<Walking> = Array::with_max_entries(1, BPF_F_MMAPABLE);

/// What the last run of the program `sweep` or `walk` saw.
#[map]
pub static SIGHTS: Array<Event> = Array::with_max_entries(SIGHTS_LEN, BPF_F_MMAPABLE);

/// Offsets of the running kernel; set before load, then frozen.
#[unsafe(no_mangle)]
pub static LAYOUT: Layout = Layout::UNKNOWN;

/// Bytes at the head of an `nf_conn` that hold all that is read from it at once; set before load.
#[unsafe(no_mangle)]
pub static HEAD_BYTES: u32 = 0;

/// From where on the head of an entry changes while it lives; set before load.
#[unsafe(no_mangle)]
pub static TAIL_OFFSET: u32 = 0;

/// Binary logarithm of the number of buckets; set before load.
#[unsafe(no_mangle)]
pub static BUCKET_BITS: u32 = 16;

/// Reads one field of [`struct@LAYOUT`].
macro_rules! layout {
    ($field:ident) => {
        $crate::maps::constant(&$crate::maps::LAYOUT.$field)
    };
}
pub(crate) use layout;

/// Reads a constant that user space sets before load. Volatile, because the compiler knows another value.
#[inline(always)]
pub fn constant(value: &u32) -> u32 {
    // SAFETY: a reference is valid to read.
    unsafe { core::ptr::read_volatile(value) }
}

/// This CPU's counters.
#[inline(always)]
pub fn tally() -> Option<*mut Tally> {
    // SAFETY: the helper only tells a number.
    TALLIES.get_ptr_mut(unsafe { bpf_get_smp_processor_id() })
}

/// Counts something that could not be said. `reason` is a constant of [`conntally_common::LossReason`].
#[inline(always)]
pub fn count_loss(reason: usize) {
    if let Some(tally) = tally() {
        // SAFETY: the pointer is the map's value.
        unsafe { add(&raw mut (*tally).losses[reason], 1) };
    }
}

/// Adds to one of this CPU's counters. Atomic, because an interrupt may run another program on this CPU in between; in
/// assembly, because Rust has no atomic addition for this target.
///
/// # Safety
/// `count` points into a map's value.
#[inline(always)]
pub unsafe fn add(count: *mut u64, amount: u64) {
    // SAFETY: the caller's promise.
    unsafe { asm!("lock *(u64 *)({0} + 0) += {1}", in(reg) count, in(reg) amount) };
}
