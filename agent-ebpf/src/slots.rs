//! The slot table: which flows are live, when each was met, when each may speak next.
//!
//! A bucket is changed by several CPUs without a lock. The worst that a race does is that a flow loses its slot;
//! its next packet then takes another. No race makes a flow inherit another's deadline for good, because a slot
//! is set anew when a flow appears and cleared when it ends.

use core::arch::asm;

use conntally_common::{Bucket, SLOTS_PER_BUCKET, Slot, bucket_index};

use crate::{
    entry::Conntrack,
    maps::{BUCKET_BITS, SLOTS, constant},
    speak::{ANNOUNCED, MIDLIFE},
};

/// Where the last slot of a bucket begins.
const LAST_SLOT: u64 = (size_of::<Bucket>() - size_of::<Slot>()) as u64;

/// How long a program may be stopped between two of its steps, where a virtual CPU is: jiffies, of which a second has
/// 100 to 1,000.
const MOMENT: i32 = 1_000;

/// The bucket of an entry.
#[inline(always)]
pub fn bucket(conntrack: Conntrack) -> Option<*mut Bucket> {
    SLOTS.get_ptr_mut(bucket_index(conntrack.low_half(), constant(&BUCKET_BITS)))
}

/// The slot of an entry in its bucket.
#[inline(always)]
pub fn find(bucket: *mut Bucket, conntrack: Conntrack) -> Option<*mut Slot> {
    find_address(bucket, conntrack.0)
}

/// The same for programs that go on with the slot for long: the verifier follows them once, not once for each of the
/// places that the slot may have.
#[inline(always)]
pub fn find_any(bucket: *mut Bucket, conntrack: Conntrack) -> Option<*mut Slot> {
    find_address(bucket, conntrack.0).and_then(|slot| forget_place(bucket, slot))
}

/// The slot that an entry has, or else a free one. `None` when the bucket is full.
///
/// The entry's own is looked for last: the first look at a bucket takes long when its memory is not at hand, so that a
/// program is likely to be preempted there, and the entry may have got a slot when it goes on.
#[inline(always)]
pub fn own_or_free(bucket: *mut Bucket, conntrack: Conntrack) -> Option<*mut Slot> {
    let free = find_address(bucket, 0);
    let slot = find_address(bucket, conntrack.0).or(free)?;
    forget_place(bucket, slot)
}

/// Gives an entry a free slot. `None` when the bucket is full.
#[inline(always)]
pub fn claim_free(
    bucket: *mut Bucket,
    conntrack: Conntrack,
    born_ns: u64,
    due: u32,
    flags: u32,
) -> Option<*mut Slot> {
    let slot = forget_place(bucket, find_address(bucket, 0)?)?;
    fill(slot, conntrack, born_ns, due, flags);
    Some(slot)
}

/// Gives a free slot to an entry that nobody met before it is deleted, with who does so; its birth stays unknown.
///
/// The last free one, as all others take the first: whoever meets the entry at this very moment takes another slot, and
/// [`release`] brings the two together.
#[inline(always)]
pub fn claim_deleted(bucket: *mut Bucket, conntrack: Conntrack, who: u8, now: u32) {
    let mut i = SLOTS_PER_BUCKET;
    while i > 0 {
        i -= 1;
        // SAFETY: the bucket is a map value with this many slots. Volatile, because other CPUs write it.
        let slot = unsafe { (&raw mut (*bucket).slots).cast::<Slot>().add(i) };
        // SAFETY: as above.
        if unsafe { (&raw const (*slot).conntrack).read_volatile() } == 0 {
            return fill(slot, conntrack, 0, now, u32::from(who) << (8 * FlagByte::Deleted as u32));
        }
    }
}

/// What [`claim_deleted`] left in an entry's slot, if that was a moment ago, or on another CPU a moment later than `now`;
/// else it is of an earlier entry, whose end the kernel skipped.
#[inline(always)]
pub fn deletion(slot: *const Slot, now: u32) -> u32 {
    // SAFETY: the slot lies in a map value. Volatile, because others write it.
    let (born_ns, claimed, word) = unsafe {
        (born_ns(slot), (&raw const (*slot).due).read_volatile(), (&raw const (*slot).flags).read_volatile())
    };
    if born_ns == 0 && (now.wrapping_sub(claimed) as i32) < MOMENT {
        word & 0xff << (8 * FlagByte::Deleted as u32)
    } else {
        0
    }
}

