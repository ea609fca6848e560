//! The status record: how the agent is doing, in the envelope that flow records have.

use serde_json::{Value, json};

use super::ECS_VERSION;
use crate::sinks::time::rfc3339;

/// Puts a status into the envelope. `real_ns`: when it was so, nanoseconds since the Unix epoch.
#[must_use]
pub fn record(status: &Value, host: &str, real_ns: i64) -> Value {
    json!({
        "@timestamp": String::from_utf8_lossy(&rfc3339(real_ns)),
        "ecs": { "version": ECS_VERSION },
        "event": { "kind": "metric", "dataset": "conntally.status" },
        "host": { "name": host },
        "conntally": { "status": status },
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_status_is_told_from_a_flow_by_its_dataset() {
        let record = record(&json!({ "pid": 7 }), "gw1", 1_700_000_000_000_000_000);
        assert_eq!(record["@timestamp"], "2023-11-14T22:13:20.000000000Z");
        assert_eq!(record["event"]["dataset"], "conntally.status");
        assert_eq!(
            (&record["host"]["name"], &record["conntally"]["status"]["pid"]),
            (&json!("gw1"), &json!(7))
        );
    }
}
