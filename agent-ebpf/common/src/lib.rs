//! The binary interface between the kernel programs and the agent: events, slots, settings and counters.
//!
//! Both sides compile this file, so a change of layout is a change of both. Nothing here allocates, has an
//! `enum`, a `bool` or a `usize` field, or hidden padding: what one side writes the other can read as it is.
#![no_std]

mod event;
mod layout;
mod slot;
mod sweep;
mod tally;
mod walk;

pub use event::{Counter, EVENT_LAYOUT, Event, EventFlags, EventKind, KernelTuple, SELFTEST_ADDRESS};
pub use layout::{ABSENT, Layout};
pub use slot::{
    ANNOUNCE_BATCH, Bucket, CURVE_STEPS, Clock, Control, CurveStep, SLOTS_PER_BUCKET, Slot, Unannounced,
    bucket_index,
};
pub use sweep::{Runs, SHOWN_STATUS, SIGHTS, VISITS, Visit, VisitVerdict, joined_labels};
pub use tally::{LOSS_REASONS, LossReason, Sum, Tally};
pub use walk::{Walk, WalkState};
