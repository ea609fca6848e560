//! What outlives a process: flows and unwritten records in a directory, so that a restart bills no byte twice and
//! skips none. It knows the flow table and records; it knows no source and no output.
//!
//! [`Directory`] is locked and [`Directory::read`] tells of the [`Past`]; [`State`] then writes on. The files' layout
//! and why it suffices stand in `format.rs`.

mod copy;
mod directory;
mod error;
mod format;
mod keeper;
mod log;
mod past;
mod reader;
mod reading;
mod row;
#[cfg(test)]
mod tests;

pub use directory::Directory;
pub use error::StateError;
pub use keeper::{BATCH_RECORDS, Begin, State};
pub use past::{Damage, Flows, Found, MISSING, Past};
