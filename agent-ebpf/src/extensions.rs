//! Reads what hangs on a conntrack entry: counters, timestamps, labels (`struct nf_ct_ext`).

use conntally_common::{ABSENT, Event, EventFlags};

use crate::{
    entry::{Head, read, read_into},
    maps::layout,
};

/// Packets and bytes of both directions, as they lie in memory.
pub type Counters = [u64; 4];

/// An entry's extensions: where each of them lies.
struct Extensions {
    address: u64,
    /// The first bytes of the struct; 16 of them are there on every kernel.
    positions: [u8; 16],
}

impl Extensions {
    /// The extensions of an entry; `None` when they cannot be read.
    #[inline(always)]
    fn of(head: &Head) -> Option<Self> {
        let address = head.ext();
        Some(Self { address, positions: read(address)? })
    }

    /// Reads the counters; false when the entry has none, the place is then left as it is.
    #[inline(always)]
    fn counters(&self, place: *mut Counters) -> bool {
        self.read_at(layout!(ext_acct), place)
    }

    /// The same for start and stop of the timestamps.
    #[inline(always)]
    fn times(&self, place: *mut [u64; 2]) -> bool {
        layout!(ext_tstamp) != ABSENT && self.read_at(layout!(ext_tstamp), place)
    }

    /// The same for the labels.
    #[inline(always)]
    fn labels(&self, place: *mut [u64; 2]) -> bool {
        layout!(ext_labels) != ABSENT && self.read_at(layout!(ext_labels), place)
    }

    #[inline(always)]
    fn read_at<T: Copy>(&self, index: u32, place: *mut T) -> bool {
        if index >= 16 {
            return false;
        }
        // SAFETY: the index was compared just now. An indexing expression would do the same and drag in a panic.
        let position = u64::from(unsafe { *self.positions.get_unchecked(index as usize) });
        position != 0 && read_into(place, self.address + position)
    }
}

/// Fills in all that the entry's extensions say.
///
/// # Safety
/// `event` points to an event's memory, of which `flags` is set.
#[inline(always)]
pub unsafe fn describe(event: *mut Event, head: &Head) {
    // SAFETY: every write is to a field of the caller's event.
    unsafe {
        zero::<4>((&raw mut (*event).counters).cast());
        zero::<2>((&raw mut (*event).start_ns).cast());
        zero::<2>((&raw mut (*event).labels).cast());
        let Some(extensions) = Extensions::of(head) else { return };
        if extensions.counters((&raw mut (*event).counters).cast()) {
            (*event).flags |= EventFlags::COUNTERS;
        }
        extensions.times((&raw mut (*event).start_ns).cast());
        extensions.labels((&raw mut (*event).labels).cast());
    }
}

/// Writes words of zero, one by one: for an array of bytes the compiler would call a loop.
///
/// # Safety
/// `place` has room for so many words.
#[inline(always)]
pub unsafe fn zero<const WORDS: usize>(place: *mut u64) {
    let mut i = 0;
    while i < WORDS {
        // SAFETY: the caller's promise.
        unsafe { place.add(i).write_volatile(0) };
        i += 1;
    }
}
