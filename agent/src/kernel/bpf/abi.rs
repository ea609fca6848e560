//! Lets aya carry the shared types to and from maps.
#![expect(unsafe_code, reason = "aya's marker trait for plain data is unsafe to implement")]

use conntally_common::{Clock, Control, Event, Layout, Runs, Sum, Visit, Walk};

/// Plain data for aya: any bit pattern is a value, and there is no padding.
#[derive(Clone, Copy)]
#[repr(transparent)]
pub(super) struct Plain<T>(pub(super) T);

impl<T> Plain<T>
where
    Self: aya::Pod,
{
    /// The value as it lies in memory.
    pub(super) const fn bytes(&self) -> &[u8] {
        // SAFETY: plain data has no padding, and the slice borrows it.
        unsafe { std::slice::from_raw_parts((&raw const *self).cast(), size_of::<Self>()) }
    }
}

// SAFETY: `#[repr(C)]` without padding (asserted where it is defined), made of integers only.
unsafe impl aya::Pod for Plain<Layout> {}
// SAFETY: as above.
unsafe impl aya::Pod for Plain<Control> {}
// SAFETY: as above.
unsafe impl aya::Pod for Plain<Clock> {}
// SAFETY: as above.
unsafe impl aya::Pod for Plain<Event> {}
// SAFETY: as above.
unsafe impl aya::Pod for Plain<Runs> {}
// SAFETY: as above.
unsafe impl aya::Pod for Plain<Sum> {}
// SAFETY: as above.
unsafe impl aya::Pod for Plain<Visit> {}
// SAFETY: as above.
unsafe impl aya::Pod for Plain<Walk> {}
