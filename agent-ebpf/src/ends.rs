//! The end of a flow: sums up what it moved, and hands its last event over by the ring or the one behind it.

use aya_ebpf::{EbpfContext, bindings::BPF_RB_NO_WAKEUP};
use aya_log_ebpf::warn;
use conntally_common::{Event, EventFlags, EventKind, LossReason, SELFTEST_ADDRESS, Sum};

use crate::{
    entry::{Conntrack, Head, INET},
    event::{About, begin, boot_ns, wakeup},
    extensions,
    maps::{ENDING, ENDS, ENDS_OVERFLOW, add, count_loss, tally},
    slots,
};

/// The last reference to an entry is gone.
///
/// The event is put together in this CPU's memory and not in the ring, so that it is there when the ring is full. No
/// other end can come in between: the kernel runs a program only once at a time on a CPU.
#[inline(always)]
pub fn on_end<C: EbpfContext>(ctx: &C, conntrack: Conntrack) {
    let (born_ns, flags) =
        slots::bucket(conntrack).map_or((0, 0), |bucket| slots::release(bucket, conntrack));
    let mut head = Head::room();
    if !head.copy(conntrack) {
        count_loss(LossReason::END_READ_FAILED);
        warn!(ctx, "the entry of an ended flow could not be read: its last bytes are lost");
        return;
    }
    // Entries that never got into the table come here too.
    if !head.is_confirmed() {
        return;
    }
    let Some(event) = ENDING.get_ptr_mut(0) else { return };
    let gone = if head.netns_is_gone() { EventFlags::NETNS_GONE } else { 0 };
    let about = About {
        kind: EventKind::END,
        now_ns: boot_ns(),
        born_ns,
        flags: flags as u8 | gone,
        netns: head.netns(),
    };
    // SAFETY: the event is a map's value.
    unsafe {
        begin(event, conntrack, &head, &about);
        if !extensions::describe(event, &head) {
            count_loss(LossReason::END_READ_FAILED);
        }
        hand_over(event);
    }
}

/// # Safety
/// `event` is a complete event in a map's value.
#[inline(always)]
unsafe fn hand_over(event: *mut Event) {
    // SAFETY: the caller's promise.
    let event = unsafe { &*event };
    // The agent's own tests are nobody's flows.
    let tally = if is_selftest(event) { None } else { tally() };
    if let Some(tally) = tally {
        // SAFETY: the tally is a map's value.
        unsafe { add_up(&raw mut (*tally).ended, event) };
    }
    // Whoever reads the first ring reads the second as well.
    if ENDS.output::<Event>(event, wakeup(&ENDS)).is_ok()
        || ENDS_OVERFLOW.output::<Event>(event, u64::from(BPF_RB_NO_WAKEUP)).is_ok()
    {
        return;
    }
    if let Some(tally) = tally {
        count_loss(LossReason::END_LOST);
        // SAFETY: as above.
        unsafe { add_up(&raw mut (*tally).ends_lost, event) };
    }
}

/// # Safety
/// `sum` lies in a map's value.
#[inline(always)]
unsafe fn add_up(sum: *mut Sum, event: &Event) {
    let [original, reply] = &event.counters;
    // SAFETY: the caller's promise.
    unsafe {
        add(&raw mut (*sum).flows, 1);
        add(&raw mut (*sum).packets, original.packets + reply.packets);
        add(&raw mut (*sum).bytes, original.bytes + reply.bytes);
    }
}

/// Whether the flow goes from the test's address to itself.
#[inline(always)]
fn is_selftest(event: &Event) -> bool {
    let [tuple, _] = &event.tuples;
    let first_word = |address: &[u8; 16]| {
        let [a, b, c, d, ..] = *address;
        u32::from_ne_bytes([a, b, c, d])
    };
    let test = u32::from_ne_bytes(SELFTEST_ADDRESS);
    tuple.family == INET && first_word(&tuple.src) == test && first_word(&tuple.dst) == test
}
