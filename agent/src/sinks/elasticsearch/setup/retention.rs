//! How Elasticsearch deletes old documents: by a policy, where it has not got the data stream's own lifecycle.

use std::time::Duration;

use serde_json::{Value, json};

use super::api::{Api, Method, Said, refused};
use super::template::Lifecycle;
use super::{DataStream, Report, SetupError};

/// When an index is followed by the next one.
pub(super) const ROLLOVER_AGE: &str = "1d";
pub(super) const ROLLOVER_SIZE: &str = "50gb";

/// A time as servers write it.
pub(super) fn written(kept: Duration) -> String {
    let hours = kept.as_secs() / 3_600;
    if hours.is_multiple_of(24) { format!("{}d", hours / 24) } else { format!("{hours}h") }
}

/// A server too old for the data stream's own lifecycle says that the template has an unknown field.
pub(super) fn lacks_own_lifecycle(said: &Said) -> bool {
    said.status == 400 && said.refusal.contains("lifecycle") && said.refusal.contains("unknown field")
}

/// Index lifecycle management, where Elasticsearch has it: a policy of this data stream's namespace.
pub(super) async fn by_policy(
    api: &Api,
    kept: Duration,
    stream: &DataStream,
    report: &mut Report,
) -> Result<Lifecycle, SetupError> {
    let path = format!("_ilm/policy/{stream}");
    let said = api.ask(Method::Put, &path, Some(&ilm(kept))).await?;
    if said.lacks_interface() {
        report.add(unkept(kept));
        return Ok(Lifecycle::None);
    }
    if !said.is_success() {
        return Err(refused(&path, &said));
    }
    report.add(format!("documents are deleted after {} by the policy {stream} (ILM)", written(kept)));
    Ok(Lifecycle::Policy(stream.to_string()))
}

/// What is told where a server has nothing for it.
pub(super) fn unkept(kept: Duration) -> String {
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
