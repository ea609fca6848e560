//! What a person can set about this sink.

use std::path::PathBuf;
use std::time::Duration;

use super::{Counters, DataStream, Login};
use crate::sinks::http::{Endpoint, HttpOptions};

/// Where refused documents are kept by default, one file for each sink.
const REJECTED_DIRECTORY: &str = "/var/lib/conntally";

/// How a cluster is delivered to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Options {
    /// Its nodes.
    pub urls: Vec<Endpoint>,
    /// How the agent shows who it is.
    pub login: Login,
    /// Certificates, compression, timeouts.
    pub http: HttpOptions,
    /// Where documents go.
    pub stream: DataStream,
    /// Which figures readers sum.
    pub counters: Counters,
    /// Whether the agent installs template and retention at its start.
    pub setup: bool,
    /// How long documents are kept; for ever if `None`.
    pub retention: Option<Duration>,
    /// Where refused documents are kept, if not in a file named after the sink.
    pub rejected_file: Option<PathBuf>,
    /// How large that file becomes; one older one is kept.
    pub rejected_bytes: u32,
}

impl Options {
    /// The defaults for a cluster.
    #[must_use]
    pub fn new(urls: Vec<Endpoint>) -> Self {
        Self {
            urls,
            login: Login::None,
            http: HttpOptions::default(),
            stream: DataStream::of("default"),
            counters: Counters::Total,
            setup: false,
            retention: Some(Duration::from_secs(30 * 86_400)),
            rejected_file: None,
            rejected_bytes: 16 << 20,
        }
    }

    /// Where refused documents of the sink of that name are kept.
    pub(super) fn rejected_file(&self, sink: &str) -> PathBuf {
        let default = || PathBuf::from(REJECTED_DIRECTORY).join(format!("{sink}-rejected.ndjson"));
        self.rejected_file.clone().unwrap_or_else(default)
    }
}
