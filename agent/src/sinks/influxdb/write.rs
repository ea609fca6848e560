//! Requests over HTTP.

use std::ops::Range;
use std::time::Duration;

use super::super::http::{Answer, Call, Client, Failure, Method, TlsError, Url};
use super::login::Login;
use super::prepare::Preparation;
use super::verdict::{Verdict, verdict};
use super::{Options, Target};
use crate::pipeline::{GivenUp, Outcome, Request};

/// What is read of an answer, beside the lines that it repeats.
const LONGEST_ANSWER: usize = 64 << 10;

/// A server that is written to.
#[derive(Debug)]
pub(super) struct Writer {
    client: Client,
    url: Url,
    login: Login,
    preparation: Preparation,
}

impl Writer {
    /// `None` for a target that is not written to by HTTP.
    ///
    /// # Errors
    /// When certificates cannot be used.
    pub(super) fn new(name: &str, options: &Options, timeout: Duration) -> Result<Option<Self>, TlsError> {
        let (url, login) = match &options.target {
            Target::Udp { .. } => return Ok(None),
            Target::Two { url, org, bucket, token, .. } => {
                let query = [("org", org.as_str()), ("bucket", bucket.as_str()), ("precision", "ns")];
                (url.at(&["api", "v2", "write"], &query), Login::token(token.clone()))
            }
            Target::One { url, database, retention_policy, login, .. } => {
                let mut query = vec![("db", database.as_str()), ("precision", "ns")];
                query.extend(retention_policy.as_deref().map(|policy| ("rp", policy)));
                (url.at(&["write"], &query), Login::user(login.clone()))
            }
        };
        let client = Client::new(&options.http, timeout)?;
        let preparation = Preparation::new(name, options.target.clone(), timeout);
        Ok(Some(Self { client, url, login, preparation }))
    }

    /// Leaves it to another writer to the same server to say which it is.
    pub(super) const fn be_quiet(&mut self) {
        self.preparation.be_quiet();
    }

    /// Tries once to write all; lines that the server cannot read are looked for by writing the others.
    pub(super) async fn deliver(&self, request: &Request) -> Outcome {
        if let Err(failure) = self.preparation.run(&self.client, &self.login).await {
            return self.not_now(&failure);
        }
        let lines: Vec<&[u8]> = (0..request.items.len()).filter_map(|at| request.piece(at)).collect();
        if lines.is_empty() {
            return Outcome::Delivered;
        }
        match self.attempt(&request.body, &lines).await {
            Verdict::Known(outcome) => outcome,
            Verdict::Search { reason } => self.search(&lines, &reason).await,
        }
    }

    /// Writes halves of what has a bad line until each bad line is alone. Lines that are written twice thereby are the
    /// same points.
    async fn search(&self, lines: &[&[u8]], reason: &str) -> Outcome {
        let (mut again, mut given_up, mut wait) = (Vec::new(), Vec::new(), None);
        let mut why = String::new();
        let mut ranges = halves(0..lines.len(), reason, &mut given_up);
        while let Some(range) = ranges.pop() {
            let part = lines.get(range.clone()).unwrap_or_default();
            match self.attempt(&part.concat(), part).await {
                Verdict::Known(Outcome::Delivered) => {}
                Verdict::Known(Outcome::Partly { again: more, reason, given_up: gone, .. }) => {
                    why = reason;
                    again.extend(more.into_iter().map(|at| at + range.start));
                    let shifted = |gone: GivenUp| GivenUp { position: gone.position + range.start, ..gone };
                    given_up.extend(gone.into_iter().map(shifted));
                }
                Verdict::Known(Outcome::NotNow { reason, retry_after, .. }) => {
                    (why, wait) = (reason, retry_after);
                    again.extend(range);
                    again.extend(ranges.drain(..).flatten());
                }
                Verdict::Known(Outcome::TooLarge { reason } | Outcome::NoAnswer { reason }) => {
                    why = reason;
                    again.extend(range);
                }
                Verdict::Search { reason } => ranges.extend(halves(range, &reason, &mut given_up)),
            }
        }
        Outcome::Partly { again, reason: why, given_up, retry_after: wait }
    }

    /// Says which server it is of that there is no answer.
    fn not_now(&self, failure: &Failure) -> Outcome {
        let reason = format!("{}: {}", self.url.origin().ascii_serialization(), failure.reason);
        Outcome::NotNow { reason, retry_after: None, in_doubt: failure.in_doubt }
    }

    /// One request and what it means.
    async fn attempt(&self, body: &[u8], lines: &[&[u8]]) -> Verdict {
        match self.call(body).await {
            Err(failure) => Verdict::Known(self.not_now(&failure)),
            Ok(answer) => {
                match answer.status {
                    401 => self.login.refused(),
                    404 => self.preparation.again(),
                    _ => {}
                }
                verdict(&answer, lines, |told| self.login.hide(told), self.login.advice())
            }
        }
    }

    async fn call(&self, body: &[u8]) -> Result<Answer, Failure> {
        let call = Call {
            method: Method::POST,
            url: self.url.clone(),
            authorization: self.login.header()?,
            body: Some(("text/plain; charset=utf-8", body)),
            most: LONGEST_ANSWER + 2 * body.len(),
        };
        self.client.send(call).await
    }
}

/// The halves of a range, the first one last; the only line of one that cannot be halved is given up.
fn halves(range: Range<usize>, reason: &str, given_up: &mut Vec<GivenUp>) -> Vec<Range<usize>> {
    if range.len() < 2 {
        given_up.extend(range.map(|position| GivenUp { position, reason: reason.to_owned() }));
        return Vec::new();
    }
    let middle = range.start + range.len() / 2;
    vec![middle..range.end, range.start..middle]
}
