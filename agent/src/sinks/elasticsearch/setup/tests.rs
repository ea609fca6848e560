//! Setting up against recorded answers: what servers say that cannot be had here.

use super::*;
use crate::sinks::http::Endpoint;
use crate::sinks::http::double::{Double, Reply};

const PRODUCT: &str = "x-elastic-product: Elasticsearch\r\n";

pub(super) fn ok(body: &str) -> Reply {
    Reply::Say(200, PRODUCT, body.to_owned())
}

pub(super) fn said(status: u16, body: &str) -> Reply {
    Reply::Say(status, PRODUCT, body.to_owned())
}

pub(super) const VERSION_9: &str = r#"{"nodes":{"x":{"version":"9.4.3"}}}"#;
pub(super) const NOT_THERE: &str = r#"{"error":{"type":"resource_not_found_exception","reason":"index template matching [logs-conntally.flow-default] not found"},"status":404}"#;
pub(super) const NO_STREAM: &str = r#"{"indices":[],"aliases":[],"data_streams":[]}"#;
pub(super) const NO_LIFECYCLE: &str = r#"{"error":{"type":"x_content_parse_exception","reason":"failed to parse field [template]","caused_by":{"type":"x_content_parse_exception","reason":"[template] unknown field [lifecycle]"}},"status":400}"#;
pub(super) const ACKNOWLEDGED: &str = r#"{"acknowledged":true}"#;
const STREAM: &str = r#"{"indices":[],"aliases":[],"data_streams":[{"name":"logs-conntally.flow-default","backing_indices":[".ds-logs-conntally.flow-default-2026.11.21-000001"],"timestamp_field":"@timestamp"}]}"#;

/// What the index has whose documents are written now.
fn mapped(version: &str) -> Reply {
    ok(&format!(
        r#"{{".ds-logs-conntally.flow-default-2026.11.21-000001":{{"mappings":{{"_meta":{{{version}}},"properties":{{}}}}}}}}"#
    ))
}

const OF_THIS_VERSION: &str = r#""conntally":{"version":1}"#;

pub(super) fn installed(version: u64, content: &str) -> String {
    format!(
        r#"{{"index_templates":[{{"name":"logs-conntally.flow-default","index_template":{{"_meta":{{"conntally":{{"version":{version}}}}},"template":{content}}}}}]}}"#
    )
}

async fn run(replies: Vec<Reply>) -> (Result<Report, SetupError>, Vec<String>, Vec<Vec<u8>>) {
    run_with(replies, false).await
}

async fn run_with(
    replies: Vec<Reply>,
    status: bool,
) -> (Result<Report, SetupError>, Vec<String>, Vec<Vec<u8>>) {
    run_kept(replies, "default", status, Some(30)).await
}

/// In a namespace whose documents are kept for so many days.
pub(super) async fn run_kept(
    replies: Vec<Reply>,
    namespace: &str,
    status: bool,
    days: Option<u64>,
) -> (Result<Report, SetupError>, Vec<String>, Vec<Vec<u8>>) {
    let double = Double::plain(replies).await;
    let mut options = Options::new(vec![double.endpoint("")]);
    options.stream = DataStream::of(namespace);
    options.retention = days.map(|days| Duration::from_secs(days * 86_400));
    options.status = status;
    let result = install(&options, Duration::from_secs(10)).await;
    let asked = double.asked();
    let lines = asked.iter().map(|asked| asked.head.lines().next().unwrap_or_default().to_owned()).collect();
    (result, lines, asked.into_iter().map(|asked| asked.body).collect())
}

pub(super) fn text(report: &Report) -> String {
    report.sentences().collect::<Vec<_>>().join("\n")
}

