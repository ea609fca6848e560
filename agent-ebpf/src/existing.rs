//! Tells of a flow that a walk met alive, and gives it a slot if it has none.

use conntally_common::{Event, EventKind, Slot};

use crate::{
    entry::{Conntrack, Head},
    event::{About, begin, jiffies},
    slots,
    speak::{ANNOUNCED, MIDLIFE, interval, mark_announced},
    tour::{self, Tour},
};

/// A flow's slot, as it was when the flow was met.
struct Seat {
    slot: Option<*mut Slot>,
    born_ns: u64,
    flags: u32,
    is_new: bool,
}

/// What became of an event.
#[derive(Clone, Copy, PartialEq)]
pub enum Telling {
    /// It is filled in.
    Told,
    /// The flow is younger than the run, or was told of in it: somebody else tells of it, or has done so.
    Passed,
    /// The entry ended, or became another flow's, while it was read.
    Torn,
}

/// Fills in an event of a living entry whose head was copied in this run of the program.
///
/// An entry may become another flow's between any two reads of it. A slot that is older than the run and still the
/// entry's in the end shows that it did not; without one, what was read first is read again in the end.
///
/// # Safety
/// Both pointers lie in map values.
#[inline(always)]
pub unsafe fn tell(conntrack: Conntrack, head: &mut Head, tour: *mut Tour, event: *mut Event) -> Telling {
    // SAFETY: the caller's promise.
    unsafe {
        let (netns, now_ns) = (tour::netns(tour, head), (*tour).now_ns);
        let Some(seat) = seat(conntrack, now_ns, netns) else { return Telling::Passed };
        let about = About {
            kind: EventKind::EXISTING,
            now_ns,
            born_ns: seat.born_ns,
            flags: seat.flags as u8,
            netns,
        };
        begin(event, conntrack, head, &about);
        let is_untouched = match tour::extensions(tour, head) {
            Some(block) => {
                block.describe(event);
                if seat.tells_the_flow() {
                    head.copy_status(conntrack) && head.is_live()
                } else {
                    let ext = head.ext();
                    head.copy_node(conntrack)
                        && head.copy_tail(conntrack)
                        && head.is_live()
                        && head.ext() == ext
                        && head.is_of(&raw const (*event).tuples[0])
                        && block.start_now() == (*event).start_ns
                }
            }
            None => false,
        };
        // A slot stays only if the entry lived when it had it: then its end clears it.
        if is_untouched && seat.is_kept(conntrack) {
            if let Some(slot) = seat.slot {
                mark_announced(slot, seat.flags);
            }
            return Telling::Told;
        }
        seat.give_back(conntrack);
        Telling::Torn
    }
}

/// The slot of an entry, a new one if it has none and its bucket has room; `None` if it got one since the run began.
#[inline(always)]
fn seat(conntrack: Conntrack, now_ns: u64, netns: u32) -> Option<Seat> {
    let nowhere = Some(Seat { slot: None, born_ns: 0, flags: MIDLIFE, is_new: false });
    let Some(bucket) = slots::bucket(conntrack) else { return nowhere };
    if let Some(slot) = slots::find_any(bucket, conntrack) {
        let (born_ns, flags) = (slots::born_ns(slot), slots::flags(slot));
        return (born_ns < now_ns).then_some(Seat { slot: Some(slot), born_ns, flags, is_new: false });
    }
    let wait = interval(0, netns);
    let flags = MIDLIFE | ANNOUNCED;
    let due = jiffies().wrapping_add(wait);
    match slots::claim_free(bucket, conntrack, now_ns, due, flags) {
        Some(slot) => Some(Seat { slot: Some(slot), born_ns: now_ns, flags, is_new: true }),
        None => nowhere,
    }
}

impl Seat {
    /// Whether the slot was the flow's before it was read: then it shows by itself that the entry became another's.
    #[inline(always)]
    const fn tells_the_flow(&self) -> bool {
        self.slot.is_some() && !self.is_new
    }

    /// Whether the slot still is what the event says: another CPU may have taken it, or given the entry another.
    #[inline(always)]
    fn is_kept(&self, conntrack: Conntrack) -> bool {
        let Some(slot) = self.slot else { return true };
        if self.is_new
            && slots::bucket(conntrack).and_then(|bucket| slots::find(bucket, conntrack)) != Some(slot)
        {
            return false;
        }
        // SAFETY: the slot lies in a map value. Volatile, because other CPUs write it.
        unsafe {
            (&raw const (*slot).conntrack).read_volatile() == conntrack.0
                && slots::born_ns(slot) == self.born_ns
        }
    }

    /// Frees the slot if it was made for this event, and nobody has noted there who deletes the entry: then its end is
    /// still to come.
    #[inline(always)]
    fn give_back(&self, conntrack: Conntrack) {
        if let (Some(slot), true) = (self.slot, self.is_new) {
            // SAFETY: the slot lies in a map value. Volatile, because other CPUs write it.
            unsafe {
                if (&raw const (*slot).conntrack).read_volatile() == conntrack.0
                    && slots::born_ns(slot) == self.born_ns
                    && slots::flags(slot) == self.flags
                {
                    (&raw mut (*slot).conntrack).write_volatile(0);
                }
            }
        }
    }
}
