//! Indices of the mode `logsdb`, which Elasticsearch 9 gives to every stream named `logs-*-*`. The module that makes it
//! the default is not in all builds; the mode itself is, and a template of the test's own asks for it.

use super::flows::{end, request, request_of};
use super::installing::{template_as_sent, template_of};
use super::lab::Lab;
use super::storing::sum;
use conntally::pipeline::{Outcome, Request, Sink as _};
use serde_json::{Value, json};
use std::collections::BTreeSet;

/// What has not got the mode.
const WITHOUT: &[&str] = &["opensearch-2", "opensearch-3", "elasticsearch-8"];

pub(crate) async fn stores_in_logsdb(lab: &Lab) {
    let options = lab.options("logsdb");
    let other = lab.options("installs").stream;
    let mut template = template_as_sent(lab.get(&template_of(&other)));
    template["index_patterns"] = json!([options.stream.name()]);
    // Its usual compression is native code that the small servers have not got.
    template["template"]["settings"]["index"] = json!({ "mode": "logsdb", "codec": "default" });
    let path = template_of(&options.stream);
    let answer = lab.ask("PUT", &path, Some(&template));
    if !answer.is_success() {
        assert!(WITHOUT.contains(&lab.name()), "{}", answer.text());
        return lab.leaves_out("the index mode logsdb", "this server has not got it");
    }
    let sink = lab.sink(&options);
    assert_eq!(sink.deliver(&request(&sink, 0..1_000)).await, Outcome::Delivered);
    let index = lab.indices(&options.stream).remove(0);
    assert_eq!(lab.get(&format!("/{index}/_settings"))[&index]["settings"]["index"]["mode"], "logsdb");
    assert_eq!(lab.stored(&options.stream), (1_000, sum(1_000)));

    let outcome = sink.deliver(&request(&sink, 999..1_001)).await;
    let Outcome::Partly { given_up, .. } = outcome else { panic!("{outcome:?}") };
    assert_eq!(given_up.len(), 1, "an id that was there: {given_up:?}");
    lab.roll_over(&options.stream);
    let doubtful = Request { in_doubt: true, attempt: 1, ..request(&sink, 0..1_200) };
    assert_eq!(sink.deliver(&doubtful).await, Outcome::Delivered);
    assert_eq!(lab.stored(&options.stream), (1_200, sum(1_200)), "once across a rollover");

    gives_back_what_was_sent(lab).await;
    lab.ask("DELETE", &format!("/_data_stream/{}", options.stream), None);
    lab.ask("DELETE", &path, None);
}

/// Such an index may keep no source and make it up from the fields.
async fn gives_back_what_was_sent(lab: &Lab) {
    let options = lab.options("logsdb");
    let sink = lab.sink(&options);
    let sent = request_of(&sink, &[end(5_000)]);
    assert_eq!(sink.deliver(&sent).await, Outcome::Delivered);
    let query = json!({ "query": { "range": { "network.bytes": { "gte": 5_300 } } } });
    let found = lab.search(&options.stream, &query);
    assert_eq!(found["hits"]["hits"].as_array().unwrap().len(), 1, "{found}");
    let document = sent.body.split(|byte| *byte == b'\n').nth(1).unwrap();
    let sent = serde_json::from_slice(document).unwrap();
    assert_eq!(leaves(&found["hits"]["hits"][0]["_source"]), leaves(&sent));
}

/// Each field with each of its values; moments without zeros at their end.
fn leaves(document: &Value) -> BTreeSet<(String, String)> {
    let mut found = BTreeSet::new();
    let mut rest = vec![(String::new(), document)];
    while let Some((path, value)) = rest.pop() {
        match value {
            Value::Object(fields) => {
                rest.extend(fields.iter().map(|(name, value)| (format!("{path}.{name}"), value)));
            }
            Value::Array(items) => rest.extend(items.iter().map(|item| (path.clone(), item))),
            Value::String(text) if text.starts_with("2026-") && text.ends_with('Z') => {
                let moment = text.trim_end_matches('Z').trim_end_matches('0').trim_end_matches('.');
                found.insert((path, moment.to_owned()));
            }
            leaf => drop(found.insert((path, leaf.to_string()))),
        }
    }
    found
}
