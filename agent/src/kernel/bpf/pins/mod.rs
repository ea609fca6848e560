//! Kernel programs that outlive the agent: where they are, what is known of them, how they are removed.
//!
//! Each state directory has a directory of its own in a bpf file system, in which the links of its programs and all
//! their maps have names. Whoever uses it has locked it. The description is pinned last and removed first: without it
//! the rest is of no use. What detached programs left is set aside until it is kept.

mod description;
mod directory;
mod place;

pub(super) use description::{Board, Description, Told, constants_digest};
pub(super) use directory::map_at;
pub use directory::{PinDirectory, PinError, Removed};
pub use place::{Left, Place, are_left, left};
