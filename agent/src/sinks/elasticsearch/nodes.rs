//! The nodes of a cluster: a call goes to one of them, and to the next where one cannot be reached.

use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

use super::credentials::Credentials;
use crate::sinks::http::{Answer, Call, Client, Endpoint, Failure, Method};

/// A call, whichever node answers it.
pub(super) struct Ask<'a> {
    pub(super) method: Method,
    /// Segments of the path.
    pub(super) path: &'a [&'a str],
    pub(super) query: &'a [(&'a str, &'a str)],
    pub(super) body: Option<&'a [u8]>,
    /// Bytes of an answer that are read at most.
    pub(super) most: usize,
}

/// What OpenSearch takes as well.
const JSON: &str = "application/json";

/// The nodes and how to talk to them.
pub(super) struct Nodes {
    client: Client,
    endpoints: Vec<Endpoint>,
    /// The node that is asked; the next one after it failed.
    current: AtomicUsize,
    credentials: Credentials,
}

impl Nodes {
    pub(super) const fn new(client: Client, endpoints: Vec<Endpoint>, credentials: Credentials) -> Self {
        Self { client, endpoints, current: AtomicUsize::new(0), credentials }
    }

    /// Asks one node after the other until one can be reached. What may have arrived is not sent to another.
    ///
    /// # Errors
    /// When no answer came; an answer that is too long or ends early is a failure, too.
    pub(super) async fn ask(&self, ask: &Ask<'_>) -> Result<Answer, Failure> {
        let mut failure = Failure { reason: "there is no node to ask".to_owned(), in_doubt: false };
        for _ in &self.endpoints {
            let at = self.current.load(Relaxed);
            let Some(endpoint) = self.endpoints.get(at) else { break };
            match self.ask_one(endpoint, ask).await {
                Ok(answer) => {
                    if matches!(answer.status, 429 | 500..=599) {
                        self.turn_from(at);
                    }
                    return Ok(answer);
                }
                Err(error) => {
                    self.turn_from(at);
                    let reason = self.credentials.hide(format!("{endpoint}: {}", error.reason));
                    failure = Failure { reason, ..error };
                    if failure.in_doubt {
                        break;
                    }
                }
            }
        }
        Err(failure)
    }

    async fn ask_one(&self, endpoint: &Endpoint, ask: &Ask<'_>) -> Result<Answer, Failure> {
        let authorization =
            self.credentials.header().map_err(|reason| Failure { reason, in_doubt: false })?;
        let call = Call {
            method: ask.method.clone(),
            url: endpoint.at(ask.path, ask.query),
            authorization,
            body: ask.body.map(|body| (JSON, body)),
            most: ask.most,
        };
        let mut answer = self.client.send(call).await?;
        if answer.is_success() {
            if let Some(cut) = answer.cut.take() {
                return Err(Failure {
                    reason: format!("the answer ended early: {}", cut.reason),
                    in_doubt: true,
                });
            }
            if answer.body.len() >= ask.most {
                let reason = format!("the answer has more than {} bytes, which none has", ask.most);
                return Err(Failure { reason, in_doubt: true });
            }
        }
        Ok(answer)
    }

    /// What to check when a node does not know who this is.
    pub(super) fn advice(&self) -> &'static str {
        self.credentials.advice()
    }

    /// What a server said, without secrets.
    pub(super) fn hide(&self, told: String) -> String {
        self.credentials.hide(told)
    }

    /// Others may have turned already.
    fn turn_from(&self, at: usize) {
        let next = (at + 1) % self.endpoints.len().max(1);
        let _ = self.current.compare_exchange(at, next, Relaxed, Relaxed);
    }
}
