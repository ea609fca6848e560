//! How old documents are deleted: by whatever the server has for it.

use std::time::Duration;

use serde_json::{Value, json};

use super::api::{Api, Method, Said, refused};
use super::template::{Lifecycle, NAME};
use super::{Report, SetupError};

/// When an index is followed by the next one.
const ROLLOVER_AGE: &str = "1d";
const ROLLOVER_SIZE: &str = "50gb";

/// A time as servers write it.
pub(super) fn written(kept: Duration) -> String {
    let hours = kept.as_secs() / 3_600;
    if hours.is_multiple_of(24) { format!("{}d", hours / 24) } else { format!("{hours}h") }
}

/// A server too old for the data stream's own lifecycle says that the template has an unknown field.
pub(super) fn lacks_own_lifecycle(said: &Said) -> bool {
    said.status == 400 && said.refusal.contains("lifecycle") && said.refusal.contains("unknown field")
}

/// Index lifecycle management, where Elasticsearch has it.
pub(super) async fn by_policy(
    api: &Api,
    kept: Duration,
    report: &mut Report,
) -> Result<Lifecycle, SetupError> {
    let path = format!("_ilm/policy/{NAME}");
    let said = api.ask(Method::Put, &path, Some(&ilm(kept))).await?;
    if said.lacks_interface() {
        report.add(unkept(kept));
        return Ok(Lifecycle::None);
    }
    if !said.is_success() {
        return Err(refused(&path, &said));
    }
    report.add(format!("documents are deleted after {} by the policy {NAME} (ILM)", written(kept)));
    Ok(Lifecycle::Policy(NAME))
}

/// OpenSearch's state management.
pub(super) async fn by_state_management(
    api: &Api,
    kept: Duration,
    stream: &str,
    report: &mut Report,
) -> Result<(), SetupError> {
    let path = format!("_plugins/_ism/policies/{NAME}");
    let mut said = api.ask(Method::Put, &path, Some(&ism(kept))).await?;
    if said.lacks_interface() {
        report.add(unkept(kept));
        return Ok(());
    }
    if said.status == 409 {
        // It is there; only its latest version may be replaced.
        let known = api.demand(Method::Get, &path, None).await?;
        let number = |field| known.get(field).and_then(Value::as_u64).unwrap_or_default();
        let (number, term) = (number("_seq_no"), number("_primary_term"));
        let latest = format!("{path}?if_seq_no={number}&if_primary_term={term}");
        said = api.ask(Method::Put, &latest, Some(&ism(kept))).await?;
    }
    if !said.is_success() {
        return Err(refused(&path, &said));
    }
    // Indices that are there already; those that have a policy keep it.
    let add = format!("_plugins/_ism/add/{stream}");
    let _ = api.ask(Method::Post, &add, Some(&json!({ "policy_id": NAME }))).await?;
    report.add(format!("documents are deleted after {} by the policy {NAME} (ISM)", written(kept)));
    Ok(())
}

fn unkept(kept: Duration) -> String {
    format!(
        "warning: retention = \"{}\" has no effect: this server has neither data stream lifecycle nor ILM nor ISM; \
         nothing is ever deleted, delete old indices by other means",
        written(kept)
    )
}

fn ilm(kept: Duration) -> Value {
    json!({ "policy": {
        "_meta": { "managed_by": "conntally" },
        "phases": {
            "hot": { "actions": {
                "rollover": { "max_age": ROLLOVER_AGE, "max_primary_shard_size": ROLLOVER_SIZE },
            } },
            "delete": { "min_age": written(kept), "actions": { "delete": {} } },
        },
    } })
}

fn ism(kept: Duration) -> Value {
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
        "ism_template": [{ "index_patterns": ["logs-conntally.flow-*", "logs-conntally.status-*"], "priority": 300 }],
    } })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_written_in_days_or_hours() {
        assert_eq!(written(Duration::from_secs(30 * 86_400)), "30d");
        assert_eq!(written(Duration::from_secs(36 * 3_600)), "36h");
    }

    /// What Elasticsearch 8.5 and OpenSearch 3.8 say to a template with a lifecycle; recorded.
    #[test]
    fn a_server_without_the_own_lifecycle_is_recognized() {
        let said = |refusal: &str| Said {
            status: 400,
            is_elasticsearch: true,
            body: Value::Null,
            refusal: refusal.to_owned(),
        };
        let recorded = "x_content_parse_exception: [1:112] [index_template] failed to parse field [template]; \
                        x_content_parse_exception: [1:100] [template] unknown field [lifecycle]";
        assert!(lacks_own_lifecycle(&said(recorded)));
        assert!(!lacks_own_lifecycle(&said("mapper_parsing_exception: unknown field [x]")));
    }
}
