//! Elasticsearch and OpenSearch: records become documents of a data stream, each of them once.
//!
//! Items enter by [`Elasticsearch::encode`], bulk requests leave; queue, retries and spool are the driver's. Requests
//! go through the HTTP client that all sinks share, which bounds what it reads of an answer; [`setup`] uses the crate
//! `elasticsearch`.

mod answer;
mod credentials;
mod doubt;
mod encode;
mod nodes;
mod options;
mod rejected;
pub mod setup;
mod status;
mod stream;

#[cfg(test)]
mod tests;

use std::io;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use tokio::sync::OnceCell;

pub use credentials::Login;
pub use encode::BulkEncoder;
pub use options::Options;
pub use status::StatusSink;
pub use stream::DataStream;

use self::answer::{Fate, advised, fates, outcome, refusal};
use self::credentials::Credentials;
use self::doubt::Doubts;
use self::encode::{document_of, id_of, moment_of, moved};
use self::nodes::{Ask, Nodes};
use self::rejected::Rejected;
use self::setup::SetupError;
use super::http::{Answer, Client, Failure, Method, TlsError};
pub use super::json::Counters;
use super::json::EncodeContext;
use super::time::rfc3339;
use crate::clock::boot_ns;
use crate::model::Record;
use crate::pipeline::{Outcome, Request, Sink};

/// Bytes of an answer that are read: a kibibyte for each item, and some.
const LONGEST_ANSWER: usize = 1 << 20;
const LONGEST_ITEM: usize = 1 << 10;

/// The sink.
pub struct Elasticsearch {
    name: String,
    /// When it was made, by the clock that is in the ids.
    began_boot_ns: u64,
    /// What documents of its stream begin with.
    beginning: Vec<u8>,
    nodes: Nodes,
    stream: DataStream,
    encoder: Mutex<BulkEncoder>,
    doubts: Doubts,
    rejected: Rejected,
    /// What to do before the first request, if anything.
    setup: Option<Arc<Setup>>,
}

/// A setup that is done once, by whoever needs it first.
struct Setup {
    name: String,
    options: Options,
    timeout: Duration,
    done: OnceCell<()>,
}

impl Setup {
    async fn run(&self) -> Result<(), SetupError> {
        let Self { name, options, timeout, done } = self;
        done.get_or_try_init(|| async {
            for sentence in setup::install(options, *timeout).await?.sentences() {
                tracing::info!("sink {name}: {sentence}");
            }
            Ok(())
        })
        .await
        .copied()
    }
}

/// Has the cluster set up, if that is wanted and not done yet.
async fn set_up(setup: Option<&Arc<Setup>>) -> Result<(), Outcome> {
    let Some(setup) = setup else { return Ok(()) };
    setup.run().await.map_err(|error| not_now(format!("cannot set the server up: {error}"), false))
}

impl Elasticsearch {
    /// Makes the sink; opens no connection. `name` is its name in the configuration; a try may take `timeout`.
    ///
    /// # Errors
    /// When certificates cannot be used.
    pub fn new(
        name: &str,
        options: &Options,
        timeout: Duration,
        context: EncodeContext,
    ) -> Result<Self, TlsError> {
        let client = Client::new(&options.http, timeout)?;
        Ok(Self {
            name: name.to_owned(),
            began_boot_ns: boot_ns(),
            nodes: Nodes::new(client, options.urls.clone(), Credentials::new(&options.login)),
            encoder: Mutex::new(BulkEncoder::new(context, options.counters, &options.stream)),
            beginning: options.stream.beginning().into_bytes(),
            stream: options.stream.clone(),
            doubts: Doubts::default(),
            rejected: Rejected::new(options.rejected_file(name), options.rejected_bytes.into()),
            setup: options.setup.then(|| {
                let (name, options) = (name.to_owned(), options.clone());
                Arc::new(Setup { name, options, timeout, done: OnceCell::new() })
            }),
        })
    }

    /// The way of what tells how complete the accounting is, to the same cluster.
    ///
    /// # Errors
    /// When certificates cannot be used.
    pub fn status(&self, options: &Options, timeout: Duration, host: String) -> Result<StatusSink, TlsError> {
        StatusSink::new(options, timeout, host, self.setup.clone())
    }

    async fn send(&self, request: &Request) -> Outcome {
        let is_of_stream =
            request.piece(0).is_some_and(|item| document_of(item).starts_with(&self.beginning));
        let moved = if is_of_stream { None } else { moved(request, &self.beginning) };
        let request = moved.as_ref().unwrap_or(request);
        let ids: Vec<&str> = (0..request.items.len()).filter_map(|at| id_of(request.piece(at)?)).collect();
        let is_whole = ids.len() == request.items.len() && (is_of_stream || moved.is_some());
        let Some(first) = ids.first().copied().filter(|_| is_whole) else {
            // A spool that was damaged without its checksum noticing.
            return not_now("a request holds what is no item".into(), false);
        };
        let mut positions: Vec<usize> = (0..ids.len()).collect();
        if self.is_in_doubt(request, &ids) {
            match self.doubts.stored(&ids, &self.stream, &self.nodes).await {
                Ok(stored) => positions.retain(|&at| ids.get(at).is_some_and(|id| !stored.contains(id))),
                Err(unknown) => return not_now(unknown.reason, true),
            }
        } else {
            self.doubts.remember(first, &self.stream, &self.nodes).await;
        }
        let outcome = self.send_these(request, &positions).await;
        if !matches!(outcome, Outcome::NotNow { in_doubt: true, .. }) {
            self.doubts.settled(first);
        }
        outcome
    }

