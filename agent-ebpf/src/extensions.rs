//! Reads what hangs on a conntrack entry: counters, timestamps, labels (`struct nf_ct_ext`).

use conntally_common::{Event, EventFlags};

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

    /// Reads an extension; the place is left as it is when the entry has not got it.
    #[inline(always)]
    fn read<T: Copy>(&self, index: u32, place: *mut T) -> Found {
        // An index that this kernel has not got is `ABSENT`, which is more, too.
        if index >= 16 {
            return Found::Nothing;
        }
        // SAFETY: the index was compared just now. An indexing expression would do the same and drag in a panic.
        let position = u64::from(unsafe { *self.positions.get_unchecked(index as usize) });
        if position == 0 {
            Found::Nothing
        } else if read_into(place, self.address + position) {
            Found::It
        } else {
            Found::Unreadable
        }
    }
}

/// What came of reading an extension.
#[derive(PartialEq)]
enum Found {
    It,
    Nothing,
    Unreadable,
}

/// Fills in all that the entry's extensions say; false when it has counters, or may have, that cannot be read.
///
/// # Safety
/// `event` points to an event's memory, of which `flags` is set.
#[inline(always)]
#[must_use]
pub unsafe fn describe(event: *mut Event, head: &Head) -> bool {
    // SAFETY: every write is to a field of the caller's event.
    unsafe {
        zero::<4>((&raw mut (*event).counters).cast());
        zero::<2>((&raw mut (*event).start_ns).cast());
        zero::<2>((&raw mut (*event).labels).cast());
        // An entry without extensions has no pointer to them.
        let Some(extensions) = Extensions::of(head) else { return head.ext() == 0 };
        let counters: *mut Counters = (&raw mut (*event).counters).cast();
        let found = extensions.read(layout!(ext_acct), counters);
        if found == Found::It {
            (*event).flags |= EventFlags::COUNTERS;
        }
        let times: *mut [u64; 2] = (&raw mut (*event).start_ns).cast();
        extensions.read(layout!(ext_tstamp), times);
        let labels: *mut [u64; 2] = (&raw mut (*event).labels).cast();
        extensions.read(layout!(ext_labels), labels);
        found != Found::Unreadable
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
