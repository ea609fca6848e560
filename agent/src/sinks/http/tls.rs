//! Certificates from files.

use std::path::{Path, PathBuf};

use reqwest::{Certificate, ClientBuilder, Identity};

use super::TlsFiles;
use crate::config::resolve_credential;

/// Why certificates cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// A file cannot be read.
    #[error("cannot read {}: {error}; conntally needs to be allowed to read it", path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// What the system says.
        error: std::io::Error,
    },
    /// A file has no certificate.
    #[error("{} holds no certificate; it must be PEM, with a line -----BEGIN CERTIFICATE-----", path.display())]
    NoCertificate {
        /// The file.
        path: PathBuf,
    },
    /// Certificate and key make no identity.
    #[error("{} with its key is no client certificate: {reason}; both must be PEM, the key without a password", path.display())]
    NoIdentity {
        /// The file of the certificate.
        path: PathBuf,
        /// What is wrong.
        reason: String,
    },
    /// What was read was refused when it was put together.
    #[error("cannot set up TLS: {0}; see ca_file, client_cert_file and client_key_file")]
    Refused(String),
}

/// Has a client trust and show what the files say.
pub(super) fn apply(files: &TlsFiles, mut builder: ClientBuilder) -> Result<ClientBuilder, TlsError> {
    if let Some(path) = &files.ca {
        builder = builder.tls_built_in_root_certs(false);
        for certificate in authorities(path)? {
            builder = builder.add_root_certificate(certificate);
        }
    }
    match &files.certificate {
        Some(path) => Ok(builder.identity(identity(path, files.key.as_deref())?)),
        None => Ok(builder),
    }
}

fn authorities(path: &Path) -> Result<Vec<Certificate>, TlsError> {
    let found = Certificate::from_pem_bundle(&read(path)?).unwrap_or_default();
    if found.is_empty() {
        return Err(TlsError::NoCertificate { path: path.to_owned() });
    }
    Ok(found)
}

fn identity(certificate: &Path, key: Option<&Path>) -> Result<Identity, TlsError> {
    let mut pem = read(certificate)?;
    if let Some(key) = key {
        pem.push(b'\n');
        pem.extend(read(key)?);
    }
    Identity::from_pem(&pem).map_err(|error| TlsError::NoIdentity {
        path: certificate.to_owned(),
        reason: super::failure::chain(&error),
    })
}

fn read(path: &Path) -> Result<Vec<u8>, TlsError> {
    resolve_credential(path)
        .and_then(std::fs::read)
        .map_err(|error| TlsError::Unreadable { path: path.to_owned(), error })
}