    /// Whether some of it may be stored: a try of it got no answer, an agent before this one had its records, or it is of
    /// a recording, which may have been replayed before.
    fn is_in_doubt(&self, request: &Request, ids: &[&str]) -> bool {
        let is_older = |id: &&str| moment_of(id).is_none_or(|moment| moment < self.began_boot_ns);
        request.in_doubt || ids.iter().any(is_older)
    }

    /// Sends the items at these positions, the others being stored.
    async fn send_these(&self, request: &Request, positions: &[usize]) -> Outcome {
        if positions.is_empty() {
            return Outcome::Delivered;
        }
        let body = if positions.len() == request.items.len() {
            std::borrow::Cow::Borrowed(request.body.as_slice())
        } else {
            let pieces = positions.iter().filter_map(|&at| request.piece(at));
            pieces.flatten().copied().collect::<Vec<u8>>().into()
        };
        let ask = Ask {
            method: Method::POST,
            path: &[self.stream.name(), "_bulk"],
            query: &[("filter_path", answer::FILTER)],
            body: Some(&body),
            most: LONGEST_ANSWER + positions.len() * LONGEST_ITEM,
        };
        match self.nodes.ask(&ask).await {
            Ok(answer) => self.judge(&answer, request, positions).await,
            Err(Failure { reason, in_doubt }) => not_now(reason, in_doubt),
        }
    }

    async fn judge(&self, answer: &Answer, request: &Request, positions: &[usize]) -> Outcome {
        if answer.status != 200 {
            return refused(answer, &self.nodes);
        }
        let ids: Vec<&str> = positions.iter().filter_map(|&at| id_of(request.piece(at)?)).collect();
        let sent_before = request.attempt > 0 || self.is_in_doubt(request, &ids);
        match fates(&answer.body, positions.len(), sent_before) {
            Ok(fates) => {
                self.tell(&fates, request, positions).await;
                outcome(&fates, positions)
            }
            Err(reason) => not_now(reason, true),
        }
    }

    /// Keeps what the server will never take, and says what a person has to know.
    async fn tell(&self, fates: &[Fate], request: &Request, positions: &[usize]) {
        let kept = match refused_lines(fates, request, positions) {
            Ok(lines) if lines.is_empty() => Ok(()),
            Ok(lines) => self.rejected.keep(lines).await,
            Err(error) => Err(error),
        };
        if let Err(error) = kept {
            let path = self.rejected.path().display();
            tracing::error!(
                "sink {}: documents that were refused cannot be kept in {path}: {error}",
                self.name
            );
        }
        let again = fates.iter().find_map(|fate| match fate {
            Fate::Again(reason) => Some(reason),
            _ => None,
        });
        if let Some(reason) = again {
            tracing::debug!("sink {}: some items are to be sent again: {}", self.name, advised(reason));
        }
    }
}

impl Sink for Elasticsearch {
    type Item = Record;

    fn encode(&self, item: &Record, out: &mut Vec<u8>) {
        self.encode_all(std::slice::from_ref(item), out, &mut Vec::new());
    }

    fn encode_all(&self, items: &[Record], out: &mut Vec<u8>, ends: &mut Vec<u32>) {
        self.encoder.lock().unwrap_or_else(PoisonError::into_inner).encode(items, out, ends);
    }

    async fn deliver(&self, request: &Request) -> Outcome {
        if request.items.is_empty() {
            return Outcome::Delivered;
        }
        if let Err(outcome) = set_up(self.setup.as_ref()).await {
            return outcome;
        }
        self.send(request).await
    }
}

/// What is kept of the documents that the server will never take.
fn refused_lines(fates: &[Fate], request: &Request, positions: &[usize]) -> io::Result<Vec<Vec<u8>>> {
    let now = rfc3339(now());
    let time = std::str::from_utf8(&now).unwrap_or_default();
    let refused = fates.iter().zip(positions).filter_map(|(fate, &position)| match fate {
        Fate::Refused(reason) => Some((reason, request.piece(position).unwrap_or_default())),
        _ => None,
    });
    refused.map(|(reason, item)| rejected::line(time, id_of(item), reason, document_of(item))).collect()
}

fn not_now(reason: String, in_doubt: bool) -> Outcome {
    Outcome::NotNow { reason, retry_after: None, in_doubt }
}

/// What a status other than 200 means for a whole request.
fn refused(answer: &Answer, nodes: &Nodes) -> Outcome {
    let told = refusal(&answer.body).unwrap_or_else(|| answer.text().into_owned());
    let reason = answer.said(&nodes.hide(told));
    if answer.status == 413 {
        return Outcome::TooLarge { reason };
    }
    let advice = match answer.status {
        401 => nodes.advice(),
        300..=399 => "the url leads elsewhere: name the server itself",
        404..=406 => "does the url lead to Elasticsearch or OpenSearch?",
        _ => "",
    };
    // A proxy that gave up waiting says so with a 5xx.
    let in_doubt = matches!(answer.status, 408 | 500..=599) || answer.is_success();
    Outcome::NotNow {
        reason: if advice.is_empty() { advised(&reason) } else { format!("{}; {advice}", advised(&reason)) },
        retry_after: answer.retry_after(),
        in_doubt,
    }
}

fn now() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_nanos()).unwrap_or(i64::MAX)
}
