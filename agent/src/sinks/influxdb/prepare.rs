//! What is done once before the first request: saying who answers, making what is missing.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use super::super::http::{Answer, Call, Client, Endpoint, Failure, Method};
use super::Target;
use super::api::{Api, ApiError};
use super::login::Login;

/// How much of an answer is read.
const LONGEST_ANSWER: usize = 64 << 10;

/// The preparation of a server. Only that nobody answers is a failure: what a token may not ask or make is left to the
/// write itself, which may be allowed nevertheless, and which says what is missing otherwise.
#[derive(Debug)]
pub(super) struct Preparation {
    name: String,
    target: Target,
    timeout: Duration,
    is_done: AtomicBool,
    /// The version that was told last.
    told: Mutex<Option<String>>,
    /// Somebody else tells of the same server.
    is_quiet: bool,
}

impl Preparation {
    pub(super) fn new(name: &str, target: Target, timeout: Duration) -> Self {
        let (name, is_done, told) = (name.to_owned(), AtomicBool::new(false), Mutex::default());
        Self { name, target, timeout, is_done, told, is_quiet: false }
    }

    /// Leaves it to somebody else to say which server answers.
    pub(super) const fn be_quiet(&mut self) {
        self.is_quiet = true;
    }

    /// What was there is gone: the next try makes it anew. Unless that is wanted, there is nothing to prepare again.
    pub(super) fn again(&self) {
        if let Target::Two { create: true, .. } | Target::One { create: true, .. } = &self.target {
            self.is_done.store(false, Ordering::Relaxed);
        }
    }

    /// Says which server answers, unless it was said of the same.
    fn tell(&self, version: &str, url: &Endpoint) {
        if self.is_news(version) {
            tracing::info!("sink {}: InfluxDB {version} answers at {url}", self.name);
        }
    }

    fn is_news(&self, version: &str) -> bool {
        if self.is_quiet {
            return false;
        }
        let mut told = self.told.lock().unwrap_or_else(PoisonError::into_inner);
        let is_news = told.as_deref() != Some(version);
        if is_news {
            *told = Some(version.to_owned());
        }
        is_news
    }

    /// Does it, unless it was done.
    ///
    /// # Errors
    /// When nobody answers.
    pub(super) async fn run(&self, client: &Client, login: &Login) -> Result<(), Failure> {
        if self.is_done.load(Ordering::Relaxed) {
            return Ok(());
        }
        let done = match &self.target {
            Target::Two { .. } => self.version_2(&self.api(client, login)?).await,
            Target::One { .. } => self.version_1(client, login).await,
            Target::Udp { .. } => Ok(()),
        };
        match done {
            Err(ApiError::NoAnswer(failure)) => return Err(failure),
            Err(ApiError::Refused(told)) => {
                tracing::debug!(
                    "sink {}: the server did not let itself be asked: {}",
                    self.name,
                    login.hide(&told)
                );
            }
            Ok(()) => {}
        }
        self.is_done.store(true, Ordering::Relaxed);
        Ok(())
    }

    fn api<'a>(&'a self, client: &'a Client, login: &'a Login) -> Result<Api<'a>, Failure> {
        let url = match &self.target {
            Target::Two { url, .. } | Target::One { url, .. } => url,
            Target::Udp { .. } => return Err(Failure { reason: "no HTTP".into(), in_doubt: false }),
        };
        Ok(Api::new(url, client, login, self.timeout))
    }

    async fn version_2(&self, api: &Api<'_>) -> Result<(), ApiError> {
        let Target::Two { url, org, bucket, create, .. } = &self.target else { return Ok(()) };
        let version = api.version().await?;
        self.tell(&version, url);
        let Some(id) = api.organization(org).await? else {
            tracing::debug!(
                "sink {}: organisation {org:?} is not there, or not to be seen by this token",
                self.name
            );
            return Ok(());
        };
        if *create && !api.has_bucket(&id, bucket).await? {
            match api.create_bucket(&id, bucket).await {
                Ok(()) => {
                    tracing::info!("sink {}: made bucket {bucket:?}, which keeps points for ever", self.name)
                }
                Err(ApiError::Refused(told)) => {
                    tracing::warn!("sink {}: cannot make bucket {bucket:?}: {}", self.name, api.hide(&told));
                }
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    async fn version_1(&self, client: &Client, login: &Login) -> Result<(), ApiError> {
        let Target::One { url, database, create, .. } = &self.target else { return Ok(()) };
        let ping = Call::get(url.at(&["ping"], &[]), login.header()?, LONGEST_ANSWER);
        let answer = client.send(ping).await?;
        let version = answer.header("x-influxdb-version").unwrap_or("of no known version");
        self.tell(version, url);
        if !create {
            return Ok(());
        }
        let query = format!("CREATE DATABASE \"{}\"", database.replace('\\', "\\\\").replace('"', "\\\""));
        let call = Call {
            method: Method::POST,
            url: url.at(&["query"], &[("q", &query)]),
            authorization: login.header()?,
            body: None,
            most: LONGEST_ANSWER,
        };
        let answer: Answer = client.send(call).await?;
        if !answer.is_success() || answer.text().contains("\"error\"") {
            let told = login.hide(&answer.said(&answer.text()));
            tracing::warn!("sink {}: cannot make database {database:?}: {told}", self.name);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Secret;

    #[test]
    fn a_server_is_told_of_once_until_another_version_answers() {
        let url = Endpoint::parse("http://127.0.0.1:1").unwrap();
        let (org, bucket, token) = ("o".into(), "b".into(), Secret::of("t"));
        let target = Target::Two { url, org, bucket, token, create: true };
        let mut preparation = Preparation::new("live", target, Duration::ZERO);
        let is_news =
            ["v2.7.11", "v2.7.11", "v2.7.12", "v2.7.12"].map(|version| preparation.is_news(version));
        assert_eq!(is_news, [true, false, true, false]);
        preparation.be_quiet();
        assert!(!preparation.is_news("v3"), "another one tells it");
    }
}
