//! What setting up leaves at a server.

use super::flows::request;
use super::lab::{Lab, TIMEOUT};
use conntally::pipeline::{Outcome, Sink as _};
use conntally::sinks::elasticsearch::setup::install;
use conntally::sinks::elasticsearch::{DataStream, Options};
use serde_json::{Value, json};
use std::time::Duration;

/// That of the data stream, which has its name.
pub(crate) fn template_of(stream: &DataStream) -> String {
    format!("/_index_template/{stream}")
}

pub(crate) async fn installs(lab: &Lab) {
    let report = lab.install("installs").await.unwrap();
    let told: Vec<_> = report.sentences().collect();
    println!("  {}", told.join("\n  "));
    assert!(told[0].contains(if lab.name().starts_with("opensearch") {
        "OpenSearch"
    } else {
        "Elasticsearch"
    }));
    let sink = lab.sink(&lab.options("installs"));
    assert_eq!(sink.deliver(&request(&sink, 0..3)).await, Outcome::Delivered);
    let stream = lab.options("installs").stream;
    let index = lab.indices(&stream).remove(0);
    let mapping = lab.get(&format!("/{index}/_mapping"));
    let properties = &mapping[&index]["mappings"]["properties"];
    assert_eq!(properties["@timestamp"]["type"], "date_nanos");
    assert_eq!(properties["source"]["properties"]["ip"]["type"], "ip");
    assert_eq!(properties["source"]["properties"]["bytes"]["type"], "long");
    assert_eq!(properties["network"]["properties"]["transport"]["type"], "keyword");
    assert_eq!(mapping[&index]["mappings"]["properties"]["conntally"]["dynamic"], "strict");
    let settings = lab.get(&format!("/{index}/_settings"));
    let mode = &settings[&index]["settings"]["index"]["mode"];
    if mode.is_null() {
        lab.leaves_out(
            "logsdb by default",
            "no server here has the module x-pack-logsdb, which makes it the default for logs-*-*",
        );
    } else {
        assert_eq!(mode, "logsdb");
    }
    // Again, nothing changes.
    lab.install("installs").await.unwrap();
    assert_eq!(lab.indices(&stream).len(), 1);
}

pub(crate) async fn leads_on(lab: &Lab) {
    // As an agent with fewer fields would have left it.
    let options = lab.options("leads_on");
    let mapping = json!({ "dynamic": false, "properties": { "@timestamp": { "type": "date_nanos" } } });
    lab.put(
        &template_of(&options.stream),
        &json!({
            "index_patterns": [options.stream.name()], "data_stream": {}, "priority": 300,
            "_meta": { "conntally": { "version": 0 } }, "template": { "mappings": mapping },
        }),
    );
    let sink = lab.sink(&options);
    assert_eq!(sink.deliver(&request(&sink, 0..2)).await, Outcome::Delivered);
    lab.install("leads_on").await.unwrap();
    assert_eq!(lab.indices(&options.stream).len(), 2);
    assert_eq!(sink.deliver(&request(&sink, 2..4)).await, Outcome::Delivered);
    let newest = lab.indices(&options.stream).pop().unwrap();
    let found = lab.get(&format!("/{newest}/_mapping"));
    assert_eq!(found[&newest]["mappings"]["properties"]["source"]["properties"]["ip"]["type"], "ip");
}

pub(crate) async fn leaves_newer(lab: &Lab) {
    lab.install("leaves_newer").await.unwrap();
    let template = template_of(&lab.options("leaves_newer").stream);
    let mut newer = template_as_sent(lab.get(&template));
    newer["_meta"]["conntally"]["version"] = json!(1_000);
    lab.put(&template, &newer);
    let report = lab.install("leaves_newer").await.unwrap();
    assert!(report.sentences().any(|told| told.contains("left as it is")));
    assert_eq!(
        lab.get(&template)["index_templates"][0]["index_template"]["_meta"]["conntally"]["version"],
        1_000
    );
}

/// Each as long as its own options say, whoever is set up after it.
pub(crate) async fn keeps_by_namespace(lab: &Lab) {
    // A person's own for all of them is in nobody's way.
    let own = "/_index_template/everything-of-conntally";
    let patterns = json!({ "index_patterns": ["logs-conntally.*"], "data_stream": {}, "priority": 300 });
    lab.put(own, &patterns);
    let for_days = |namespace: &str, days: u64| Options {
        retention: Some(Duration::from_secs(days * 86_400)),
        ..lab.options(namespace)
    };
    let without = Options { retention: None, ..lab.options("kept_without") };
    let (long, short) = (for_days("kept_long", 90), for_days("kept_short", 14));
    for (at, options) in [&long, &without, &short, &without].into_iter().enumerate() {
        install(options, TIMEOUT).await.unwrap();
        let sink = lab.sink(options);
        let at = u64::try_from(at).unwrap();
        assert_eq!(sink.deliver(&request(&sink, at..at + 1)).await, Outcome::Delivered);
    }
    let found = [&long, &short, &without].map(|options| kept(lab, &options.stream));
    let changed = for_days("kept_long", 60);
    install(&changed, TIMEOUT).await.unwrap();
    let after = [&long, &short, &without].map(|options| kept(lab, &options.stream));
    install(&Options { retention: None, ..changed }, TIMEOUT).await.unwrap();
    let again = kept(lab, &long.stream);
    lab.ask("DELETE", own, None);
    if lab.name().starts_with("opensearch") {
        return lab.leaves_out("how long documents are kept", "no server here has the plugin of ISM");
    }
    let days = |told: [&str; 3]| told.map(|told| Value::from((!told.is_empty()).then_some(told)));
    assert_eq!(found, days(["90d", "14d", ""]));
    assert_eq!(after, days(["60d", "14d", ""]));
    assert_eq!(again, "60d", "what an earlier set-up said");
}

/// How long documents of a data stream are kept, as its template says: no server here has the interface that would tell
/// it of the stream itself.
fn kept(lab: &Lab, stream: &DataStream) -> Value {
    let mut template = template_as_sent(lab.get(&template_of(stream)));
    template["template"]["lifecycle"]["data_retention"].take()
}

/// An installed template without what the server adds.
pub(crate) fn template_as_sent(mut answer: Value) -> Value {
    let mut template = answer["index_templates"][0]["index_template"].take();
    for told in ["created_date_millis", "modified_date_millis", "created_date", "modified_date"] {
        template.as_object_mut().unwrap().remove(told);
    }
    template
}

/// Before there is a template.
pub(crate) async fn refuses_an_index(lab: &Lab) {
    let made = lab.ask("PUT", "/logs-conntally.flow-anindex", Some(&json!({})));
    if !made.is_success() {
        // The real Elasticsearch has a template of its own for such names.
        assert!(lab.is_complete(), "{}", made.text());
        return lab.leaves_out("an index in place of the stream", "this server refuses to make one");
    }
    let error = lab.install("anindex").await.unwrap_err().to_string();
    assert!(error.contains("not a data stream"), "{error}");
    lab.ask("DELETE", "/logs-conntally.flow-anindex", None);
}
