//! Why the state directory cannot be used.

use std::io;
use std::path::PathBuf;

/// Why an agent cannot start with this state directory.
#[derive(Debug, thiserror::Error)]
pub enum StateError {
    /// Something cannot be made, read or locked.
    #[error("{what} {}; state_dir must be a directory that only the agent writes to", path.display())]
    Directory {
        /// What was being done.
        what: &'static str,
        /// Where.
        path: PathBuf,
        /// What the system said.
        #[source]
        cause: io::Error,
    },
    /// Another agent runs with it.
    #[error("the state directory {} is in use{by}; give each agent its own", path.display())]
    InUse {
        /// Which one.
        path: PathBuf,
        /// Who uses it, as far as it is known.
        by: String,
    },
}
