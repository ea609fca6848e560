//! Health, organisations and buckets of InfluxDB 2.
//!
//! The crate `influxdb2` asks where it can: it has no TLS here and drops the path of an address. Elsewhere its types go
//! over the client that all sinks share.

use std::time::Duration;

use influxdb2::api::buckets::ListBucketsRequest;
use influxdb2::api::organization::ListOrganizationRequest;
use influxdb2::models::{Buckets, HealthCheck, Organizations, PostBucketRequest};
use influxdb2::{ClientBuilder, RequestError};
use serde::de::DeserializeOwned;

use super::super::http::{Answer, Call, Client, Endpoint, Failure, Method, explain};
use super::login::Login;

/// How much of an answer is read.
const LONGEST_ANSWER: usize = 1 << 20;

/// Why something was not told or done.
#[derive(Debug)]
pub(super) enum ApiError {
    /// Nobody answered.
    NoAnswer(Failure),
    /// The server's words.
    Refused(String),
}

impl From<Failure> for ApiError {
    fn from(failure: Failure) -> Self {
        Self::NoAnswer(failure)
    }
}

/// A server that can be asked.
pub(super) struct Api<'a> {
    url: &'a Endpoint,
    client: &'a Client,
    login: &'a Login,
    timeout: Duration,
    /// Where it can be used.
    foreign: Option<influxdb2::Client>,
}

impl<'a> Api<'a> {
    pub(super) fn new(url: &'a Endpoint, client: &'a Client, login: &'a Login, timeout: Duration) -> Self {
        let can_be_used = !url.is_tls() && !url.has_base_path();
        let foreign =
            can_be_used.then(|| ClientBuilder::new(url.to_string(), "", login.reveal()).build().ok());
        Self { url, client, login, timeout, foreign: foreign.flatten() }
    }

    /// The version that the server says it is.
    pub(super) async fn version(&self) -> Result<String, ApiError> {
        let health: HealthCheck = match &self.foreign {
            Some(client) => self.wait(client.health()).await?,
            None => self.get(&["health"], &[]).await?,
        };
        Ok(health.version.unwrap_or_else(|| "of no known version".into()))
    }

    /// The id of an organisation; `None` if it is not there, or not to be seen.
    pub(super) async fn organization(&self, name: &str) -> Result<Option<String>, ApiError> {
        let request = ListOrganizationRequest { org: Some(name.to_owned()), ..Default::default() };
        let found: Organizations = match &self.foreign {
            Some(client) => self.wait(client.list_organizations(request)).await?,
            None => self.get(&["api", "v2", "orgs"], &[("org", name)]).await?,
        };
        Ok(found.orgs.into_iter().find(|org| org.name == name).and_then(|org| org.id))
    }

    /// Whether a bucket is there.
    pub(super) async fn has_bucket(&self, org: &str, name: &str) -> Result<bool, ApiError> {
        let request = ListBucketsRequest {
            name: Some(name.to_owned()),
            org_id: Some(org.to_owned()),
            ..ListBucketsRequest::default()
        };
        let found: Result<Buckets, _> = match &self.foreign {
            Some(client) => self.wait(client.list_buckets(Some(request))).await,
            None => self.get(&["api", "v2", "buckets"], &[("name", name), ("orgID", org)]).await,
        };
        match found {
            Ok(found) => Ok(found.buckets.iter().any(|bucket| bucket.name == name)),
            // Some versions answer by 404.
            Err(ApiError::Refused(told)) if told.contains("not found") => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// Makes a bucket that keeps points for ever.
    pub(super) async fn create_bucket(&self, org: &str, name: &str) -> Result<(), ApiError> {
        let request = PostBucketRequest::new(org.to_owned(), name.to_owned());
        if let Some(client) = &self.foreign {
            return self.wait(client.create_bucket(Some(request))).await;
        }
        let body = serde_json::to_vec(&request).map_err(|error| ApiError::Refused(error.to_string()))?;
        let call = Call {
            method: Method::POST,
            url: self.url.at(&["api", "v2", "buckets"], &[]),
            authorization: self.login.header()?,
            body: Some(("application/json", &body)),
            most: LONGEST_ANSWER,
        };
        succeeded(self.client.send(call).await?).map(|_| ())
    }

    /// What the server said, without the secret.
    pub(super) fn hide(&self, told: &str) -> String {
        self.login.hide(told)
    }

    async fn get<T: DeserializeOwned>(&self, path: &[&str], query: &[(&str, &str)]) -> Result<T, ApiError> {
        let call = Call::get(self.url.at(path, query), self.login.header()?, LONGEST_ANSWER);
        let answer = succeeded(self.client.send(call).await?)?;
        serde_json::from_slice(&answer.body).map_err(|error| ApiError::Refused(error.to_string()))
    }

    /// Waits no longer than a call may take; the crate would for ever.
    async fn wait<T>(&self, asked: impl Future<Output = Result<T, RequestError>>) -> Result<T, ApiError> {
        let failed = |reason| ApiError::NoAnswer(Failure { reason, in_doubt: false });
        match tokio::time::timeout(self.timeout, asked).await {
            Ok(Ok(answer)) => Ok(answer),
            Ok(Err(RequestError::ReqwestProcessing { source })) if !source.is_decode() => {
                Err(failed(self.hide(&explain(&source.without_url()))))
            }
            Ok(Err(RequestError::Http { status, text })) => {
                Err(ApiError::Refused(format!("{status}: {text}")))
            }
            Ok(Err(error)) => Err(ApiError::Refused(error.to_string())),
            Err(_) => Err(failed("no answer within the timeout".into())),
        }
    }
}

fn succeeded(answer: Answer) -> Result<Answer, ApiError> {
    if answer.is_success() { Ok(answer) } else { Err(ApiError::Refused(answer.said(&answer.text()))) }
}
