//! What an answer to a bulk request means for each of its items: a pure decision.

use serde::Deserialize;

use crate::pipeline::{GivenUp, Outcome};

/// What became of one item.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Fate {
    /// It is stored.
    Stored,
    /// It is not, and nothing is wrong with it.
    Again(String),
    /// It is not, and never will be as it is.
    Refused(String),
    /// Another one of its id is stored, though this one was never sent before.
    Duplicate(String),
}

#[derive(Deserialize)]
struct Bulk {
    items: Vec<Action>,
}

#[derive(Deserialize)]
struct Action {
    create: Stored,
}

#[derive(Deserialize)]
struct Stored {
    status: u16,
    error: Option<Cause>,
}

/// Why a server refuses.
#[derive(Deserialize)]
pub(super) struct Cause {
    #[serde(rename = "type", default)]
    pub(super) kind: String,
    #[serde(default)]
    reason: Option<String>,
    caused_by: Option<Box<Self>>,
}

impl Cause {
    /// The cause and those behind it.
    pub(super) fn told(&self) -> String {
        let reason = self.reason.as_deref().unwrap_or_default();
        let own = format!("{}: {reason}", self.kind);
        match &self.caused_by {
            Some(cause) => format!("{own}; {}", cause.told()),
            None => own,
        }
    }
}

/// What only the answer's items say: nothing, as the status of each is needed to know that all are answered.
pub(super) const FILTER: &str = "items.create.status,items.create.error.type,items.create.error.reason,\
                                 items.create.error.caused_by.type,items.create.error.caused_by.reason";

/// Reads the fate of each item.
///
/// # Errors
/// When this is no answer to so many items; what became of them is not known then.
pub(super) fn fates(body: &[u8], items: usize, sent_before: bool) -> Result<Vec<Fate>, String> {
    let bulk: Bulk = serde_json::from_slice(body)
        .map_err(|error| format!("what came is no answer to a bulk request: {error}"))?;
    if bulk.items.len() != items {
        return Err(format!("the answer has {} items for {items}", bulk.items.len()));
    }
    Ok(bulk.items.into_iter().map(|action| fate(&action.create, sent_before)).collect())
}

fn fate(stored: &Stored, sent_before: bool) -> Fate {
    let told = || {
        let told = stored.error.as_ref().map(Cause::told).unwrap_or_default();
        format!("status {}{}{told}", stored.status, if told.is_empty() { "" } else { ": " })
    };
    match stored.status {
        200..=299 => Fate::Stored,
        409 if sent_before => Fate::Stored,
        409 => Fate::Duplicate(told()),
        400 if is_about_the_document(stored.error.as_ref()) => Fate::Refused(told()),
        _ => Fate::Again(told()),
    }
}

/// Some of what is called a bad request is wrong with the index or with how the server is set up.
fn is_about_the_document(error: Option<&Cause>) -> bool {
    const OTHERS: [&str; 5] = [
        // Too many shards are open.
        "validation_exception",
        "index_closed_exception",
        "invalid_index_name_exception",
        "index_not_found_exception",
        "illegal_state_exception",
    ];
    error.is_none_or(|cause| {
        let lacks_pipeline = cause.reason.as_deref().is_some_and(|told| told.starts_with("pipeline with id"));
        !OTHERS.contains(&cause.kind.as_str()) && !lacks_pipeline
    })
}

/// What the driver is told. `positions` says where in its request each item stands.
pub(super) fn outcome(fates: &[Fate], positions: &[usize]) -> Outcome {
    let (mut again, mut given_up, mut why) = (Vec::new(), Vec::new(), None);
    let mut stored = 0;
    for (fate, &position) in fates.iter().zip(positions) {
        match fate {
            Fate::Stored => stored += 1,
            Fate::Again(reason) => {
                again.push(position);
                why.get_or_insert(reason);
            }
            Fate::Refused(reason) => given_up.push(GivenUp { position, reason: reason.clone() }),
            Fate::Duplicate(reason) => {
                let reason = format!("{reason}; a document of this id was stored before, by someone else");
                given_up.push(GivenUp { position, reason });
            }
        }
    }
    match why {
        None if given_up.is_empty() => Outcome::Delivered,
        Some(reason) if stored == 0 && given_up.is_empty() => {
            Outcome::NotNow { reason: advised(reason), retry_after: None, in_doubt: false }
        }
        why => {
            let reason = why.map(|reason| advised(reason)).unwrap_or_default();
            Outcome::Partly { again, reason, given_up, retry_after: None }
        }
    }
}

/// What to do about the commonest refusals.
pub(super) fn advised(told: &str) -> String {
    const ADVICE: [(&str, &str); 7] = [
        (
            "security_exception",
            "the key or user needs create_doc, auto_configure, view_index_metadata and read on the data stream",
        ),
        ("disk usage exceeded", "the server's disk is full: make room, it takes writes again by itself"),
        ("cluster_block_exception", "the index is blocked for writing: see its index.blocks settings"),
        ("index_not_found", "`conntally setup elasticsearch` makes the data stream"),
        ("rejected_execution", "the server has more to do than it can; sent again later"),
        (
            "maximum shards open",
            "the cluster has as many shards as it may: delete old indices or raise cluster.max_shards_per_node",
        ),
        ("pipeline with id", "the index names an ingest pipeline that does not exist"),
    ];
    match ADVICE.iter().find(|(part, _)| told.contains(part)) {
        Some((_, advice)) => format!("{told}; {advice}"),
        None => told.to_owned(),
    }
}

