//! The sink against answers that were recorded or that no server gives on request.

use serde_json::{Value, json};

use super::*;
use crate::model::{FlowId, RecordKind};
use crate::pipeline::{GivenUp, Item as _};
use crate::sinks::http::Endpoint;
use crate::sinks::http::double::{Asked, Double, Reply};
use crate::sinks::samples::end_of_tcp;

fn context() -> EncodeContext {
    EncodeContext { host: "gw1".into(), netns_name: Box::new(|_| None), networks: Arc::default() }
}

fn record(flow: u128) -> Record {
    Record { flow_id: FlowId(flow), observed_boot_ns: MOMENT, ..end_of_tcp() }
}

/// Later than any agent's start: what is older may have been sent by an agent before.
const MOMENT: u64 = u64::MAX;

fn id(flow: u128) -> String {
    format!("{}-end-{MOMENT}", FlowId(flow))
}

fn request(sink: &Elasticsearch, flows: std::ops::Range<u128>) -> Request {
    let records: Vec<Record> = flows.map(record).collect();
    let (mut body, mut ends) = (Vec::new(), Vec::new());
    sink.encode_all(&records, &mut body, &mut ends);
    let items = ends.into_iter().zip(&records).map(|(end, record)| (end, record.weight())).collect();
    Request { body, items, ..Request::default() }
}

struct Bench {
    sink: Elasticsearch,
    double: Double,
    dir: tempfile::TempDir,
}

/// Long enough for a server on a busy machine, short enough to wait for one that says nothing.
const PATIENCE: Duration = Duration::from_secs(2);

impl Bench {
    async fn new(replies: Vec<Reply>) -> Self {
        Self::with(replies, |_| {}).await
    }

    async fn with(replies: Vec<Reply>, change: impl FnOnce(&mut Options)) -> Self {
        let double = Double::plain(replies).await;
        let dir = tempfile::tempdir().unwrap();
        let mut options = Options::new(vec![double.endpoint("/base")]);
        options.rejected_file = Some(dir.path().join("rejected"));
        change(&mut options);
        let sink = Elasticsearch::new("archive", &options, PATIENCE, context()).unwrap();
        Self { sink, double, dir }
    }

    fn lines(&self) -> Vec<String> {
        self.double.asked().iter().map(line).collect()
    }
}

fn line(asked: &Asked) -> String {
    asked.head.lines().next().unwrap_or_default().trim_end_matches(" HTTP/1.1").to_owned()
}

fn ids(asked: &Asked) -> Vec<String> {
    let text = String::from_utf8(asked.body.clone()).unwrap();
    text.split_inclusive('\n').filter_map(|line| id_of(line.as_bytes()).map(str::to_owned)).collect()
}

fn say(status: u16, body: impl ToString) -> Reply {
    Reply::Say(status, "", body.to_string())
}

fn indices(generations: std::ops::RangeInclusive<u32>) -> Reply {
    let name = |generation| format!(".ds-logs-conntally.flow-default-2026.11.21-{generation:06}");
    let indices: Vec<_> = generations.map(name).collect();
    let stream = json!({ "name": "logs-conntally.flow-default", "backing_indices": indices });
    say(200, json!({ "indices": [], "data_streams": [stream] }))
}

fn items(statuses: &[u16]) -> Reply {
    let items: Vec<Value> = statuses.iter().map(|status| json!({ "create": { "status": status } })).collect();
    say(200, json!({ "items": items }))
}

fn got(found: &[(u128, bool)]) -> Reply {
    let docs: Vec<Value> =
        found.iter().map(|(flow, found)| json!({ "_id": id(*flow), "found": found })).collect();
    say(200, json!({ "docs": docs }))
}

