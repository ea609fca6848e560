//! Makes events and puts them into the ring of updates.

use aya_ebpf::{
    bindings::{BPF_RB_AVAIL_DATA, BPF_RB_FORCE_WAKEUP, BPF_RB_NO_WAKEUP, BPF_RINGBUF_HDR_SZ},
    helpers::{bpf_ktime_get_boot_ns, generated::bpf_jiffies64},
    maps::RingBuf,
};
use conntally_common::{Control, Event, EventFlags};

use crate::{
    entry::{Conntrack, Head, describe},
    extensions,
    maps::{CONTROL, UPDATES},
    packet::OwnPacket,
};

/// Bytes that an event takes in a ring, with its header.
const IN_RING: u64 = size_of::<Event>() as u64 + BPF_RINGBUF_HDR_SZ as u64;
/// In how many parts the threshold is divided from which on the reader is woken.
const WAKE_PARTS: u64 = 16;

/// What an event says beside what its entry says.
pub struct About {
    pub kind: u8,
    pub now_ns: u64,
    pub born_ns: u64,
    pub flags: u8,
    pub netns: u32,
}

/// Fills in an event but for what the entry's extensions say.
///
/// # Safety
/// `event` points to an event's memory, which need not be initialised.
#[inline(always)]
pub unsafe fn begin(event: *mut Event, conntrack: Conntrack, head: &Head, about: &About) {
    // SAFETY: every write is to a field of the caller's event.
    unsafe {
        (*event).boot_ns = about.now_ns;
        (*event).born_ns = about.born_ns;
        (*event).jiffies = jiffies();
        (*event).kind = about.kind;
        (*event).flags = about.flags;
        (*event).netns = about.netns;
        describe(event, conntrack, head);
    }
}

/// What became of an event.
pub enum Submitted {
    /// It is in the ring.
    Sent,
    /// The entry was another flow's in the end.
    Stale,
    /// The entry has counters, or may have, that cannot be read.
    Unreadable,
    /// The ring was full.
    RingFull,
}

/// Puts an event into the ring of updates unless it cannot be read, or is not `still_valid` in the end.
#[inline(always)]
pub fn submit(
    conntrack: Conntrack,
    head: &Head,
    about: &About,
    own: OwnPacket,
    still_valid: impl FnOnce() -> bool,
) -> Submitted {
    let Some(mut reserved) = UPDATES.reserve::<Event>(0) else { return Submitted::RingFull };
    let event = reserved.as_mut_ptr();
    // SAFETY: the reserved memory has room for an event, and every field is written.
    let is_whole = unsafe {
        begin(event, conntrack, head, about);
        let is_whole = extensions::describe(event, head);
        if (*event).flags & EventFlags::COUNTERS != 0 {
            let counter = &mut (*event).counters[(own.direction & 1) as usize];
            counter.packets += u64::from(own.packets);
            counter.bytes += u64::from(own.bytes);
        }
        is_whole
    };
    let is_valid = still_valid();
    if is_whole && is_valid {
        reserved.submit(wakeup(&UPDATES));
        return Submitted::Sent;
    }
    reserved.discard(u64::from(BPF_RB_NO_WAKEUP));
    if is_valid { Submitted::Unreadable } else { Submitted::Stale }
}

/// Whether the reader must be woken: it comes by itself often enough unless the ring fills fast. To wake it costs more
/// than all else about an event, so beyond the threshold it is done once for each sixteenth of that.
#[inline(always)]
pub fn wakeup(ring: &RingBuf) -> u64 {
    let Some(control) = CONTROL.get_ptr(0) else { return u64::from(BPF_RB_NO_WAKEUP) };
    // SAFETY: the control lies in a map value.
    let threshold = u64::from(unsafe { (*control).wakeup_bytes });
    let waiting = ring.query(u64::from(BPF_RB_AVAIL_DATA));
    // Rings are a power of two in size, and so is the threshold.
    let is_next_part = waiting & (threshold / WAKE_PARTS).wrapping_sub(1) < IN_RING;
    if waiting >= threshold && is_next_part {
        u64::from(BPF_RB_FORCE_WAKEUP)
    } else {
        u64::from(BPF_RB_NO_WAKEUP)
    }
}

/// Whether user space wants events of a kind.
///
/// # Safety
/// `control` is a value of the map `CONTROL`.
#[inline(always)]
pub unsafe fn is_wanted(control: *const Control, kind: u8) -> bool {
    // SAFETY: the caller's promise.
    unsafe { (*control).wants >> kind & 1 != 0 }
}

/// The low half of the kernel's tick count.
#[inline(always)]
pub fn jiffies() -> u32 {
    // SAFETY: the helper only reads a clock.
    unsafe { bpf_jiffies64() as u32 }
}

/// `CLOCK_BOOTTIME` in nanoseconds.
#[inline(always)]
pub fn boot_ns() -> u64 {
    // SAFETY: as above.
    unsafe { bpf_ktime_get_boot_ns() }
}
