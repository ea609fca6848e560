//! How long documents are kept: of each namespace as long as its own configuration says. OpenSearch's answers are made
//! after the source of its plugin, as no server here has it.

use super::tests::{
    ACKNOWLEDGED, NO_LIFECYCLE, NO_STREAM, NOT_THERE, VERSION_9, installed, ok, run_kept, said, text,
};
use super::*;
use crate::sinks::http::double::Reply;

const VERSION_OS: &str = r#"{"nodes":{"x":{"version":"3.8.0"}}}"#;
const ADDED: &str = r#"{"updated_indices":1,"failures":false,"failed_indices":[]}"#;
const CONFLICT: &str =
    r#"{"error":{"type":"version_conflict_engine_exception","reason":"exists"},"status":409}"#;
const MANAGED: &str = "This index already has a policy, use the update policy API to update index policies";
const INDEX: &str = ".ds-logs-conntally.flow-vpn-000001";

fn say(status: u16, body: &str) -> Reply {
    Reply::Say(status, "", body.to_owned())
}

fn failed(reason: &str) -> String {
    json!({
        "updated_indices": 0,
        "failures": true,
        "failed_indices": [{ "index_name": INDEX, "index_uuid": "x", "reason": reason }],
    })
    .to_string()
}

/// All that is asked of an OpenSearch before the policy.
fn opensearch(rest: &[Reply]) -> Vec<Reply> {
    let begin = [
        say(200, VERSION_OS),
        say(404, NOT_THERE),
        say(200, ACKNOWLEDGED),
        say(200, NO_STREAM),
        say(200, ACKNOWLEDGED),
    ];
    [begin.as_slice(), rest].concat()
}

/// What is asked beyond that, by an agent that keeps the documents of `vpn` for so long.
async fn policy(days: u64, rest: &[Reply]) -> (Result<Report, SetupError>, Vec<String>, Vec<Vec<u8>>) {
    let (report, lines, bodies) = run_kept(opensearch(rest), "vpn", false, Some(days)).await;
    (report, lines.into_iter().skip(5).collect(), bodies.into_iter().skip(5).collect())
}

/// A policy as the server tells it: with fields of its own.
async fn stored(days: u64) -> Value {
    let (_, _, bodies) = policy(days, &[say(201, "{}"), say(200, ADDED)]).await;
    let mut sent: Value = serde_json::from_slice(&bodies[0]).unwrap();
    let policy = &mut sent["policy"];
    policy["schema_version"] = json!(21);
    policy["error_notification"] = Value::Null;
    policy["states"][0]["actions"][0]["retry"] =
        json!({ "count": 3, "backoff": "exponential", "delay": "1m" });
    policy["states"][0]["actions"][0]["rollover"]["copy_alias"] = json!(false);
    policy["ism_template"][0]["last_updated_time"] = json!(1_795_000_000_000_u64);
    policy.take()
}

async fn known(days: u64) -> Reply {
    let known = json!({ "_id": "x", "_seq_no": 7, "_primary_term": 2, "policy": stored(days).await });
    say(200, &known.to_string())
}

/// What the server says of an index that has the policy as it was with that many days.
async fn explained(days: u64) -> Reply {
    let index = json!({
        "index.plugins.index_state_management.policy_id": "logs-conntally.flow-vpn",
        "policy": stored(days).await,
        "enabled": true,
    });
    say(200, &json!({ INDEX: index, "total_managed_indices": 1 }).to_string())
}

