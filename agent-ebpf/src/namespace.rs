//! Remembers which network namespace was met last, for programs that read many flows in a row.

use crate::{entry::Head, maps::NAMESPACE};

/// A network namespace: the value of the map `NAMESPACE`. Good for one run: within it the kernel frees no namespace that
/// a living flow belongs to.
#[repr(C)]
pub struct Namespace {
    /// Address of its `struct net`.
    address: u64,
    /// Its inode.
    inode: u64,
}

/// Forgets what an earlier run met.
#[inline(always)]
pub fn forget() {
    if let Some(known) = NAMESPACE.get_ptr_mut(0) {
        // SAFETY: the pointer is the map's value.
        unsafe { (*known).address = 0 };
    }
}

/// Inode of an entry's namespace.
#[inline(always)]
pub fn of(head: &Head) -> u32 {
    let Some(known) = NAMESPACE.get_ptr_mut(0) else { return head.netns() };
    let address = head.net();
    // SAFETY: the pointer is the map's value.
    unsafe {
        if (*known).address != address {
            (*known).inode = u64::from(head.netns());
            (*known).address = address;
        }
        (*known).inode as u32
    }
}
