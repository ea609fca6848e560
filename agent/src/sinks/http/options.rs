//! What a person can set about HTTP.

use std::path::PathBuf;
use std::time::Duration;

use crate::config::Section;

/// Longer than any name, handshake or proxy takes.
const LONGEST_CONNECT: Duration = Duration::from_secs(60);

/// How a sink speaks HTTP.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HttpOptions {
    /// How long connecting may take, names and TLS included.
    pub connect_timeout: Duration,
    /// Whether bodies are sent as gzip.
    pub compress: bool,
    /// Certificates.
    pub tls: TlsFiles,
}

impl Default for HttpOptions {
    fn default() -> Self {
        Self { connect_timeout: Duration::from_secs(5), compress: true, tls: TlsFiles::default() }
    }
}

impl HttpOptions {
    /// Reads the keys that all sinks have which speak HTTP.
    pub(crate) fn read(section: &mut Section<'_>) -> Self {
        let default = Self::default();
        Self {
            connect_timeout: section.duration("connect_timeout", default.connect_timeout, LONGEST_CONNECT),
            compress: section.boolean("compress", default.compress),
            tls: TlsFiles::read(section),
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

impl TlsFiles {
    fn read(section: &mut Section<'_>) -> Self {
        let files = Self {
            ca: section.path("ca_file"),
            certificate: section.path("client_cert_file"),
            key: section.path("client_key_file"),
        };
        if files.certificate.is_none()
            && files.key.is_some()
            && let Some(place) = section.place("client_key_file")
        {
            section.problem("client_key_file", &place, "is of no use without client_cert_file");
        }
        files
    }
}
