//! What is asked of a cluster while it is set up, by the crate `elasticsearch`.
//!
//! It reads an answer whole, however long it is, which is why it delivers no records.

use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::time::Duration;

use elasticsearch::auth::{ClientCertificate, Credentials};
use elasticsearch::cert::{Certificate, CertificateValidation};
pub(super) use elasticsearch::http::Method;
use elasticsearch::http::headers::{AUTHORIZATION, HeaderMap};
use elasticsearch::http::request::JsonBody;
use elasticsearch::http::transport::{SingleNodeConnectionPool, Transport, TransportBuilder};
use serde_json::Value;

use super::super::Options;
use super::super::answer::{advised, refusal};
use super::super::credentials::Credentials as Login;
use super::SetupError;
use crate::config::resolve_credential;
use crate::sinks::http::{Endpoint, TlsFiles, with_advice};

/// Larger than any answer to what is asked here.
const LONGEST: u64 = 16 << 20;

/// A cluster, asked at the first of its nodes that can be reached.
pub(super) struct Api {
    nodes: Vec<(String, Transport)>,
    /// The one that answered last.
    current: AtomicUsize,
    login: Login,
}

/// What it answered.
#[derive(Debug)]
pub(super) struct Said {
    pub(super) status: u16,
    /// Whether it called itself Elasticsearch.
    pub(super) is_elasticsearch: bool,
    pub(super) body: Value,
    /// Its reason, if it refused; with what to check, if it does not know who asks.
    pub(super) refusal: String,
}

impl Said {
    pub(super) const fn is_success(&self) -> bool {
        matches!(self.status, 200..=299)
    }

    /// Whether it has no such interface at all.
    pub(super) fn lacks_interface(&self) -> bool {
        self.refusal.contains("no handler found") || self.status == 405
    }
}

impl Api {
    /// All nodes together have `timeout`, so that one which drops packets leaves time for the others.
    pub(super) fn new(options: &Options, timeout: Duration) -> Result<Self, SetupError> {
        let login = Login::new(&options.login);
        let timeout = timeout / u32::try_from(options.urls.len().max(1)).unwrap_or(u32::MAX);
        let mut nodes = Vec::new();
        for endpoint in &options.urls {
            nodes.push((endpoint.to_string(), transport(endpoint, options, &login, timeout)?));
        }
        Ok(Self { nodes, current: AtomicUsize::new(0), login })
    }

    /// Asks, and takes any answer.
    pub(super) async fn ask(
        &self,
        method: Method,
        path: &str,
        body: Option<&Value>,
    ) -> Result<Said, SetupError> {
        let mut unreachable = SetupError::Unreachable("no node is configured".into());
        let nodes = self.nodes.iter().enumerate().cycle().skip(self.current.load(Relaxed));
        for (at, (name, transport)) in nodes.take(self.nodes.len()) {
            let body = body.map(JsonBody::new);
            match transport.send(method, path, HeaderMap::new(), None::<&()>, body, None).await {
                Ok(response) => {
                    self.current.store(at, Relaxed);
                    return self.read(response).await;
                }
                Err(error) => {
                    unreachable = SetupError::Unreachable(format!("{name}: {}", with_advice(&chain(&error))));
                }
            }
        }
        Err(unreachable)
    }

    /// Asks, and takes only success.
    pub(super) async fn demand(
        &self,
        method: Method,
        path: &str,
        body: Option<&Value>,
    ) -> Result<Value, SetupError> {
        let said = self.ask(method, path, body).await?;
        if said.is_success() { Ok(said.body) } else { Err(refused(path, &said)) }
    }

    async fn read(&self, response: elasticsearch::http::response::Response) -> Result<Said, SetupError> {
        if response.content_length().is_some_and(|length| length > LONGEST) {
            return Err(SetupError::Unreachable("an answer is longer than any should be".into()));
        }
        let status = response.status_code().as_u16();
        let is_elasticsearch = response.headers().contains_key("x-elastic-product");
        let bytes = response.bytes().await.map_err(|error| SetupError::Unreachable(chain(&error)))?;
        let refusal =
            refusal(&bytes).unwrap_or_else(|| String::from_utf8_lossy(&bytes).chars().take(400).collect());
        let mut refusal = self.login.hide(refusal);
        if status == 401 {
            refusal = format!("{refusal}; {}", self.login.advice());
        }
        Ok(Said {
            status,
            is_elasticsearch,
            body: serde_json::from_slice(&bytes).unwrap_or_default(),
            refusal,
        })
    }
}

/// An answer that was no success, as an error.
pub(super) fn refused(path: &str, said: &Said) -> SetupError {
    let advice = match said.status {
        403 => {
            "; setting up needs the cluster privileges monitor, manage_index_templates and manage_ilm, and manage on the data stream"
        }
        _ => "",
    };
    SetupError::Refused {
        path: path.to_owned(),
        told: format!("status {}: {}{advice}", said.status, advised(&said.refusal)),
    }
}

fn transport(
    endpoint: &Endpoint,
    options: &Options,
    login: &Login,
    timeout: Duration,
) -> Result<Transport, SetupError> {
    let mut builder = TransportBuilder::new(SingleNodeConnectionPool::new(endpoint.at(&[], &[])))
        .timeout(timeout)
        .enable_meta_header(false);
    if let Some(header) = login.header().map_err(SetupError::Options)? {
        builder = builder.header(AUTHORIZATION, header);
    }
    builder = trusting(builder, &options.http.tls)?;
    builder.build().map_err(|error| SetupError::Options(chain(&error)))
}

fn trusting(mut builder: TransportBuilder, files: &TlsFiles) -> Result<TransportBuilder, SetupError> {
    if let Some(path) = &files.ca {
        let authority = Certificate::from_pem(&read(path)?)
            .map_err(|error| SetupError::Options(format!("{}: {}", path.display(), chain(&error))))?;
        builder = builder.cert_validation(CertificateValidation::Full(authority));
    }
    let Some(path) = &files.certificate else { return Ok(builder) };
    let mut pem = read(path)?;
    if let Some(key) = &files.key {
        pem.push(b'\n');
        pem.extend(read(key)?);
    }
    Ok(builder.auth(Credentials::Certificate(ClientCertificate::Pem(pem))))
}

fn read(path: &std::path::Path) -> Result<Vec<u8>, SetupError> {
    resolve_credential(path)
        .and_then(std::fs::read)
        .map_err(|error| SetupError::Options(format!("cannot read {}: {error}", path.display())))
}

fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(cause) = next {
        let cause_text = cause.to_string();
        if !text.contains(&cause_text) {
            text = format!("{text}: {cause_text}");
        }
        next = cause.source();
    }
    text
}
