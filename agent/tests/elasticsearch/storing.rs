//! What becomes of requests.

use super::flows::{end, request, request_of};
use super::lab::{Lab, TIMEOUT};
use conntally::config::Secret;
use conntally::model::Record;
use conntally::pipeline::{Outcome, Request, Sink as _};
use conntally::sinks::elasticsearch::setup::install;
use conntally::sinks::elasticsearch::{Counters, Login, Options};
use serde_json::json;

/// What 100 + n for n below that adds up to.
pub(crate) const fn sum(flows: u64) -> u64 {
    100 * flows + flows * (flows - 1) / 2
}

pub(crate) async fn stores(lab: &Lab) {
    let (sink, options) = lab.prepared("stores").await;
    assert_eq!(sink.deliver(&request(&sink, 0..1_000)).await, Outcome::Delivered);
    assert_eq!(lab.stored(&options.stream), (1_000, sum(1_000)));
    let term = |field: &str, value: serde_json::Value| json!({ "term": { field: value } });
    let all = [
        term("source.ip", json!("10.0.0.0/8")),
        term("destination.ip", json!("198.51.100.7")),
        term("flow.final", json!(true)),
        term("network.transport", json!("tcp")),
        term("conntally.end_reason", json!("closed")),
        term("data_stream.dataset", json!("conntally.flow")),
        json!({ "range": { "@timestamp": { "gte": "2026-11-20T10:00:00.123456789Z", "lt": "2026-11-20T10:00:00.123456790Z" } } }),
    ];
    for query in all {
        let found =
            lab.search(&options.stream, &json!({ "size": 0, "track_total_hits": true, "query": query }));
        assert_eq!(found["hits"]["total"]["value"], 1_000, "{query}");
    }
    deltas(lab).await;
}

async fn deltas(lab: &Lab) {
    let (_, mut options) = lab.prepared("deltas").await;
    options.counters = Counters::Delta;
    let sink = lab.sink(&options);
    assert_eq!(sink.deliver(&request(&sink, 0..10)).await, Outcome::Delivered);
    assert_eq!(lab.stored(&options.stream), (10, 10 * 100));
    let query = json!({ "query": { "range": { "conntally.total.source.bytes": { "gt": 100 } } } });
    assert_eq!(lab.search(&options.stream, &query)["hits"]["total"]["value"], 9);
}

pub(crate) async fn once_across_a_rollover(lab: &Lab) {
    let (sink, options) = lab.prepared("rollover").await;
    let first = request(&sink, 0..500);
    assert_eq!(sink.deliver(&first).await, Outcome::Delivered);
    // As if no answer had come: some of it is stored, some is not.
    let more = Request { in_doubt: true, attempt: 1, ..request(&sink, 0..700) };
    assert_eq!(sink.deliver(&more).await, Outcome::Delivered);
    assert_eq!(lab.stored(&options.stream), (700, sum(700)), "without a rollover");
    lab.roll_over(&options.stream);
    let most = Request { in_doubt: true, attempt: 1, ..request(&sink, 0..900) };
    assert_eq!(sink.deliver(&most).await, Outcome::Delivered);
    assert_eq!(lab.stored(&options.stream), (900, sum(900)), "after one");
    for _ in 0..2 {
        lab.roll_over(&options.stream);
        assert_eq!(sink.deliver(&most).await, Outcome::Delivered);
    }
    assert_eq!(lab.stored(&options.stream), (900, sum(900)), "after three");
}

/// More indices than are asked one by one; what is in the others has been there long enough to be found by a search.
pub(crate) async fn finds_in_all_indices(lab: &Lab) {
    let (sink, options) = lab.prepared("earlier").await;
    for part in 0..12 {
        let flows = part * 50..(part + 1) * 50;
        assert_eq!(sink.deliver(&request(&sink, flows)).await, Outcome::Delivered);
        if part < 5 {
            lab.refresh(&options.stream);
        }
        lab.roll_over(&options.stream);
    }
    // A spool of an earlier process hands these on; another one has what is older than itself.
    let later = lab.sink(&options);
    let spooled = Request { in_doubt: true, ..request(&later, 0..650) };
    assert_eq!(later.deliver(&spooled).await, Outcome::Delivered);
    assert_eq!(lab.stored(&options.stream), (650, sum(650)));
    let old: Vec<Record> = (0..50).map(|flow| Record { observed_boot_ns: 5, ..end(flow) }).collect();
    for _ in 0..2 {
        assert_eq!(sink.deliver(&request_of(&sink, &old)).await, Outcome::Delivered);
        lab.roll_over(&options.stream);
    }
    assert_eq!(lab.stored(&options.stream).0, 700);
}

pub(crate) async fn tells_duplicates(lab: &Lab) {
    let (sink, options) = lab.prepared("duplicates").await;
    assert_eq!(sink.deliver(&request(&sink, 0..2)).await, Outcome::Delivered);
    let outcome = sink.deliver(&request(&sink, 1..4)).await;
    let Outcome::Partly { again, given_up, .. } = outcome else { panic!("{outcome:?}") };
    assert!(again.is_empty() && given_up.len() == 1 && given_up[0].position == 0, "{given_up:?}");
    assert_eq!(lab.stored(&options.stream), (4, sum(4)));
}

