//! Certificates, right ones and wrong ones, made for one test.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::Result;
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair, date_time_ymd};
use rustls::ServerConfig;
use rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};

/// What is wrong with the certificate that a proxy shows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Certificate {
    /// Nothing, for a client that trusts its authority.
    Right,
    /// It was valid until some time ago.
    Expired,
    /// It is another host's.
    WrongName,
    /// Its authority is not the one in the file.
    Stranger,
}

/// The authority that clients are to trust, and what it issues.
#[derive(Debug)]
pub(super) struct Office {
    trusted: CertifiedIssuer<'static, KeyPair>,
    file: PathBuf,
}

impl Office {
    /// Opens one; its own certificate goes into a file below the folder.
    pub(super) fn open(folder: &Path) -> Result<Self> {
        let trusted = authority("trusted")?;
        let file = folder.join("authority.pem");
        fs::write(&file, trusted.pem())?;
        Ok(Self { trusted, file })
    }

    /// The file with its certificate.
    pub(super) fn file(&self) -> &Path {
        &self.file
    }

    /// A server's side with such a certificate.
    pub(super) fn issue(&self, certificate: Certificate) -> Result<Arc<ServerConfig>> {
        let stranger = authority("stranger")?;
        let issuer = if certificate == Certificate::Stranger { &stranger } else { &self.trusted };
        let names: &[_] = match certificate {
            Certificate::WrongName => &["elsewhere.test"],
            _ => &["127.0.0.1", super::NAME],
        };
        let mut of_server =
            CertificateParams::new(names.iter().map(|&name| name.to_owned()).collect::<Vec<_>>())?;
        of_server.not_before = date_time_ymd(2020, 1, 1);
        of_server.not_after =
            date_time_ymd(if certificate == Certificate::Expired { 2021 } else { 2099 }, 1, 1);
        let key = KeyPair::generate()?;
        let signed = of_server.signed_by(&key, issuer)?;
        let secret = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key.serialize_der()));
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let server = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()?
            .with_no_client_auth()
            .with_single_cert(vec![signed.der().clone()], secret)?;
        Ok(Arc::new(server))
    }
}

fn authority(name: &str) -> Result<CertifiedIssuer<'static, KeyPair>> {
    let mut of_authority = CertificateParams::new(Vec::new())?;
    of_authority.distinguished_name.push(rcgen::DnType::CommonName, name);
    of_authority.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    Ok(CertifiedIssuer::self_signed(of_authority, KeyPair::generate()?)?)
}
