//! The binary interface between the kernel programs and the agent: events, slots, settings and counters.
//!
//! Both sides compile this file, so a change of layout is a change of both. Nothing here allocates, has an
//! `enum`, a `bool` or a `usize` field, or hidden padding: what one side writes the other can read as it is.
#![no_std]

mod event;
mod layout;
mod loss;
mod slot;
mod sweep;
mod walk;

pub use event::{Counter, Event, EventFlags, EventKind, KernelTuple, SELFTEST_ADDRESS};
pub use layout::{ABSENT, Layout};
pub use loss::{LOSS_REASONS, LossReason};
pub use slot::{
    ANNOUNCE_BATCH, Bucket, CURVE_STEPS, Clock, Control, CurveStep, SLOTS_PER_BUCKET, Slot, Unannounced,
    bucket_index,
};
pub use sweep::{Runs, SHOWN_STATUS, SIGHTS, VISITS, Visit, VisitVerdict, joined_labels};
pub use walk::{Sum, Walk, WalkState};
