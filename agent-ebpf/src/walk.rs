//! Walks the kernel's connection table and tells of every living flow of every namespace: the program `walk`.
//!
//! The table is read without its locks, as the kernel itself does in a lookup. An entry may be freed and used again
//! under the walk (the kernel allocates them typesafe by RCU): then its chain ends with the mark of another bucket, and
//! the bucket is walked again. A flow may be met twice, but none that lives all the while is passed over, unless its
//! bucket is longer than a run: then one that lies behind others which go between two runs may be.

use core::arch::asm;

use aya_ebpf::helpers::bpf_ktime_get_ns;
use conntally_common::{SIGHTS as SIGHTS_LEN, Walk, WalkState};

use crate::{
    entry::{Conntrack, Head, read, read_into},
    existing::{self, Telling},
    maps::{SIGHTS, WALK},
    tour::{self, Tour},
};

/// Steps of one run at most: few, because the verifier goes through each, which a start pays for. A step passes up to 16
/// buckets that are empty, and looks at one entry of the next.
const STEPS: u32 = 256;
/// A run takes no longer, plus the steps between two looks at the clock. The kernel runs it without preemption.
const BUDGET_NS: u64 = 300_000;
/// Steps between two looks at the clock.
const CLOCK_EVERY: u32 = 32;
/// Heads of buckets that are read at once.
const HEADS: usize = 16;
/// No bucket's number.
const NONE: u32 = u32::MAX;
/// Set in a pointer of a chain that leads to no entry but tells the bucket's number.
const NULLS: u64 = 1;

/// How often a run begins a bucket again for entries that cannot be read in one piece, before it passes over them.
const REPEATS: u32 = 8;

/// What [`walk_step`] returns.
const GO_ON: u32 = 0;
const STOP: u32 = 1;

/// The value of the map `WALK`.
#[repr(C)]
pub struct Walking {
    /// What user space sees.
    walk: Walk,
    tour: Tour,
    stride: Stride,
}

/// Where the walk stands within a run. No address of an entry is kept for the next run,
/// when it may be another's.
#[repr(C)]
pub struct Stride {
    /// The heads of 16 buckets.
    heads: [u64; HEADS],
    /// The next entry of the bucket; 0 between buckets.
    node: u64,
    /// The first of the buckets whose heads were read.
    first: u32,
    /// Entries of the bucket that lie behind.
    passed: u32,
    /// The bucket in which the run began.
    began: u32,
    /// How often the bucket at hand was walked again because an entry could not be read in one piece.
    repeats: u32,
}

/// Goes on where the run before stopped, until the steps, the time or the table are over.
#[inline(always)]
pub fn run() {
    let Some(walking) = WALK.get_ptr_mut(0) else { return };
    let started = now();
    // SAFETY: the pointer is the map's value.
    if !unsafe { begin(walking) } {
        return;
    }
    let mut steps = 0;
    while steps < STEPS {
        if steps % CLOCK_EVERY == CLOCK_EVERY - 1 && now() - started > BUDGET_NS {
            break;
        }
        if walk_step() != GO_ON {
            break;
        }
        steps += 1;
    }
    // SAFETY: as above.
    unsafe {
        let walk = &raw mut (*walking).walk;
        if (*walk).state == WalkState::COMPLETE && was_moved(walk) {
            (*walk).state = WalkState::RESIZED;
        }
        pause(walk, &raw const (*walking).stride, now() - started);
    }
}

/// Looks at the table anew; false when there is nothing to go on with.
///
/// # Safety
/// `walking` is the map's value.
#[inline(always)]
unsafe fn begin(walking: *mut Walking) -> bool {
    // SAFETY: the caller's promise.
    unsafe {
        let (walk, stride) = (&raw mut (*walking).walk, &raw mut (*walking).stride);
        (*walk).told = 0;
        if (*walk).state != WalkState::UNDER_WAY {
            return false;
        }
        tour::begin(&raw mut (*walking).tour);
        (*walk).state = find_table(walk);
        (*stride).node = 0;
        (*stride).first = NONE;
        (*stride).began = (*walk).bucket;
        (*stride).repeats = 0;
        (*walk).state == WalkState::UNDER_WAY
    }
}

