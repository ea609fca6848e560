//! What a program keeps during a run in which it looks at many flows: reads that every flow would repeat.

use conntally_common::{Event, EventFlags, joined_labels};

use crate::{
    entry::{Head, read, read_into},
    event::boot_ns,
    extensions::{Counters, zero},
    maps::layout,
};

/// Words at the start of an entry's extensions that are read at once. They hold the positions of all, and on the usual
/// kernels the counters and the timestamps.
const WORDS: usize = 8;
/// The words that still hold four others behind them.
const LAST: u64 = 8 * (WORDS as u64 - 4);

/// Part of the values of the maps `VISITS` and `WALK`.
#[repr(C)]
pub struct Tour {
    /// When the run began, `CLOCK_BOOTTIME`: the time of all its sights.
    pub now_ns: u64,
    /// Address of the network namespace that was met last. Good for one run: within it the kernel frees no namespace
    /// that a living flow belongs to.
    net: u64,
    /// Its inode.
    inode: u64,
    /// The start of the extensions of the flow at hand.
    extensions: [u64; WORDS],
}

/// The extensions of the flow at hand, of which the start was read at once.
#[derive(Clone, Copy)]
pub struct Block {
    tour: *const Tour,
    address: u64,
}

/// Begins a run.
///
/// # Safety
/// `tour` lies in a map's value.
#[inline(always)]
pub unsafe fn begin(tour: *mut Tour) {
    // SAFETY: the caller's promise.
    unsafe {
        (*tour).now_ns = boot_ns();
        (*tour).net = 0;
    }
}

/// Inode of an entry's namespace.
///
/// # Safety
/// `tour` lies in a map's value.
#[inline(always)]
pub unsafe fn netns(tour: *mut Tour, head: &Head) -> u32 {
    let net = head.net();
    // SAFETY: the caller's promise.
    unsafe {
        if (*tour).net != net {
            (*tour).inode = u64::from(head.netns());
            (*tour).net = net;
        }
        (*tour).inode as u32
    }
}

/// Reads the start of an entry's extensions; `None` when it cannot be read. An entry may well have none at all: what
/// began while accounting, timestamps and events were off.
///
/// # Safety
/// `tour` lies in a map's value.
#[inline(always)]
pub unsafe fn extensions(tour: *mut Tour, head: &Head) -> Option<Block> {
    let address = head.ext();
    if address == 0 {
        // SAFETY: the caller's promise. The positions are the first two words.
        unsafe { zero::<2>((&raw mut (*tour).extensions).cast()) };
        return Some(Block { tour, address });
    }
    // SAFETY: as above.
    unsafe { read_into(&raw mut (*tour).extensions, address) }.then_some(Block { tour, address })
}

impl Block {
    /// Copies the counters; false when the entry has none, the place is then left as it is.
    #[inline(always)]
    fn counters(self, place: *mut Counters) -> bool {
        self.words(layout!(ext_acct), place)
    }

    /// The same for start and stop of the timestamps.
    #[inline(always)]
    fn times(self, place: *mut [u64; 2]) -> bool {
        self.words(layout!(ext_tstamp), place)
    }

    /// The same for the labels.
    #[inline(always)]
    fn labels(self, place: *mut [u64; 2]) -> bool {
        self.words(layout!(ext_labels), place)
    }

    /// Fills in all that the extensions say.
    ///
    /// # Safety
    /// `event` points to an event's memory, of which `flags` is set.
    #[inline(always)]
    pub unsafe fn describe(self, event: *mut Event) {
        // SAFETY: every write is to a field of the caller's event.
        unsafe {
            if self.counters((&raw mut (*event).counters).cast()) {
                (*event).flags |= EventFlags::COUNTERS;
            } else {
                zero::<4>((&raw mut (*event).counters).cast());
            }
            if !self.times((&raw mut (*event).start_ns).cast()) {
                zero::<2>((&raw mut (*event).start_ns).cast());
            }
            if !self.labels((&raw mut (*event).labels).cast()) {
                zero::<2>((&raw mut (*event).labels).cast());
            }
        }
    }

    /// Packets of both directions; 0 when the entry has no counters.
    #[inline(always)]
    pub fn packets(self) -> u64 {
        match self.position(layout!(ext_acct)) {
            0 => 0,
            position => {
                let [original, reply] = self.pair::<2>(position);
                original.wrapping_add(reply)
            }
        }
    }

    /// Both words of the labels in one, see [`joined_labels`]; 0 when the entry has none.
    #[inline(always)]
    pub fn labels_in_one(self) -> u64 {
        match self.position(layout!(ext_labels)) {
            0 => 0,
            position => {
                let [low, high] = self.pair::<1>(position);
                joined_labels(low, high)
            }
        }
    }

    /// The start stamp as it is in the kernel's memory now; 0 when the entry has none.
    #[inline(always)]
    pub fn start_now(self) -> u64 {
        let mut start = 0u64;
        let position = self.position(layout!(ext_tstamp));
        if position != 0 {
            read_into(&raw mut start, self.address + position);
        }
        start
    }

    /// Where an extension lies, 0 when the entry has none or the kernel does not know it ([`conntally_common::ABSENT`]).
    #[inline(always)]
    fn position(self, index: u32) -> u64 {
        if index >= 16 {
            return 0;
        }
        // SAFETY: the positions are the first 16 bytes of the block.
        unsafe { u64::from((&raw const (*self.tour).extensions).cast::<u8>().add(index as usize).read()) }
    }

    /// The word at a position and the one so many words further.
    #[inline(always)]
    fn pair<const FURTHER: usize>(self, position: u64) -> [u64; 2] {
        if position > 8 * (WORDS - 1 - FURTHER) as u64 {
            let address = self.address + position;
            return [read(address).unwrap_or(0), read(address + 8 * FURTHER as u64).unwrap_or(0)];
        }
        // SAFETY: the position was compared just now.
        unsafe {
            let from = (&raw const (*self.tour).extensions).cast::<u8>().add(position as usize).cast::<u64>();
            [from.read(), from.add(FURTHER).read()]
        }
    }

    #[inline(always)]
    fn words<const N: usize>(self, index: u32, place: *mut [u64; N]) -> bool {
        let position = self.position(index);
        if position == 0 {
            return false;
        }
        if position > LAST {
            return read_into(place, self.address + position);
        }
        let mut i = 0;
        while i < N {
            // SAFETY: the position was compared just now; no extension that is asked for has more than four words.
            unsafe {
                let from = (&raw const (*self.tour).extensions).cast::<u8>().add(position as usize);
                place.cast::<u64>().add(i).write(from.cast::<u64>().add(i).read());
            }
            i += 1;
        }
        true
    }
}