pub(crate) async fn keeps_refused(lab: &Lab) {
    let (_, mut options) = lab.prepared("refused").await;
    let folder = tempfile::tempdir().unwrap();
    options.rejected_file = Some(folder.path().join("rejected"));
    let sink = lab.sink(&options);
    let mut broken = request(&sink, 0..3);
    // Of the same length, so that nothing else moves.
    let text = String::from_utf8(broken.body).unwrap();
    broken.body = text.replacen(r#""duration":123456789"#, r#""duration":"wrong!!""#, 1).into_bytes();
    let outcome = sink.deliver(&broken).await;
    let Outcome::Partly { given_up, .. } = outcome else { panic!("{outcome:?}") };
    assert_eq!(given_up.len(), 1);
    assert!(given_up[0].reason.contains("event.duration"), "{given_up:?}");
    let kept = std::fs::read_to_string(folder.path().join("rejected")).unwrap();
    assert!(kept.contains("wrong!!") && kept.lines().count() == 1, "{kept}");
    assert_eq!(lab.stored(&options.stream).0, 2);
    // Ours is strict.
    let mut unknown = request(&sink, 3..4);
    unknown.body =
        String::from_utf8(unknown.body).unwrap().replacen(r#""zone""#, r#""zoon""#, 1).into_bytes();
    let outcome = sink.deliver(&unknown).await;
    assert!(matches!(&outcome, Outcome::Partly { given_up, .. } if given_up.len() == 1), "{outcome:?}");
}

pub(crate) async fn waits_for_a_block(lab: &Lab) {
    let (sink, options) = lab.prepared("blocked").await;
    assert_eq!(sink.deliver(&request(&sink, 0..1)).await, Outcome::Delivered);
    let path = format!("/{}/_settings", options.stream);
    lab.put(&path, &json!({ "index.blocks.write": true }));
    let outcome = sink.deliver(&request(&sink, 1..3)).await;
    let Outcome::NotNow { reason, in_doubt: false, .. } = outcome else { panic!("{outcome:?}") };
    assert!(reason.contains("index.blocks"), "{reason}");
    lab.put(&path, &json!({ "index.blocks.write": false }));
    let again = Request { attempt: 1, ..request(&sink, 1..3) };
    assert_eq!(sink.deliver(&again).await, Outcome::Delivered);
    assert_eq!(lab.stored(&options.stream).0, 3);
}

pub(crate) async fn tells_too_large(lab: &Lab) {
    let (_, mut options) = lab.prepared("large").await;
    options.http.compress = false;
    let sink = lab.sink(&options);
    let outcome = sink.deliver(&request(&sink, 0..6_000)).await;
    assert!(matches!(outcome, Outcome::TooLarge { .. }), "{outcome:?}");
    assert_eq!(sink.deliver(&request(&sink, 0..2_000)).await, Outcome::Delivered);
    assert_eq!(lab.stored(&options.stream).0, 2_000);
}

pub(crate) async fn needs_few_rights(lab: &Lab) {
    if !lab.is_complete() {
        return lab
            .leaves_out("rights and wrong keys", "this server has no security; elasticsearch-8 and -9 have");
    }
    let (_, mut options) = lab.prepared("rights").await;
    let key = |cluster: &[&str], privileges: &[&str]| {
        let names = ["logs-conntally.flow-*", "logs-conntally.status-*"];
        let role = json!({ "cluster": cluster, "indices": [{ "names": names, "privileges": privileges }] });
        let wanted = json!({ "name": "few", "role_descriptors": { "few": role } });
        let made = lab.ask("POST", "/_security/api_key", Some(&wanted)).json().unwrap();
        Login::ApiKey(Secret::of(made["encoded"].as_str().unwrap()))
    };
    let installing = key(&["monitor", "manage_index_templates", "manage_ilm"], &["manage"]);
    // Of a data stream that is there, and of one that is not.
    for namespace in ["rights", "rights_of_another"] {
        let options = Options { login: installing.clone(), ..lab.options(namespace) };
        install(&options, TIMEOUT).await.unwrap();
    }
    options.login = key(&[], &["create_doc", "auto_configure", "view_index_metadata", "read"]);
    let sink = lab.sink(&options);
    let doubtful = Request { in_doubt: true, ..request(&sink, 0..9) };
    assert_eq!(sink.deliver(&doubtful).await, Outcome::Delivered);
    lab.roll_over(&options.stream);
    assert_eq!(lab.sink(&options).deliver(&doubtful).await, Outcome::Delivered);
    assert_eq!(lab.stored(&options.stream).0, 9);
    options.login = key(&[], &["read"]);
    let sink = lab.sink(&options);
    let outcome = sink.deliver(&request(&sink, 9..10)).await;
    let Outcome::NotNow { reason, in_doubt: false, .. } = outcome else { panic!("{outcome:?}") };
    assert!(reason.contains("create_doc"), "{reason}");
    options.login = Login::ApiKey(Secret::of("d3Jvbmc6a2V5"));
    let sink = lab.sink(&options);
    let Outcome::NotNow { reason, .. } = sink.deliver(&request(&sink, 9..10)).await else { panic!() };
    // Where the key does not come from a file, no file is to be looked at.
    assert!(reason.contains("401") && reason.ends_with("; check api_key"), "{reason}");
}
