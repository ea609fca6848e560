//! Requests on disk, until a server takes them: in their order, over a crash, within a limit.
//!
//! [`Store`] is the directory and waits for the disk; [`Spool`] is the same for a task. What lies in the files and what
//! holds of it stands in `docs/spool.md`.

mod access;
mod error;
mod format;
mod reader;
mod recovery;
mod seal;
mod segment;
mod store;
mod target;
#[cfg(test)]
mod tests;
mod unsynced;

pub use access::Spool;
pub use error::{Refused, SpoolError};
pub use segment::{Damaged, Ticket};
pub use store::{Recovered, Store};
pub use unsynced::Unsynced;