/// Why a server refuses a whole request, if it says so in its usual form.
pub(super) fn refusal(body: &[u8]) -> Option<String> {
    #[derive(Deserialize)]
    #[serde(untagged)]
    enum Error {
        Cause(Cause),
        Text(String),
    }
    #[derive(Deserialize)]
    struct Refusal {
        error: Error,
    }
    match serde_json::from_slice::<Refusal>(body).ok()?.error {
        Error::Cause(cause) => Some(cause.told()),
        Error::Text(text) => Some(text),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn one(status: u16, kind: &str, reason: &str) -> String {
        format!(
            r#"{{"errors":true,"items":[{{"create":{{"status":{status},"error":{{"type":"{kind}","reason":"{reason}"}}}}}}]}}"#
        )
    }

    /// As Elasticsearch 9.5.3 answered, with [`FILTER`].
    const RECORDED: &str = r#"{"errors":true,"items":[{"create":{"status":201}},{"create":{"status":400,"error":{"type":"document_parsing_exception","reason":"[1:93] failed to parse field [n] of type [long] in document with id 'c'. Preview of field's value: 'x'","caused_by":{"type":"illegal_argument_exception","reason":"For input string: \"x\""}}}},{"create":{"status":409,"error":{"type":"version_conflict_engine_exception","reason":"[a]: version conflict, document already exists (current version [1])"}}}]}"#;

    #[test]
    fn each_item_has_its_fate() {
        let fates = fates(RECORDED.as_bytes(), 3, false).unwrap();
        assert!(
            matches!(&fates[..], [Fate::Stored, Fate::Refused(why), Fate::Duplicate(_)] if why.contains("For input")),
            "{fates:?}"
        );
        let Outcome::Partly { again, given_up, .. } = outcome(&fates, &[4, 5, 9]) else {
            panic!("{fates:?}")
        };
        assert_eq!((again, given_up.len(), given_up[0].position, given_up[1].position), (vec![], 2, 5, 9));
    }

    #[test]
    fn an_id_that_is_there_is_success_only_for_what_was_sent_before() {
        let body = one(409, "version_conflict_engine_exception", "exists");
        assert_eq!(fates(body.as_bytes(), 1, true), Ok(vec![Fate::Stored]));
        assert!(matches!(&fates(body.as_bytes(), 1, false).unwrap()[..], [Fate::Duplicate(_)]));
    }

    #[test]
    fn what_is_wrong_with_the_server_is_tried_again_and_what_is_wrong_with_the_document_is_not() {
        let again = [
            (429, "es_rejected_execution_exception", "x"),
            (429, "rejected_execution_exception", "x"),
            (403, "cluster_block_exception", "index [x] blocked by: [FORBIDDEN/8/index write (api)];"),
            (403, "security_exception", "action [indices:admin/auto_create] is unauthorized"),
            (404, "index_not_found_exception", "no such index [x]"),
            (500, "x", "x"),
            (503, "unavailable_shards_exception", "x"),
            (400, "validation_exception", "this cluster currently has [1000]/[1000] maximum shards open"),
            (400, "index_closed_exception", "closed"),
            (400, "illegal_argument_exception", "pipeline with id [p] does not exist"),
        ];
        for (status, kind, reason) in again {
            let fates = fates(one(status, kind, reason).as_bytes(), 1, false).unwrap();
            let outcome = outcome(&fates, &[0]);
            assert!(
                matches!(outcome, Outcome::NotNow { in_doubt: false, .. }),
                "{status} {kind}: {outcome:?}"
            );
        }
        for kind in
            ["document_parsing_exception", "mapper_parsing_exception", "strict_dynamic_mapping_exception"]
        {
            let fates = fates(one(400, kind, "x").as_bytes(), 1, true).unwrap();
            assert!(matches!(&fates[..], [Fate::Refused(_)]), "{kind}");
        }
    }

    #[test]
    fn reasons_say_what_to_do() {
        let fates =
            fates(one(403, "cluster_block_exception", "disk usage exceeded").as_bytes(), 1, false).unwrap();
        let Outcome::NotNow { reason, .. } = outcome(&fates, &[0]) else { panic!() };
        assert!(reason.contains("make room"), "{reason}");
    }

    #[test]
    fn garbage_and_answers_to_other_requests_tell_nothing() {
        for body in ["", "{", "[]", "<html>", r#"{"items":[]}"#, r#"{"items":[{"index":{"status":201}}]}"#] {
            assert!(fates(body.as_bytes(), 1, false).is_err(), "{body}");
        }
        assert!(fates(RECORDED.as_bytes(), 2, false).is_err());
        assert!(fates(&RECORDED.as_bytes()[..200], 3, false).is_err());
    }

    #[test]
    fn a_refusal_is_read_in_both_forms() {
        let told = refusal(br#"{"error":{"type":"a","reason":"b","root_cause":[]},"status":400}"#);
        assert_eq!(told.as_deref(), Some("a: b"));
        assert_eq!(refusal(br#"{"error":"no handler found"}"#).as_deref(), Some("no handler found"));
        assert_eq!(refusal(b"<html>"), None);
    }
}