/// When the flow was met. Another program that met it at the same moment may have set the slot since this one did.
#[inline(always)]
pub fn born_ns(slot: *const Slot) -> u64 {
    // SAFETY: the slot lies in a map value. Volatile, because others write it.
    unsafe { (&raw const (*slot).born_ns).read_volatile() }
}

/// All flags of a slot. Each byte of the word has a writer of its own, so that CPUs which set a flag at the same moment
/// do not undo each other's: the first byte is given with the slot, the others are [`set_flag`]'s.
#[inline(always)]
pub fn flags(slot: *const Slot) -> u32 {
    // SAFETY: the slot lies in a map value. Volatile, because other CPUs write it.
    let word = unsafe { (&raw const (*slot).flags).read_volatile() };
    (word | word >> 8 | word >> 16) & 0xff
}

/// Who sets a flag of a living flow, which is the place of its byte.
#[derive(Clone, Copy)]
pub enum FlagByte {
    /// Whoever gives the slot.
    Given = 0,
    /// Whoever submits an event.
    Announced = 1,
    /// Whoever sees the entry deleted.
    Deleted = 2,
}

/// Sets a flag, which replaces what the same writer set before.
#[inline(always)]
pub fn set_flag(slot: *mut Slot, byte: FlagByte, flag: u8) {
    // SAFETY: the slot lies in a map value, and the word has four bytes.
    unsafe { (&raw mut (*slot).flags).cast::<u8>().add(byte as usize).write_volatile(flag) };
}

/// Sets a slot, in this order. The address goes last: a slot that can be found is complete.
#[inline(always)]
pub fn fill(slot: *mut Slot, conntrack: Conntrack, born_ns: u64, due: u32, flags: u32) {
    // SAFETY: the slot lies in a map value.
    unsafe {
        (&raw mut (*slot).born_ns).write_volatile(born_ns);
        (&raw mut (*slot).flags).write_volatile(flags);
        (&raw mut (*slot).due).write_volatile(due);
        (&raw mut (*slot).conntrack).write_volatile(conntrack.0);
    }
}

/// Frees every slot that an entry has, and returns when it was met and its flags. Two CPUs that met a flow at the
/// same moment may each have given it one.
#[inline(always)]
pub fn release(bucket: *mut Bucket, conntrack: Conntrack) -> (u64, u32) {
    let mut found = (0, 0);
    let mut i = 0;
    while i < SLOTS_PER_BUCKET {
        // SAFETY: the bucket is a map value with this many slots. Volatile, because other CPUs write it.
        unsafe {
            let slot = (&raw mut (*bucket).slots).cast::<Slot>().add(i);
            if (&raw const (*slot).conntrack).read_volatile() == conntrack.0 {
                let (born_ns, flags) = ((*slot).born_ns, flags(slot));
                // The one that user space heard of; what either CPU saw of the end counts.
                let is_heard = flags & ANNOUNCED > found.1 & ANNOUNCED;
                found = if found.0 == 0 || is_heard {
                    (born_ns, flags | found.1 & !MIDLIFE)
                } else {
                    (found.0, found.1 | flags & !MIDLIFE)
                };
                (&raw mut (*slot).conntrack).write_volatile(0);
            }
        }
        i += 1;
    }
    found
}

/// Whether another flow could get a slot of this bucket.
#[inline(always)]
pub fn has_room(bucket: *mut Bucket) -> bool {
    find_address(bucket, 0).is_some()
}

/// The slot by a distance from its bucket that the verifier knows no more of than that it lies within: so the ways that
/// led to the four slots become one. The difference of two pointers is any number to it; in assembly, because the
/// compiler knows better.
#[inline(always)]
fn forget_place(bucket: *mut Bucket, slot: *mut Slot) -> Option<*mut Slot> {
    let mut distance = slot as u64;
    // SAFETY: subtracts two registers.
    unsafe { asm!("{0} -= {1}", inout(reg) distance, in(reg) bucket) };
    if distance > LAST_SLOT {
        return None;
    }
    // SAFETY: the distance is that of a slot of the bucket.
    Some(unsafe { bucket.cast::<u8>().add(distance as usize).cast() })
}

#[inline(always)]
fn find_address(bucket: *mut Bucket, address: u64) -> Option<*mut Slot> {
    let mut i = 0;
    while i < SLOTS_PER_BUCKET {
        // SAFETY: the bucket is a map value with this many slots. Volatile, because other CPUs write it.
        let slot = unsafe { (&raw mut (*bucket).slots).cast::<Slot>().add(i) };
        // SAFETY: as above.
        if unsafe { (&raw const (*slot).conntrack).read_volatile() } == address {
            return Some(slot);
        }
        i += 1;
    }
    None
}