#[tokio::test]
async fn opensearch_gets_a_policy_for_the_data_streams_of_the_namespace() {
    let (report, lines, bodies) = policy(90, &[say(201, "{}"), say(200, ADDED)]).await;
    let report = text(&report.unwrap());
    assert!(report.contains("OpenSearch 3.8.0") && report.contains("after 90d"), "{report}");
    assert_eq!(
        lines,
        [
            "PUT /_plugins/_ism/policies/logs-conntally.flow-vpn HTTP/1.1",
            "POST /_plugins/_ism/add/logs-conntally.flow-vpn HTTP/1.1",
        ]
    );
    let policy: Value = serde_json::from_slice(&bodies[0]).unwrap();
    let patterns = json!(["logs-conntally.flow-vpn", "logs-conntally.status-vpn"]);
    assert_eq!(policy["policy"]["ism_template"][0]["index_patterns"], patterns);
    assert_eq!(bodies[1], br#"{"policy_id":"logs-conntally.flow-vpn"}"#);
}

#[tokio::test]
async fn opensearch_gets_no_lifecycle_in_the_template() {
    let replies = opensearch(&[say(201, "{}"), say(200, ADDED)]);
    let (_, _, bodies) = run_kept(replies, "vpn", false, Some(90)).await;
    let template: Value = serde_json::from_slice(&bodies[2]).unwrap();
    assert_eq!(template["template"].get("lifecycle"), None, "it refuses it");
}

#[tokio::test]
async fn another_retention_replaces_the_policy_and_that_of_the_indices_which_are_there() {
    let replies = [
        say(409, CONFLICT),
        known(30).await,
        say(200, "{}"),
        say(200, &failed(MANAGED)),
        explained(30).await,
        say(200, ADDED),
    ];
    let (report, lines, bodies) = policy(90, &replies).await;
    report.unwrap();
    assert_eq!(
        lines[1..],
        [
            "GET /_plugins/_ism/policies/logs-conntally.flow-vpn HTTP/1.1",
            "PUT /_plugins/_ism/policies/logs-conntally.flow-vpn?if_seq_no=7&if_primary_term=2 HTTP/1.1",
            "POST /_plugins/_ism/add/logs-conntally.flow-vpn HTTP/1.1",
            "GET /_plugins/_ism/explain/logs-conntally.flow-vpn?show_policy=true HTTP/1.1",
            "POST /_plugins/_ism/change_policy/logs-conntally.flow-vpn HTTP/1.1",
        ]
    );
    assert_eq!(bodies[5], br#"{"policy_id":"logs-conntally.flow-vpn"}"#);
}

#[tokio::test]
async fn a_policy_that_is_right_is_left_alone() {
    let replies = [say(409, CONFLICT), known(90).await, say(200, &failed(MANAGED)), explained(90).await];
    let (report, lines, _) = policy(90, &replies).await;
    report.unwrap();
    assert_eq!(lines.len(), 4, "{lines:?}");
}

/// A set-up that was broken off has replaced the policy, and not that of the indices.
#[tokio::test]
async fn indices_that_a_broken_set_up_left_behind_get_the_policy() {
    let replies = [
        say(409, CONFLICT),
        known(90).await,
        say(200, &failed(MANAGED)),
        explained(30).await,
        say(200, ADDED),
    ];
    let (report, lines, _) = policy(90, &replies).await;
    report.unwrap();
    assert_eq!(lines[4], "POST /_plugins/_ism/change_policy/logs-conntally.flow-vpn HTTP/1.1");
}

#[tokio::test]
async fn what_fails_in_an_answer_of_success_is_an_error_with_what_to_do() {
    let (report, ..) = policy(90, &[say(201, "{}"), say(200, &failed("This index is closed"))]).await;
    let told = report.unwrap_err().to_string();
    assert!(told.contains(INDEX) && told.contains("This index is closed"), "{told}");
    assert!(told.contains("then set up again"), "{told}");

    let moving = "Cannot change policy while transitioning to new state";
    let replies =
        [say(201, "{}"), say(200, &failed(MANAGED)), explained(30).await, say(200, &failed(moving))];
    let told = policy(90, &replies).await.0.unwrap_err().to_string();
    assert!(told.contains("change_policy") && told.contains(moving), "{told}");

    let nameless = r#"{"updated_indices":0,"failures":true}"#;
    let told = policy(90, &[say(201, "{}"), say(200, nameless)]).await.0.unwrap_err().to_string();
    assert!(told.contains("some indices"), "{told}");

    let many: Vec<_> =
        (0..5).map(|at| json!({ "index_name": format!("i{at}"), "reason": "closed" })).collect();
    let many = json!({ "failures": true, "failed_indices": many }).to_string();
    let told = policy(90, &[say(201, "{}"), say(200, &many)]).await.0.unwrap_err().to_string();
    assert!(told.contains("i2 (closed), 2 more;"), "{told}");

    let denied = r#"{"error":{"type":"security_exception","reason":"no permissions"},"status":403}"#;
    let told = policy(90, &[say(201, "{}"), say(403, denied)]).await.0.unwrap_err().to_string();
    assert!(told.contains("no permissions"), "{told}");
}

#[tokio::test]
async fn a_data_stream_that_only_its_first_document_makes_is_no_failure() {
    let absent = r#"{"error":{"type":"index_not_found_exception","reason":"no such index"},"status":404}"#;
    policy(90, &[say(201, "{}"), say(404, absent)]).await.0.unwrap();
}

#[tokio::test]
async fn without_any_retention_it_says_so() {
    let none = r#"{"error":"no handler found for uri [/_plugins/_ism/policies/x] and method [PUT]"}"#;
    let report = text(&policy(30, &[say(400, none)]).await.0.unwrap());
    assert!(report.contains("nothing is ever deleted"), "{report}");
}

/// What a set-up of a namespace changes, for each kind of server.
async fn changes(namespace: &str, days: u64) -> [Vec<(String, String)>; 3] {
    let kept = installed(1, r#"{"lifecycle":{"data_retention":"30d"}}"#);
    let by_itself = vec![
        ok(VERSION_9),
        said(404, NOT_THERE),
        ok(ACKNOWLEDGED),
        said(404, NOT_THERE),
        ok(ACKNOWLEDGED),
        ok(NO_STREAM),
        ok(NO_STREAM),
        ok(ACKNOWLEDGED),
        ok(&kept),
        ok(ACKNOWLEDGED),
        ok(ACKNOWLEDGED),
    ];
    let mut by_ilm = by_itself.clone();
    by_ilm.splice(2..2, [said(400, NO_LIFECYCLE), ok(ACKNOWLEDGED)]);
    let by_ism = vec![
        say(200, VERSION_OS),
        say(404, NOT_THERE),
        say(200, ACKNOWLEDGED),
        say(404, NOT_THERE),
        say(200, ACKNOWLEDGED),
        say(200, NO_STREAM),
        say(200, NO_STREAM),
        say(200, ACKNOWLEDGED),
        say(201, "{}"),
        say(200, ADDED),
        say(200, ADDED),
    ];
    let mut all = Vec::new();
    for replies in [by_itself, by_ilm, by_ism] {
        let (report, lines, bodies) = run_kept(replies, namespace, true, Some(days)).await;
        report.unwrap();
        let bodies = bodies.into_iter().map(|body| String::from_utf8(body).unwrap());
        all.push(lines.into_iter().zip(bodies).filter(|(line, _)| !line.starts_with("GET ")).collect());
    }
    all.try_into().unwrap()
}

#[tokio::test]
async fn the_retention_of_one_namespace_touches_no_other() {
    let (containers, vpn) = (changes("containers", 14).await, changes("vpn", 90).await);
    for (containers, vpn) in containers.iter().zip(&vpn) {
        assert!(containers.len() >= 5 && containers.iter().any(|(_, body)| body.contains("14d")));
        assert!(vpn.len() >= 5 && vpn.iter().any(|(_, body)| body.contains("90d")));
        for (changes, own) in [(containers, "-containers"), (vpn, "-vpn")] {
            for (line, body) in changes {
                assert!(line.contains(own), "{line} may be another namespace's");
                assert!(!body.contains('*'), "{line} {body}");
                let names = body.matches("logs-conntally").count();
                assert_eq!(body.matches(&format!("{own}\"")).count(), names, "{line} {body}");
            }
        }
    }
}

#[tokio::test]
async fn without_a_retention_that_of_an_earlier_set_up_stays() {
    let policy = r#"{"settings":{"index":{"lifecycle":{"name":"logs-conntally.flow-vpn"}}}}"#;
    for (content, kept) in [
        (
            r#"{"lifecycle":{"enabled":true,"data_retention":"14d"}}"#,
            r#""lifecycle":{"data_retention":"14d"}"#,
        ),
        (policy, r#""index.lifecycle.name":"logs-conntally.flow-vpn""#),
    ] {
        let replies = vec![
            ok(VERSION_9),
            ok(&installed(1, content)),
            ok(ACKNOWLEDGED),
            ok(NO_STREAM),
            ok(ACKNOWLEDGED),
        ];
        let (report, lines, bodies) = run_kept(replies, "vpn", false, None).await;
        let report = text(&report.unwrap());
        assert!(report.contains("no retention is given"), "{report}");
        assert_eq!(lines.len(), 5, "nothing is asked of the data stream's lifecycle: {lines:?}");
        assert!(String::from_utf8_lossy(&bodies[2]).contains(kept));
    }
}
