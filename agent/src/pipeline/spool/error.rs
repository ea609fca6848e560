//! Why a spool cannot be used, and why it does not take a request.

use std::io;
use std::path::PathBuf;

/// Why a sink cannot start with this spool.
#[derive(Debug, thiserror::Error)]
pub enum SpoolError {
    /// Something cannot be made, read or locked.
    #[error("{what} {}; spool.dir must be a directory that only this sink writes to", path.display())]
    Directory {
        /// What was being done.
        what: &'static str,
        /// Where.
        path: PathBuf,
        /// What the system said.
        #[source]
        cause: io::Error,
    },
    /// Another process runs with it, or another sink.
    #[error("the spool {} is in use{by}; give each sink of each agent its own directory", path.display())]
    InUse {
        /// Which one.
        path: PathBuf,
        /// Who uses it, as far as it is known.
        by: String,
    },
    /// It holds requests that this sink cannot deliver.
    #[error(
        "{} holds requests for a sink of type {found}, and this one is of type {wanted}; let the old one deliver them, or \
         give this one another directory", path.display()
    )]
    OtherSink {
        /// The segment.
        path: PathBuf,
        /// Of the sink that wrote it.
        found: String,
        /// Of this sink.
        wanted: String,
    },
}

/// Why a request was not taken in.
#[derive(Debug, thiserror::Error)]
pub enum Refused {
    /// All room is in use.
    #[error("it holds max_bytes")]
    Full,
    /// No segment can hold it.
    #[error("the request is too large for it")]
    TooLarge,
    /// It cannot be written.
    #[error("{0}")]
    Disk(#[from] io::Error),
}
