//! Requests of which no answer came: which of their items are stored already.
//!
//! A data stream knows an id only in the index that is written to. So it is remembered which one that was before a
//! request was first sent; if it is still the same one, the server itself tells what is stored (409). If not, the ids
//! are looked for.

use std::collections::{HashSet, VecDeque};
use std::sync::{Arc, Mutex, PoisonError};

use serde::Deserialize;
use serde_json::json;

use super::answer::{advised, refusal};
use super::nodes::{Ask, Nodes};
use super::stream::DataStream;
use crate::sinks::http::{Answer, Failure, Method};

/// Requests of which the index is remembered. What is forgotten is looked for.
const REMEMBERED: usize = 256;

/// Ids in one question.
const IDS: usize = 1_000;

/// Bytes of an answer. An id takes 100 in each index.
const LONGEST: usize = 4 << 20;

/// Indices whose documents are asked for one by one: a search sees what was stored only after the index's refresh
/// interval, which is often half a minute, and several rollovers may come in it.
const NEWEST: usize = 8;

/// Why it is not known what is stored.
pub(super) struct Unknown {
    pub(super) reason: String,
}

impl From<Failure> for Unknown {
    fn from(failure: Failure) -> Self {
        Self { reason: format!("cannot ask what is stored already: {}", failure.reason) }
    }
}

/// What was written to when requests were first sent.
#[derive(Default)]
pub(super) struct Doubts {
    memory: Mutex<Memory>,
}

#[derive(Default)]
struct Memory {
    /// The index that was the one written to at some time. One that is out of date costs a search, no duplicate.
    latest: Option<Arc<str>>,
    /// By the id of a request's first item; the oldest first.
    sent: VecDeque<(Box<str>, Arc<str>)>,
}

impl Doubts {
    /// Notes what a request may have been written to, before it is sent for the first time.
    pub(super) async fn remember(&self, first: &str, stream: &DataStream, nodes: &Nodes) {
        let known = self.locked(|memory| memory.latest.clone());
        let index = match known {
            Some(index) => index,
            // What cannot be known now is looked for later.
            None => match indices(stream, nodes).await {
                Ok(indices) => newest(&indices),
                Err(_) => return,
            },
        };
        self.note(first, index);
    }

    fn note(&self, first: &str, index: Arc<str>) {
        self.locked(|memory| {
            memory.latest = Some(Arc::clone(&index));
            memory.sent.retain(|(id, _)| **id != *first);
            if memory.sent.len() >= REMEMBERED {
                memory.sent.pop_front();
            }
            memory.sent.push_back((first.into(), index));
        });
    }

    /// An answer came.
    pub(super) fn settled(&self, first: &str) {
        self.locked(|memory| memory.sent.retain(|(id, _)| **id != *first));
    }

    fn recalled(&self, first: &str) -> Option<Arc<str>> {
        self.locked(|memory| {
            memory.sent.iter().find(|(id, _)| **id == *first).map(|(_, index)| Arc::clone(index))
        })
    }

