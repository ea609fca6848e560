//! Tells of a flow that a walk met alive, and gives it a slot if it has none.

use aya_ebpf::bindings::BPF_RB_NO_WAKEUP;
use conntally_common::{Event, EventKind, Slot};

use crate::{
    entry::{Conntrack, Head},
    event::{About, begin, boot_ns, jiffies},
    extensions::{self, Extensions},
    maps::{CONTROL, UPDATES},
    namespace, slots,
    speak::{ANNOUNCED, MIDLIFE, interval, mark_announced},
};

/// What became of telling of a flow.
pub struct Told;

impl Told {
    pub const YES: u32 = 0;
    /// It ended, or became another flow's entry, while it was read.
    pub const TORN: u32 = 1;
    /// The ring was full.
    pub const NO_ROOM: u32 = 2;
}

/// A flow's slot, as it was when the flow was met.
struct Seat {
    slot: Option<*mut Slot>,
    born_ns: u64,
    flags: u32,
    is_new: bool,
}

/// Submits an event of a living entry whose head was just copied.
#[inline(always)]
pub fn tell(conntrack: Conntrack, head: &mut Head) -> u32 {
    let Some(mut reserved) = UPDATES.reserve::<Event>(0) else { return Told::NO_ROOM };
    let event = reserved.as_mut_ptr();
    // The reader comes anyhow when the run is over.
    let no_wakeup = u64::from(BPF_RB_NO_WAKEUP);
    let now_ns = boot_ns();
    let netns = namespace::of(head);
    let seat = seat(conntrack, now_ns, netns);
    let about =
        About { kind: EventKind::EXISTING, now_ns, born_ns: seat.born_ns, flags: seat.flags as u8, netns };
    // SAFETY: the reserved memory has room for an event, and every field is written.
    let is_untouched = unsafe {
        begin(event, conntrack, head, &about);
        extensions::describe(event, head);
        let ext = head.ext();
        head.copy(conntrack)
            && head.is_live()
            && head.ext() == ext
            && head.has_tuple_of(event)
            && Extensions::of(head).is_some_and(|extensions| extensions.start() == (*event).start_ns)
    };
    // A slot stays only if the entry lived when it had it: then its end clears it.
    if is_untouched && seat.is_kept(conntrack) {
        reserved.submit(no_wakeup);
        if let Some(slot) = seat.slot {
            mark_announced(slot, seat.flags);
        }
        Told::YES
    } else {
        reserved.discard(no_wakeup);
        seat.give_back(conntrack);
        Told::TORN
    }
}

/// The slot of an entry, a new one if it has none and its bucket has room.
#[inline(always)]
fn seat(conntrack: Conntrack, now_ns: u64, netns: u32) -> Seat {
    let nowhere = Seat { slot: None, born_ns: 0, flags: MIDLIFE, is_new: false };
    let Some(bucket) = slots::bucket(conntrack) else { return nowhere };
    if let Some(slot) = slots::find(bucket, conntrack) {
        // SAFETY: the slot lies in a map value.
        let (born_ns, flags) = unsafe { ((*slot).born_ns, (*slot).flags) };
        return Seat { slot: Some(slot), born_ns, flags, is_new: false };
    }
    let Some(control) = CONTROL.get_ptr(0) else { return nowhere };
    // SAFETY: the control is the map's value.
    let wait = unsafe { interval(control, 0, || netns) };
    let flags = MIDLIFE | ANNOUNCED;
    let due = jiffies().wrapping_add(wait);
    match slots::claim_free(bucket, conntrack, now_ns, due, flags) {
        Some(slot) => Seat { slot: Some(slot), born_ns: now_ns, flags, is_new: true },
        None => nowhere,
    }
}

impl Seat {
    /// Whether the slot still is what the event says: another CPU may have taken it, or given the entry another.
    #[inline(always)]
    fn is_kept(&self, conntrack: Conntrack) -> bool {
        let Some(slot) = self.slot else { return true };
        let first = slots::bucket(conntrack).and_then(|bucket| slots::find(bucket, conntrack));
        // SAFETY: the slot lies in a map value. Volatile, because other CPUs write it.
        first == Some(slot) && unsafe { (&raw const (*slot).born_ns).read_volatile() } == self.born_ns
    }

    /// Frees the slot if it was made for this event.
    #[inline(always)]
    fn give_back(&self, conntrack: Conntrack) {
        if let (Some(slot), true) = (self.slot, self.is_new) {
            // SAFETY: the slot lies in a map value. Volatile, because other CPUs write it.
            unsafe {
                if (&raw const (*slot).conntrack).read_volatile() == conntrack.0
                    && (&raw const (*slot).born_ns).read_volatile() == self.born_ns
                {
                    (&raw mut (*slot).conntrack).write_volatile(0);
                }
            }
        }
    }
}
