//! From totals to deltas: observations enter, records leave.
//!
//! The [`FlowTable`] owns a flow's life. It knows no source, no sink and no system call; time comes in through
//! [`WallClock`], identity is a pure function of what the kernel says ([`identity`]).

pub mod clock;

pub mod identity;

pub mod community_id;

mod sha1;
#[cfg(target_arch = "x86_64")]
mod sha1_lanes;

mod nat;

mod state;

mod strangers;

mod saved;

mod matching;

mod chunks;

mod slab;

mod wheel;

mod options;

mod books;

mod table;

mod usual;

mod due;

mod forgetting;

mod look;

#[cfg(test)]
mod tests;

pub use crate::model::Anchor;
pub use books::Books;
pub use clock::WallClock;
pub use community_id::CommunityId;
pub use nat::nat_kind;
pub use options::{FlowTableOptions, Visits, Wanted};
pub use saved::SavedFlow;
pub(crate) use table::LATE_BATCHES;
pub use table::{FlowTable, FlowTableStats};
