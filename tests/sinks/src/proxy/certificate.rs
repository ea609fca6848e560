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

/// A server's side, and the file with the authority that a client is to trust.
#[derive(Clone, Debug)]
pub(super) struct Identity {
    pub(super) server: Arc<ServerConfig>,
    pub(super) authority: PathBuf,
}

impl Certificate {
    /// Makes it; the authority's certificate goes into a file below the folder.
    pub(super) fn issue(self, folder: &Path) -> Result<Identity> {
        let trusted = authority("trusted")?;
        let path = folder.join("authority.pem");
        fs::write(&path, trusted.pem())?;
        let issuer = if self == Self::Stranger { authority("stranger")? } else { trusted };
        let name = if self == Self::WrongName { "elsewhere.test" } else { "127.0.0.1" };
        let mut of_server = CertificateParams::new(vec![name.to_owned()])?;
        of_server.not_before = date_time_ymd(2020, 1, 1);
        of_server.not_after = date_time_ymd(if self == Self::Expired { 2021 } else { 2099 }, 1, 1);
        let key = KeyPair::generate()?;
        let certificate = of_server.signed_by(&key, &issuer)?;
        let secret = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key.serialize_der()));
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let server = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()?
            .with_no_client_auth()
            .with_single_cert(vec![certificate.der().clone()], secret)?;
        Ok(Identity { server: Arc::new(server), authority: path })
    }
}

fn authority(name: &str) -> Result<CertifiedIssuer<'static, KeyPair>> {
    let mut of_authority = CertificateParams::new(Vec::new())?;
    of_authority.distinguished_name.push(rcgen::DnType::CommonName, name);
    of_authority.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    Ok(CertifiedIssuer::self_signed(of_authority, KeyPair::generate()?)?)
}
