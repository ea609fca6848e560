//! Lets aya carry the shared types to and from maps.
#![expect(unsafe_code, reason = "aya's marker trait for plain data is unsafe to implement")]

use conntally_common::{Clock, Control, Layout};

/// Plain data for aya: any bit pattern is a value, and there is no padding.
#[derive(Clone, Copy)]
#[repr(transparent)]
pub(super) struct Plain<T>(pub(super) T);

// SAFETY: `#[repr(C)]` without padding (asserted where it is defined), made of integers only.
unsafe impl aya::Pod for Plain<Layout> {}
// SAFETY: as above.
unsafe impl aya::Pod for Plain<Control> {}
// SAFETY: as above.
unsafe impl aya::Pod for Plain<Clock> {}