#[tokio::test]
async fn elasticsearch_gets_template_stream_and_its_lifecycle() {
    let lifecycle = installed(1, r#"{"lifecycle":{"data_retention":"30d"}}"#);
    let replies = vec![
        ok(VERSION_9),
        said(404, NOT_THERE),
        ok(ACKNOWLEDGED),
        ok(NO_STREAM),
        ok(ACKNOWLEDGED),
        ok(&lifecycle),
        ok(ACKNOWLEDGED),
    ];
    let (report, lines, bodies) = run(replies).await;
    let report = text(&report.unwrap());
    assert!(report.contains("Elasticsearch 9.4.3") && report.contains("after 30d"), "{report}");
    assert_eq!(lines[2], "PUT /_index_template/logs-conntally.flow-default HTTP/1.1");
    let template: Value = serde_json::from_slice(&bodies[2]).unwrap();
    assert_eq!(template["template"]["lifecycle"]["data_retention"], "30d");
    assert_eq!(lines[4], "PUT /_data_stream/logs-conntally.flow-default HTTP/1.1");
    assert_eq!(lines[6], "PUT /_data_stream/logs-conntally.flow-default/_lifecycle HTTP/1.1");
}

#[tokio::test]
async fn the_state_of_the_accounting_gets_a_template_kept_as_long() {
    let replies = vec![
        ok(VERSION_9),
        said(404, NOT_THERE),
        ok(ACKNOWLEDGED),
        said(404, NOT_THERE),
        ok(ACKNOWLEDGED),
        ok(NO_STREAM),
        ok(STREAM),
        mapped(OF_THIS_VERSION),
        ok(&installed(1, "{}")),
    ];
    let (report, lines, bodies) = run_with(replies, true).await;
    assert!(text(&report.unwrap()).contains("logs-conntally.status-default is installed"));
    assert_eq!(lines[4], "PUT /_index_template/logs-conntally.status-default HTTP/1.1");
    let template: Value = serde_json::from_slice(&bodies[4]).unwrap();
    assert_eq!(template["index_patterns"], json!(["logs-conntally.status-default"]));
    assert_eq!(template["template"]["lifecycle"]["data_retention"], "30d");
}

#[tokio::test]
async fn an_older_elasticsearch_gets_a_policy() {
    let replies = vec![
        ok(VERSION_9),
        said(404, NOT_THERE),
        said(400, NO_LIFECYCLE),
        ok(ACKNOWLEDGED),
        ok(ACKNOWLEDGED),
        ok(NO_STREAM),
        ok(ACKNOWLEDGED),
        ok(ACKNOWLEDGED),
    ];
    let (report, lines, bodies) = run(replies).await;
    let report = text(&report.unwrap());
    assert!(report.contains("(ILM)"), "{report}");
    assert_eq!(lines[3], "PUT /_ilm/policy/logs-conntally.flow-default HTTP/1.1");
    // For the indices that are there already.
    assert_eq!(lines[7], "PUT /logs-conntally.flow-default/_settings HTTP/1.1");
    assert_eq!(bodies[7], br#"{"index.lifecycle.name":"logs-conntally.flow-default"}"#);
    let policy: Value = serde_json::from_slice(&bodies[3]).unwrap();
    assert_eq!(policy["policy"]["phases"]["delete"]["min_age"], "30d");
    let template: Value = serde_json::from_slice(&bodies[4]).unwrap();
    assert_eq!(template["template"]["settings"]["index.lifecycle.name"], "logs-conntally.flow-default");
}

#[tokio::test]
async fn an_older_template_is_replaced_and_the_stream_rolled_over() {
    let replies = vec![
        ok(VERSION_9),
        ok(&installed(0, "{}")),
        ok(ACKNOWLEDGED),
        ok(STREAM),
        mapped(""),
        ok(ACKNOWLEDGED),
        ok(r#"{"acknowledged":true,"rolled_over":true}"#),
        ok(&installed(1, "{}")),
    ];
    let (report, lines, _) = run(replies).await;
    report.unwrap();
    assert_eq!(lines[4], "GET /.ds-logs-conntally.flow-default-2026.11.21-000001/_mapping HTTP/1.1");
    assert_eq!(lines[5], "PUT /logs-conntally.flow-default/_mapping HTTP/1.1");
    assert_eq!(lines[6], "POST /logs-conntally.flow-default/_rollover HTTP/1.1");
}

#[tokio::test]
async fn a_stream_that_was_left_behind_is_led_on_though_the_template_is_of_this_version() {
    let rolled = r#"{"acknowledged":true,"rolled_over":true}"#;
    let status = STREAM.replace("conntally.flow", "conntally.status");
    let replies = vec![
        ok(VERSION_9),
        ok(&installed(VERSION, "{}")),
        ok(ACKNOWLEDGED),
        ok(&installed(status::VERSION, "{}")),
        ok(ACKNOWLEDGED),
        ok(&status),
        mapped(r#""conntally":{"version":0}"#),
        ok(ACKNOWLEDGED),
        ok(rolled),
        ok(STREAM),
        mapped(r#""conntally":{"version":0}"#),
        ok(ACKNOWLEDGED),
        ok(rolled),
        ok(&installed(1, "{}")),
    ];
    let (report, lines, _) = run_with(replies, true).await;
    assert_eq!(text(&report.unwrap()).matches("is rolled over").count(), 2);
    assert_eq!(lines[8], "POST /logs-conntally.status-default/_rollover HTTP/1.1");
    assert_eq!(lines[12], "POST /logs-conntally.flow-default/_rollover HTTP/1.1");
}

#[tokio::test]
async fn a_lead_that_fails_is_tried_again_by_the_next_set_up() {
    let left = [ok(VERSION_9), ok(&installed(VERSION, "{}")), ok(ACKNOWLEDGED), ok(STREAM), mapped("")];
    let busy = said(503, r#"{"error":{"type":"x","reason":"no master"},"status":503}"#);
    let (failed, ..) = run([left.as_slice(), &[ok(ACKNOWLEDGED), busy]].concat()).await;
    assert!(failed.unwrap_err().to_string().contains("no master"));
    let rest = [ok(ACKNOWLEDGED), ok(r#"{"rolled_over":true}"#), ok(&installed(1, "{}"))];
    let (report, ..) = run([left.as_slice(), &rest].concat()).await;
    assert!(text(&report.unwrap()).contains("is rolled over"));
}

#[tokio::test]
async fn what_a_newer_agent_installed_stays() {
    let (report, lines, _) = run(vec![ok(VERSION_9), ok(&installed(VERSION + 1, "{}"))]).await;
    assert!(text(&report.unwrap()).contains("left as it is"));
    assert_eq!(lines.len(), 2);
}

#[tokio::test]
async fn refusals_and_absence_are_told_with_what_to_do() {
    let denied = r#"{"error":{"type":"security_exception","reason":"action [cluster:monitor/nodes/info] is unauthorized"},"status":403}"#;
    let (result, ..) = run(vec![said(403, denied)]).await;
    assert!(result.unwrap_err().to_string().contains("manage_index_templates"));
    let options = Options::new(vec![crate::sinks::http::Endpoint::parse("http://127.0.0.1:1").unwrap()]);
    let error = install(&options, Duration::from_secs(5)).await.unwrap_err();
    assert!(error.to_string().contains("127.0.0.1:1"), "{error}");
}

#[tokio::test]
async fn a_node_that_never_answers_leaves_time_for_the_next_which_is_asked_from_then_on() {
    let silent = Double::plain(vec![Reply::Hang]).await;
    let lifecycle = installed(1, r#"{"lifecycle":{"data_retention":"30d"}}"#);
    let replies = [
        ok(VERSION_9),
        ok(&lifecycle),
        ok(ACKNOWLEDGED),
        ok(STREAM),
        mapped(OF_THIS_VERSION),
        ok(ACKNOWLEDGED),
    ];
    let answering = Double::plain(replies.to_vec()).await;
    let options = Options::new(vec![silent.endpoint(""), answering.endpoint("")]);
    let installed = tokio::time::timeout(Duration::from_secs(30), install(&options, Duration::from_secs(4)));
    installed.await.unwrap().unwrap();
    assert_eq!(silent.asked().len(), 1);
    assert!(answering.asked().len() >= 3);
}

#[tokio::test]
async fn a_server_that_is_away_or_does_not_know_who_asks_is_told_with_what_to_do() {
    let options = Options::new(vec![Endpoint::parse("http://127.0.0.1:1").unwrap()]);
    let told = install(&options, Duration::from_secs(10)).await.unwrap_err().to_string();
    assert!(told.contains("Connection refused") && told.contains("is the server running"), "{told}");
    let (result, _, _) =
        run(vec![said(401, r#"{"error":{"type":"x","reason":"missing credentials"}}"#)]).await;
    let told = result.unwrap_err().to_string();
    assert!(told.contains("missing credentials; set api_key_file, or user and password_file"), "{told}");
}