/// Looks the table up before a walk's first run; before the others, whether it is still the same: then it is not freed
/// while the run lasts.
///
/// # Safety
/// `walk` lies in a map's value.
#[inline(always)]
unsafe fn find_table(walk: *mut Walk) -> u32 {
    // SAFETY: the caller's promise.
    unsafe {
        if (*walk).table != 0 {
            return if was_moved(walk) { WalkState::RESIZED } else { WalkState::UNDER_WAY };
        }
        let Some(generation) = read::<u32>((*walk).generation_pointer) else { return WalkState::UNREADABLE };
        let (Some(table), Some(size)) =
            (read::<u64>((*walk).table_pointer), read::<u32>((*walk).size_pointer))
        else {
            return WalkState::UNREADABLE;
        };
        if table == 0 || size == 0 {
            return WalkState::UNREADABLE;
        }
        (*walk).table = table;
        (*walk).size = size;
        // Odd while flows are moved: no walk begins with that.
        (*walk).generation = generation & !1;
        if was_moved(walk) { WalkState::RESIZED } else { WalkState::UNDER_WAY }
    }
}

/// Whether the kernel has moved flows to a table of another size since the walk began, or is moving them: it counts the
/// generation up before and after. The kernel's own lookups ask the same, of a flow that they did not find.
///
/// <https://github.com/torvalds/linux/blob/v6.12/net/netfilter/nf_conntrack_core.c#L2614>
///
/// # Safety
/// `walk` lies in a map's value.
#[inline(always)]
unsafe fn was_moved(walk: *const Walk) -> bool {
    // SAFETY: the caller's promise.
    unsafe { read::<u32>((*walk).generation_pointer) != Some((*walk).generation) }
}

/// Notes for the next run where this one stopped.
///
/// A bucket that was begun is walked again from its start, because entries may come and go before it, unless it is so
/// long that a run does not get through it.
///
/// # Safety
/// Both pointers lie in the map's value.
#[inline(always)]
unsafe fn pause(walk: *mut Walk, stride: *const Stride, took_ns: u64) {
    // SAFETY: the caller's promise.
    unsafe {
        let is_long = (*stride).node != 0 && (*stride).began == (*walk).bucket;
        (*walk).skip = if is_long { (*stride).passed } else { 0 };
        (*walk).runs += 1;
        (*walk).spent_ns += took_ns;
        (*walk).longest_ns = (*walk).longest_ns.max(took_ns);
    }
}

/// One step: to the next entry, and a look at it. A global function: verified once, not once for each call.
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn walk_step() -> u32 {
    let Some(walking) = WALK.get_ptr_mut(0) else { return STOP };
    // SAFETY: the pointer is the map's value.
    unsafe {
        let (walk, stride) = (&raw mut (*walking).walk, &raw mut (*walking).stride);
        let mut state = WalkState::UNDER_WAY;
        if (*stride).node == 0 {
            state = enter_bucket(walk, stride);
        }
        if (*stride).node != 0 {
            state = look_at_entry(walking);
        }
        let has_room = (*walk).told < SIGHTS_LEN;
        if state == WalkState::UNDER_WAY && has_room {
            return GO_ON;
        }
        (*walk).state = state;
        STOP
    }
}

/// Goes to the next bucket that is not empty, within the heads that are read at once.
///
/// # Safety
/// Both pointers lie in the map's value.
#[inline(always)]
unsafe fn enter_bucket(walk: *mut Walk, stride: *mut Stride) -> u32 {
    // SAFETY: the caller's promise.
    unsafe {
        let (bucket, size) = ((*walk).bucket, (*walk).size);
        if bucket >= size {
            return WalkState::COMPLETE;
        }
        let mut place = bucket % HEADS as u32;
        let first = bucket - place;
        if (*stride).first != first {
            if !read_into(&raw mut (*stride).heads, (*walk).table + u64::from(first) * 8) {
                return WalkState::UNREADABLE;
            }
            (*stride).first = first;
        }
        while place < HEADS as u32 {
            let head = head_at(stride, place);
            if head & NULLS == 0 && first + place < size {
                (*walk).bucket = first + place;
                (*stride).node = head;
                (*stride).passed = 0;
                return if head == 0 { WalkState::UNREADABLE } else { WalkState::UNDER_WAY };
            }
            place += 1;
        }
        (*walk).bucket = first + HEADS as u32;
        WalkState::UNDER_WAY
    }
}