    fn locked<T>(&self, work: impl FnOnce(&mut Memory) -> T) -> T {
        work(&mut self.memory.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Which of the ids are stored where the server would not tell by itself.
    ///
    /// # Errors
    /// When the server does not say.
    pub(super) async fn stored<'a>(
        &self,
        ids: &[&'a str],
        stream: &DataStream,
        nodes: &Nodes,
    ) -> Result<HashSet<&'a str>, Unknown> {
        let Some(first) = ids.first() else { return Ok(HashSet::new()) };
        let indices = indices(stream, nodes).await?;
        let now = newest(&indices);
        let mut found = HashSet::new();
        // A single index knows all ids.
        if indices.len() > 1 && self.recalled(first).as_ref() != Some(&now) {
            for ids in ids.chunks(IDS) {
                found.extend(find(ids, stream, &indices, nodes).await?);
            }
        }
        self.note(first, now);
        Ok(ids.iter().copied().filter(|id| found.contains(*id)).collect())
    }
}

/// The index that is written to; nothing where there is no data stream yet.
fn newest(indices: &[String]) -> Arc<str> {
    indices.last().map(String::as_str).unwrap_or_default().into()
}

/// The indices of the stream, the one that is written to last; none if there is no such stream.
async fn indices(stream: &DataStream, nodes: &Nodes) -> Result<Vec<String>, Unknown> {
    #[derive(Deserialize)]
    struct Resolved {
        data_streams: Vec<Stream>,
    }
    #[derive(Deserialize)]
    struct Stream {
        name: String,
        backing_indices: Indices,
    }
    // Of one index there is no list.
    #[derive(Deserialize)]
    #[serde(untagged)]
    enum Indices {
        Many(Vec<String>),
        One(String),
    }
    let path = ["_resolve", "index", stream.name()];
    let answer =
        nodes.ask(&Ask { method: Method::GET, path: &path, query: &[], body: None, most: LONGEST }).await?;
    if answer.status == 404 {
        return Ok(Vec::new());
    }
    let resolved: Resolved = understood(&answer, nodes)?;
    let named = resolved.data_streams.into_iter().find(|found| found.name == stream.name());
    Ok(match named.map(|found| found.backing_indices) {
        Some(Indices::Many(indices)) => indices,
        Some(Indices::One(index)) => vec![index],
        None => Vec::new(),
    })
}

async fn find(
    ids: &[&str],
    stream: &DataStream,
    indices: &[String],
    nodes: &Nodes,
) -> Result<HashSet<String>, Unknown> {
    let begin = indices.len().saturating_sub(NEWEST);
    let mut found = by_one(ids, indices.get(begin..).unwrap_or_default(), nodes).await?;
    if begin > 0 {
        found.extend(by_search(ids, stream, nodes).await?);
    }
    Ok(found)
}

/// Asks for each document in each index: sees what was stored a moment ago.
async fn by_one(ids: &[&str], indices: &[String], nodes: &Nodes) -> Result<HashSet<String>, Unknown> {
    #[derive(Deserialize)]
    struct Got {
        docs: Vec<Document>,
    }
    #[derive(Deserialize)]
    struct Document {
        #[serde(rename = "_id")]
        id: String,
        #[serde(default)]
        found: Option<bool>,
        error: Option<super::answer::Cause>,
    }
    let mut found = HashSet::new();
    for index in indices {
        let body = json!({ "ids": ids }).to_string();
        let query =
            [("_source", "false"), ("filter_path", "docs._id,docs.found,docs.error.type,docs.error.reason")];
        let ask = Ask {
            method: Method::POST,
            path: &[index, "_mget"],
            query: &query,
            body: Some(body.as_bytes()),
            most: LONGEST,
        };
        let got: Got = understood(&nodes.ask(&ask).await?, nodes)?;
        if got.docs.len() != ids.len() {
            return Err(Unknown {
                reason: format!("asked for {} ids, told of {}", ids.len(), got.docs.len()),
            });
        }
        for document in got.docs {
            match (document.found, document.error) {
                (Some(true), _) => drop(found.insert(document.id)),
                (Some(false), _) => {}
                // Deleted since it was listed.
                (None, Some(error)) if error.kind == "index_not_found_exception" => {}
                (None, error) => {
                    let told = error.map_or_else(|| "no reason".to_owned(), |error| error.told());
                    return Err(Unknown {
                        reason: format!("cannot tell whether a document is stored: {told}"),
                    });
                }
            }
        }
    }
    Ok(found)
}

/// Searches all indices of the stream.
async fn by_search(ids: &[&str], stream: &DataStream, nodes: &Nodes) -> Result<HashSet<String>, Unknown> {
    #[derive(Deserialize)]
    struct Result {
        timed_out: bool,
        #[serde(default)]
        hits: Hits,
    }
    #[derive(Deserialize, Default)]
    struct Hits {
        #[serde(default)]
        hits: Vec<Hit>,
    }
    #[derive(Deserialize)]
    struct Hit {
        #[serde(rename = "_id")]
        id: String,
    }
    // Of an id that is stored twice, there are two.
    let body =
        json!({ "size": 4 * IDS, "_source": false, "query": { "ids": { "values": ids } } }).to_string();
    let query = [("allow_partial_search_results", "false"), ("filter_path", "timed_out,hits.hits._id")];
    let ask = Ask {
        method: Method::POST,
        path: &[stream.name(), "_search"],
        query: &query,
        body: Some(body.as_bytes()),
        most: LONGEST,
    };
    let result: Result = understood(&nodes.ask(&ask).await?, nodes)?;
    if result.timed_out {
        return Err(Unknown { reason: "the search for what is stored already took too long".into() });
    }
    Ok(result.hits.hits.into_iter().map(|hit| hit.id).collect())
}

fn understood<T: for<'de> Deserialize<'de>>(answer: &Answer, nodes: &Nodes) -> Result<T, Unknown> {
    if !answer.is_success() {
        let told = nodes.hide(advised(&refusal(&answer.body).unwrap_or_default()));
        return Err(Unknown { reason: format!("cannot ask what is stored already: {}", answer.said(&told)) });
    }
    serde_json::from_slice(&answer.body)
        .map_err(|error| Unknown { reason: format!("cannot read what is stored already: {error}") })
}
