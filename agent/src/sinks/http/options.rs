//! What a person can set about HTTP.

use std::path::PathBuf;
use std::time::Duration;

/// How a sink speaks HTTP.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HttpOptions {
    /// How long connecting may take, names and TLS included.
    pub connect_timeout: Duration,
    /// How long a call may take until its answer is complete.
    pub request_timeout: Duration,
    /// Whether bodies are sent as gzip.
    pub compress: bool,
    /// Certificates.
    pub tls: TlsFiles,
}

impl Default for HttpOptions {
    fn default() -> Self {
        Self {
            connect_timeout: Duration::from_secs(5),
            request_timeout: Duration::from_secs(30),
            compress: true,
            tls: TlsFiles::default(),
        }
    }
}

/// Files in PEM.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TlsFiles {
    /// The authorities that may have signed the server's certificate, in place of the system's.
    pub ca: Option<PathBuf>,
    /// The client's certificate, and those between it and its authority.
    pub certificate: Option<PathBuf>,
    /// Its private key; `None` where it stands in the same file.
    pub key: Option<PathBuf>,
}