/// One of the heads that were read at once.
///
/// The place is hidden from the compiler, which would keep a moving pointer instead, whose bounds the verifier loses.
///
/// # Safety
/// `stride` is the map's value.
#[inline(always)]
unsafe fn head_at(stride: *const Stride, place: u32) -> u64 {
    let mut index = u64::from(place);
    // SAFETY: changes nothing.
    unsafe { asm!("{0} &= 15", inout(reg) index) };
    // SAFETY: the caller's promise; there are 16 heads.
    unsafe { (&raw const (*stride).heads).cast::<u64>().add(index as usize).read() }
}

/// Tells of the entry if it stands for a living flow, and goes to the next one.
///
/// An entry has two nodes, one for each direction. The reply's node is told by the direction beside it; what else would
/// be read through it means nothing.
///
/// # Safety
/// `walking` is the map's value.
#[inline(always)]
unsafe fn look_at_entry(walking: *mut Walking) -> u32 {
    // SAFETY: the caller's promise.
    unsafe {
        let (walk, stride) = (&raw mut (*walking).walk, &raw mut (*walking).stride);
        let conntrack = Conntrack::of_node((*stride).node);
        let mut head = Head::room();
        if !head.copy_node(conntrack) {
            return WalkState::UNREADABLE;
        }
        if (*stride).passed >= (*walk).skip && head.is_original() && !tell(walking, conntrack, &mut head) {
            (*walk).torn += 1;
            if (*stride).repeats < REPEATS {
                (*stride).repeats += 1;
                repeat(walk, stride);
                return WalkState::UNDER_WAY;
            }
        }
        let next = head.next();
        (*stride).passed += 1;
        go_to(walk, stride, next);
    }
    WalkState::UNDER_WAY
}

/// Tells of an entry if it lives; false if it did when its reading began, and not any more when it was over.
///
/// # Safety
/// As for [`look_at_entry`].
#[inline(always)]
unsafe fn tell(walking: *mut Walking, conntrack: Conntrack, head: &mut Head) -> bool {
    // SAFETY: the caller's promise.
    unsafe {
        if !head.copy_behind_node(conntrack) || !head.is_live() {
            return true;
        }
        let walk = &raw mut (*walking).walk;
        let Some(event) = SIGHTS.get_ptr_mut((*walk).told) else { return false };
        let telling = existing::tell(conntrack, head, &raw mut (*walking).tour, event);
        if telling == Telling::Told {
            (*walk).flows += 1;
            (*walk).told += 1;
        }
        telling != Telling::Torn
    }
}

/// Walks the bucket again from its start.
///
/// # Safety
/// Both pointers lie in the map's value.
#[inline(always)]
unsafe fn repeat(walk: *mut Walk, stride: *mut Stride) {
    // SAFETY: the caller's promise.
    unsafe {
        (*walk).skip = 0;
        (*stride).node = 0;
        (*stride).first = NONE;
    }
}

/// # Safety
/// Both pointers lie in the map's value.
#[inline(always)]
unsafe fn go_to(walk: *mut Walk, stride: *mut Stride, next: u64) {
    // SAFETY: the caller's promise.
    unsafe {
        if next & NULLS == 0 && next != 0 {
            (*stride).node = next;
            return;
        }
        if next == u64::from((*walk).bucket) << 1 | NULLS {
            (*stride).node = 0;
            (*walk).skip = 0;
            (*walk).bucket += 1;
            (*stride).repeats = 0;
        } else {
            (*walk).repeated += 1;
            repeat(walk, stride);
        }
    }
}

#[inline(always)]
fn now() -> u64 {
    // SAFETY: the helper only reads a clock.
    unsafe { bpf_ktime_get_ns() }
}
