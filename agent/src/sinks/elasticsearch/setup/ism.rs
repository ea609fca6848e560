//! OpenSearch's index state management, which deletes by a policy that each index has of its own.

use std::time::Duration;

use serde_json::{Value, json};

use super::api::{Api, Method, Said, refused};
use super::retention::{ROLLOVER_AGE, ROLLOVER_SIZE, unkept, written};
use super::template::PRIORITY;
use super::{DataStream, Report, SetupError};

/// How many of the indices that failed are told.
const TOLD: usize = 3;

/// Has documents of these data streams of one namespace deleted after that time; the first is that of the flows.
pub(super) async fn keep(
    api: &Api,
    kept: Duration,
    streams: &[DataStream],
    report: &mut Report,
) -> Result<(), SetupError> {
    let Some(flows) = streams.first() else { return Ok(()) };
    let id = flows.name();
    let wanted = policy(kept, flows);
    let path = format!("_plugins/_ism/policies/{id}");
    let mut said = api.ask(Method::Put, &path, Some(&wanted)).await?;
    if said.lacks_interface() {
        report.add(unkept(kept));
        return Ok(());
    }
    if said.status == 409 {
        said = replace(api, &path, &wanted).await?;
    }
    if !said.is_success() {
        return Err(refused(&path, &said));
    }
    for stream in streams {
        attach(api, id, stream, &wanted).await?;
    }
    report.add(format!("documents are deleted after {} by the policy {id} (ISM)", written(kept)));
    Ok(())
}

/// Replaces a policy that is there, of which only the latest version may be, unless it says the same already.
async fn replace(api: &Api, path: &str, wanted: &Value) -> Result<Said, SetupError> {
    let known = api.ask(Method::Get, path, None).await?;
    if !known.is_success() || agrees(&known.body, wanted) {
        return Ok(known);
    }
    let number = |field| known.body.get(field).and_then(Value::as_u64).unwrap_or_default();
    let (number, term) = (number("_seq_no"), number("_primary_term"));
    api.ask(Method::Put, &format!("{path}?if_seq_no={number}&if_primary_term={term}"), Some(wanted)).await
}

/// Indices that are there already. One that has a policy refuses another one, and keeps the version that it has when the
/// policy changes: for those there is a request of its own.
async fn attach(api: &Api, id: &str, stream: &DataStream, wanted: &Value) -> Result<(), SetupError> {
    let body = json!({ "policy_id": id });
    let path = format!("_plugins/_ism/add/{stream}");
    let failed = failures(api, &path, &body).await?;
    let (managed, failed): (Vec<_>, Vec<_>) =
        failed.into_iter().partition(|(_, reason)| reason.contains("already has a policy"));
    demand_none(&path, &failed)?;
    if managed.is_empty() {
        return Ok(());
    }
    let explain = format!("_plugins/_ism/explain/{stream}?show_policy=true");
    let explained = api.demand(Method::Get, &explain, None).await?;
    if managed.iter().all(|(index, _)| explained.get(index).is_some_and(|index| obeys(index, id, wanted))) {
        return Ok(());
    }
    // All of the stream, as the names of a year's indices do not fit into an address. It harms none that is right.
    let path = format!("_plugins/_ism/change_policy/{stream}");
    demand_none(&path, &failures(api, &path, &body).await?)
}

/// What could not be done, of a request that succeeds nevertheless: indices, each with the reason.
async fn failures(api: &Api, path: &str, body: &Value) -> Result<Vec<(String, String)>, SetupError> {
    let said = api.ask(Method::Post, path, Some(body)).await?;
    // The data stream will be made by the first document, and its indices have the policy from their birth.
    if said.status == 404 && said.refusal.contains("index_not_found") {
        return Ok(Vec::new());
    }
    if !said.is_success() {
        return Err(refused(path, &said));
    }
    let text = |index: &Value, field| index.get(field).and_then(Value::as_str).unwrap_or("?").to_owned();
    let listed = said.body.get("failed_indices").and_then(Value::as_array);
    let mut failed: Vec<_> = listed
        .into_iter()
        .flatten()
        .map(|index| (text(index, "index_name"), text(index, "reason")))
        .collect();
    if failed.is_empty() && said.body.get("failures") == Some(&Value::Bool(true)) {
        failed.push(("some indices".to_owned(), "no reason given".to_owned()));
    }
    Ok(failed)
}

fn demand_none(path: &str, failed: &[(String, String)]) -> Result<(), SetupError> {
    if failed.is_empty() {
        return Ok(());
    }
    let told = failed.iter().take(TOLD).map(|(index, reason)| format!("{index} ({reason})"));
    let more = failed.len().checked_sub(TOLD).filter(|more| *more > 0).map(|more| format!("{more} more"));
    let failed = told.chain(more).collect::<Vec<_>>().join(", ");
    Err(SetupError::Unkept { path: path.to_owned(), failed })
}

/// Whether an index, as it is explained, is deleted by what the policy says now.
fn obeys(index: &Value, id: &str, wanted: &Value) -> bool {
    let named = index.get("index.plugins.index_state_management.policy_id").and_then(Value::as_str);
    let states = |policy: Option<&Value>| policy.and_then(|policy| policy.get("states")).cloned();
    let (has, wants) = (states(index.get("policy")), states(wanted.get("policy")));
    named == Some(id) && has.zip(wants).is_some_and(|(has, wants)| agrees(&has, &wants))
}

/// Whether all that is wanted is there; servers add fields of their own.
fn agrees(there: &Value, wanted: &Value) -> bool {
    match (there, wanted) {
        (Value::Object(there), Value::Object(wanted)) => {
            wanted.iter().all(|(name, value)| there.get(name).is_some_and(|there| agrees(there, value)))
        }
        (Value::Array(there), Value::Array(wanted)) => {
            there.len() == wanted.len()
                && there.iter().zip(wanted).all(|(there, wanted)| agrees(there, wanted))
        }
        _ => there == wanted,
    }
}

/// Indices that are made later have it by their data stream's name, which is no other namespace's. The status is named
/// even if this agent tells none: another one of the namespace may.
fn policy(kept: Duration, flows: &DataStream) -> Value {
    let status = flows.of_status();
    json!({ "policy": {
        "description": "flows accounted by conntally",
        "default_state": "hot",
        "states": [
            {
                "name": "hot",
                "actions": [{ "rollover": { "min_index_age": ROLLOVER_AGE, "min_size": ROLLOVER_SIZE } }],
                "transitions": [
                    { "state_name": "delete", "conditions": { "min_rollover_age": written(kept) } },
                ],
            },
            { "name": "delete", "actions": [{ "delete": {} }], "transitions": [] },
        ],
        "ism_template": [{ "index_patterns": [flows.name(), status.name()], "priority": PRIORITY }],
    } })
}