fn not_now_of(outcome: Outcome) -> (String, bool) {
    match outcome {
        Outcome::NotNow { reason, in_doubt, .. } => (reason, in_doubt),
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn items_are_created_in_the_data_stream_and_the_index_is_asked_for_once() {
    let bench = Bench::new(vec![indices(1..=1), items(&[201, 201]), items(&[201])]).await;
    assert_eq!(bench.sink.deliver(&request(&bench.sink, 0..2)).await, Outcome::Delivered);
    assert_eq!(bench.sink.deliver(&request(&bench.sink, 2..3)).await, Outcome::Delivered);
    let lines = bench.lines();
    assert_eq!(lines[0], "GET /base/_resolve/index/logs-conntally.flow-default");
    assert!(
        lines[1].starts_with("POST /base/logs-conntally.flow-default/_bulk?filter_path=items"),
        "{lines:?}"
    );
    assert_eq!(lines.len(), 3);
    let asked = bench.double.asked();
    assert!(asked[1].head.to_lowercase().contains("content-type: application/json"));
    assert!(asked[1].head.to_lowercase().contains("content-encoding: gzip"));
    assert_eq!(asked[1].body, request(&bench.sink, 0..2).body);
}

#[tokio::test]
async fn only_failed_items_are_named_and_refused_ones_are_kept_with_their_reason() {
    let refusal = json!({ "type": "document_parsing_exception", "reason": "no long" });
    let answer = json!({ "items": [
        { "create": { "status": 201 } },
        { "create": { "status": 429, "error": { "type": "es_rejected_execution_exception", "reason": "x" } } },
        { "create": { "status": 400, "error": refusal } },
        { "create": { "status": 409, "error": { "type": "version_conflict_engine_exception", "reason": "x" } } },
    ]});
    let bench = Bench::new(vec![indices(1..=1), say(200, answer)]).await;
    let outcome = bench.sink.deliver(&request(&bench.sink, 0..4)).await;
    let Outcome::Partly { again, reason, given_up, .. } = outcome else { panic!("{outcome:?}") };
    assert!(reason.contains("rejected_execution") && reason.contains("more to do than it can"), "{reason}");
    let positions: Vec<_> = given_up.iter().map(|GivenUp { position, .. }| *position).collect();
    assert_eq!((again, positions), (vec![1], vec![2, 3]));
    let kept = std::fs::read_to_string(bench.dir.path().join("rejected")).unwrap();
    let kept: Vec<Value> = kept.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(kept.len(), 1, "what is a duplicate is stored already");
    assert_eq!(kept[0]["id"], id(2));
    assert_eq!(kept[0]["document"]["flow"]["id"], FlowId(2).to_string());
    assert!(kept[0]["reason"].as_str().unwrap().contains("no long"));
}

#[tokio::test]
async fn what_was_sent_before_may_be_there() {
    let bench = Bench::new(vec![indices(1..=1), items(&[409, 201])]).await;
    let request = Request { attempt: 1, ..request(&bench.sink, 0..2) };
    assert_eq!(bench.sink.deliver(&request).await, Outcome::Delivered);
}

#[tokio::test]
async fn what_is_older_than_the_agent_may_be_there() {
    let old = Record { flow_id: FlowId(7), ..end_of_tcp() };
    let there = format!("{}-end-{}", old.flow_id, old.observed_boot_ns);
    let told = |found: bool| say(200, json!({ "docs": [{ "_id": there, "found": found }] }));
    let bench = Bench::new(vec![indices(1..=2), told(true), told(false)]).await;
    let (mut body, mut ends) = (Vec::new(), Vec::new());
    bench.sink.encode_all(&[old], &mut body, &mut ends);
    let request = Request { items: vec![(ends[0], old.weight())], body, ..Request::default() };
    assert_eq!(bench.sink.deliver(&request).await, Outcome::Delivered);
    assert_eq!(bench.lines().len(), 3, "it is not sent");
}

#[tokio::test]
async fn without_an_answer_and_without_a_rollover_the_server_tells_what_is_there() {
    let replies = vec![indices(1..=1), Reply::Close(""), indices(1..=1), items(&[409, 201])];
    let bench = Bench::new(replies).await;
    let first = request(&bench.sink, 0..2);
    assert!(not_now_of(bench.sink.deliver(&first).await).1, "in doubt");
    let second = Request { attempt: 1, in_doubt: true, ..first };
    assert_eq!(bench.sink.deliver(&second).await, Outcome::Delivered);
    assert_eq!(bench.lines().len(), 4);
}

#[tokio::test]
async fn after_a_rollover_ids_are_looked_for_and_what_is_there_is_not_sent_again() {
    let replies = vec![
        indices(1..=1),
        Reply::Hang,
        indices(1..=2),
        got(&[(0, true), (1, false), (2, false)]),
        got(&[(0, false), (1, false), (2, false)]),
        items(&[201, 429]),
    ];
    let bench = Bench::new(replies).await;
    let first = request(&bench.sink, 0..3);
    assert!(not_now_of(bench.sink.deliver(&first).await).1);
    let outcome = bench.sink.deliver(&Request { attempt: 1, in_doubt: true, ..first }).await;
    assert!(matches!(&outcome, Outcome::Partly { again, .. } if *again == [2]), "{outcome:?}");
    let asked = bench.double.asked();
    assert!(line(&asked[3]).contains("-000001/_mget?"), "{:?}", bench.lines());
    assert!(line(&asked[4]).contains("-000002/_mget?"), "{:?}", bench.lines());
    assert_eq!(ids(&asked[5]), [id(1), id(2)]);
}

#[tokio::test]
async fn what_an_earlier_process_sent_is_looked_for_in_all_indices() {
    let none: Vec<_> = (0..2).map(|flow| (flow, false)).collect();
    let found = json!({ "timed_out": false, "hits": { "hits": [{ "_id": id(0) }, { "_id": id(1) }] } });
    let mut replies = vec![indices(1..=9)];
    replies.extend((0..8).map(|_| got(&none)));
    replies.push(say(200, found));
    let bench = Bench::new(replies).await;
    let request = Request { in_doubt: true, ..request(&bench.sink, 0..2) };
    assert_eq!(bench.sink.deliver(&request).await, Outcome::Delivered);
    let lines = bench.lines();
    assert!(lines[1].contains("-000002/_mget"), "{lines:?}");
    assert!(lines[9].contains("/_search?allow_partial_search_results=false"), "{lines:?}");
    assert_eq!(lines.len(), 10, "nothing is sent again");
}

#[tokio::test]
async fn what_was_spooled_for_another_data_stream_goes_to_the_one_of_now() {
    // What a name may hold.
    let before = Bench::with(Vec::new(), |options| options.stream = DataStream::of("be}fore},")).await;
    let spooled = request(&before.sink, 0..3);
    let bench = Bench::new(vec![indices(1..=1), items(&[201, 429, 201])]).await;
    let outcome = bench.sink.deliver(&spooled).await;
    let Outcome::Partly { again, .. } = outcome else { panic!("{outcome:?}") };
    assert_eq!(again, [1], "positions are those of the request");
    let asked = bench.double.asked();
    assert_eq!(asked[1].body, request(&bench.sink, 0..3).body);
    let mut broken = spooled;
    broken.body.iter_mut().filter(|byte| **byte == b'{').for_each(|byte| *byte = b'(');
    let (reason, in_doubt) = not_now_of(bench.sink.deliver(&broken).await);
    assert!(reason.contains("no item") && !in_doubt, "{reason}");
    assert_eq!(bench.lines().len(), 2, "nothing is sent");
}

#[tokio::test]
async fn a_search_that_does_not_tell_leaves_the_request_in_doubt() {
    let denied =
        json!({ "error": { "type": "security_exception", "reason": "unauthorized" }, "status": 403 });
    for wrong in [say(403, denied), say(200, "{}"), say(200, json!({ "docs": [] })), Reply::Close("")] {
        let bench = Bench::new(vec![indices(1..=2), wrong]).await;
        let request = Request { in_doubt: true, ..request(&bench.sink, 0..1) };
        let (reason, in_doubt) = not_now_of(bench.sink.deliver(&request).await);
        assert!(in_doubt, "{reason}");
        assert_eq!(bench.lines().len(), 2, "nothing is sent");
    }
}

#[tokio::test]
async fn refusals_of_whole_requests_are_told_apart() {
    let error = |kind: &str| json!({ "error": { "type": kind, "reason": "x" } }).to_string();
    let cases = [
        (401, error("security_exception"), false, "api_key_file"),
        (403, error("security_exception"), false, "create_doc"),
        (404, "<html>".into(), false, "does the url lead"),
        (429, error("es_rejected_execution_exception"), false, "more to do than it can"),
        (502, "bad gateway".into(), true, "502"),
        (503, error("cluster_block_exception"), true, "503"),
        (301, String::new(), false, "leads elsewhere"),
    ];
    for (status, body, doubt, part) in cases {
        let bench = Bench::new(vec![indices(1..=1), say(status, body)]).await;
        let (reason, in_doubt) = not_now_of(bench.sink.deliver(&request(&bench.sink, 0..1)).await);
        assert_eq!(in_doubt, doubt, "{status}");
        assert!(reason.contains(part), "{reason}");
    }
    let bench = Bench::new(vec![indices(1..=1), say(413, "")]).await;
    let outcome = bench.sink.deliver(&request(&bench.sink, 0..1)).await;
    assert!(matches!(outcome, Outcome::TooLarge { .. }), "{outcome:?}");
    let bench = Bench::new(vec![indices(1..=1), Reply::Say(429, "retry-after: 7\r\n", String::new())]).await;
    let outcome = bench.sink.deliver(&request(&bench.sink, 0..1)).await;
    let wish = Some(Duration::from_secs(7));
    assert!(matches!(&outcome, Outcome::NotNow { retry_after, .. } if *retry_after == wish), "{outcome:?}");
}

#[tokio::test]
async fn answers_that_are_garbage_cut_or_endless_leave_the_request_in_doubt() {
    let huge = format!("{{\"items\":[{}", "0,".repeat(LONGEST_ANSWER));
    let cut = "HTTP/1.1 200 OK\r\ncontent-length: 500\r\n\r\n{\"items\":[{\"create\":{\"status\":201";
    let garbage = "\0\0\0\r\n\r\n";
    for wrong in [
        say(200, "<html>it works</html>"),
        say(200, ""),
        say(204, ""),
        items(&[201, 201]),
        say(200, huge),
        Reply::Close(cut),
        Reply::Close(garbage),
        Reply::Close("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\nzzz\r\n"),
        Reply::Hang,
    ] {
        let told = format!("{wrong:.60?}");
        let bench = Bench::new(vec![indices(1..=1), wrong]).await;
        let (reason, in_doubt) = not_now_of(bench.sink.deliver(&request(&bench.sink, 0..1)).await);
        assert!(in_doubt, "{told}: {reason}");
    }
}

#[tokio::test]
async fn a_node_that_is_away_is_passed_over() {
    let bench = Bench::with(vec![indices(1..=1), items(&[201])], |options| {
        options.urls.insert(0, Endpoint::parse("http://127.0.0.1:1").unwrap());
    })
    .await;
    assert_eq!(bench.sink.deliver(&request(&bench.sink, 0..1)).await, Outcome::Delivered);
    let away = Bench::with(vec![], |options| {
        options.urls = vec![Endpoint::parse("http://127.0.0.1:1").unwrap()];
    })
    .await;
    let (reason, in_doubt) = not_now_of(away.sink.deliver(&request(&away.sink, 0..1)).await);
    assert!(!in_doubt && reason.contains("is the server running"), "{reason}");
}

#[tokio::test]
async fn a_key_that_changed_is_read_again_and_never_told() {
    let denied = "no such key: hunter2";
    let bench = Bench::with(vec![say(401, ""), say(401, denied), indices(1..=1), items(&[201])], |options| {
        let path = options.rejected_file.as_ref().unwrap().with_file_name("key");
        std::fs::write(&path, "hunter2").unwrap();
        let place = crate::config::Place::Flag("x");
        options.login = Login::ApiKey(crate::config::Secret::in_file(path, place, "x".into()));
    })
    .await;
    let request = request(&bench.sink, 0..1);
    let (reason, _) = not_now_of(bench.sink.deliver(&request).await);
    assert!(!reason.contains("hunter2") && reason.contains("***"), "{reason}");
    std::fs::write(bench.dir.path().join("key"), "other one").unwrap();
    assert_eq!(bench.sink.deliver(&request).await, Outcome::Delivered);
    let asked = bench.double.asked();
    assert!(asked[1].head.contains("ApiKey hunter2") && asked[3].head.contains("ApiKey other one"));
}

#[tokio::test]
async fn a_cluster_that_cannot_be_set_up_yet_gets_nothing() {
    let bench = Bench::with(vec![say(503, "")], |options| options.setup = true).await;
    let (reason, _) = not_now_of(bench.sink.deliver(&request(&bench.sink, 0..1)).await);
    assert!(reason.contains("cannot set the server up"), "{reason}");
    assert_eq!(bench.lines().len(), 1);
}

#[test]
fn an_item_alone_is_the_item_among_others() {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let bench = runtime.block_on(Bench::new(vec![]));
    let mut alone = Vec::new();
    bench.sink.encode(&record(1), &mut alone);
    assert_eq!(request(&bench.sink, 0..3).piece(1), Some(alone.as_slice()));
    assert_eq!(record(1).kind, RecordKind::End);
}
