//! Requests against real servers, which `cargo xtask servers up influxdb-2 influxdb-1` starts. Their addresses stand in
//! `CONNTALLY_INFLUXDB_2`, `CONNTALLY_INFLUXDB_1` and `CONNTALLY_INFLUXDB_1_UDP`; organisation, token and user are
//! those that it makes. `cargo test -p conntally --lib real_tests -- --ignored` runs them.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use super::tests::{INTERVAL, born, point};
use super::wire_tests::{TIMEOUT, options, request, sink};
use super::{InfluxDb, Target};
use crate::config::Secret;
use crate::model::{Counter, FlowId, Record, RecordKind, Totals};
use crate::pipeline::{Outcome, Point, Request, Sink, Sums, TagName, Weight};
use crate::sinks::http::{Call, Client, Endpoint, HttpOptions, Method, authorization, basic};
use crate::sinks::samples::end_of_tcp;

/// What `cargo xtask servers` sets up.
const TOKEN: &str = "token-of-the-test-servers";
const PASSWORD: &str = "password-of-the-test-servers";

fn endpoint(variable: &str) -> Endpoint {
    Endpoint::parse(&std::env::var(variable).expect(variable)).unwrap()
}

fn now() -> i64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_nanos() as i64
}

/// A name that no other test and no earlier run has.
fn fresh(name: &str) -> String {
    format!("{name}{}", now())
}

fn two(bucket: &str, token: &str, create: bool) -> Target {
    let url = endpoint("CONNTALLY_INFLUXDB_2");
    Target::Two { url, org: "o".into(), bucket: bucket.into(), token: Secret::of(token), create }
}

fn one(database: &str, create: bool) -> Target {
    Target::One {
        url: endpoint("CONNTALLY_INFLUXDB_1"),
        database: database.into(),
        retention_policy: None,
        login: Some(("admin".into(), Secret::of(PASSWORD))),
        create,
    }
}

async fn ask(target: &Target, method: Method, path: &[&str], query: &[(&str, &str)], body: &str) -> String {
    let secret = |text| Secret::of(text).read().unwrap();
    let (url, login) = match target {
        Target::Two { url, .. } => (url, authorization("Token", &secret(TOKEN))),
        Target::One { url, .. } => (url, basic("admin", &secret(PASSWORD))),
        Target::Udp { .. } => unreachable!(),
    };
    let body = (!body.is_empty()).then_some(("application/json", body.as_bytes()));
    let call = Call { method, url: url.at(path, query), authorization: login, body, most: 1 << 20 };
    let client = Client::new(&HttpOptions::default(), Duration::from_secs(20)).unwrap();
    let answer = client.send(call).await.unwrap();
    assert!(answer.is_success(), "{}", answer.said(&answer.text()));
    answer.text().into_owned()
}

/// The sum of a field over all points of a database or bucket.
async fn sum(target: &Target, database: &str, field: &str) -> u64 {
    let query = format!("SELECT sum({field}) FROM /.*/");
    let text = ask(target, Method::GET, &["query"], &[("db", database), ("q", &query)], "").await;
    let json: serde_json::Value = serde_json::from_str(&text).unwrap();
    json.pointer("/results/0/series/0/values/0/1").and_then(serde_json::Value::as_u64).unwrap_or_default()
}

fn record(number: u64, bytes: u64) -> Record {
    Record {
        flow_id: FlowId(u128::from(number)),
        kind: RecordKind::Update,
        observed_ns: now(),
        delta: Totals { original: Counter { packets: 1, bytes }, reply: Counter::default() },
        ..end_of_tcp()
    }
}

fn records(sink: &InfluxDb<Record>, count: u64) -> Request {
    let mut request = Request::default();
    for number in 0..count {
        sink.encode(&record(number, number), &mut request.body);
        request.items.push((request.body.len() as u32, Weight { records: 1, ..Weight::default() }));
    }
    request
}

/// Gives up the lines at these positions and sends again what is to be sent again.
async fn settle(sink: &InfluxDb<Record>, request: &Request, refused: &[usize]) {
    let outcome = sink.deliver(request).await;
    let Outcome::Partly { again, given_up, .. } = outcome else { panic!("{outcome:?}") };
    assert_eq!(given_up.iter().map(|gone| gone.position).collect::<Vec<_>>(), refused, "{given_up:?}");
    if !again.is_empty() {
        assert_eq!(sink.deliver(&request.only(&again)).await, Outcome::Delivered);
    }
}

async fn delivers(target: Target, database: &str) {
    let sink = sink(target.clone());
    let request = records(&sink, 1_000);
    for _ in 0..2 {
        assert_eq!(sink.deliver(&request).await, Outcome::Delivered, "again, it is the same points");
    }
    assert_eq!(sum(&target, database, "source_bytes").await, 999 * 1_000 / 2);
    assert_eq!(sum(&target, database, "source_packets").await, 1_000);
}

async fn gives_up_bad_lines(target: Target, database: &str) {
    let sink = sink(target.clone());
    let now = now();
    let line = |at: i64, field: &str| format!("m,t=a\\ b {field} {}", now + at);
    let lines = [line(0, "n=1i"), line(1, "n"), line(2, "n=2i"), "m,t n=1i".into(), line(4, "n=4i")];
    settle(&sink, &request(&lines.each_ref().map(String::as_str)), &[1, 3]).await;
    assert_eq!(sum(&target, database, "n").await, 7);
}

/// Of two points that lie beyond the retention, and one that does not.
async fn gives_up_what_is_too_old(target: Target, database: &str) {
    let sink = sink(target.clone());
    let day = 86_400_000_000_000;
    let lines = [0, 30 * day, 1, 40 * day].map(|age| format!("m n=1i {}", now() - age));
    settle(&sink, &request(&lines.each_ref().map(String::as_str)), &[1, 3]).await;
    assert_eq!(sum(&target, database, "n").await, 2);
}

#[tokio::test]
#[ignore = "needs real servers"]
async fn version_2_keeps_what_it_is_sent_in_a_bucket_that_is_made() {
    let bucket = fresh("two");
    delivers(two(&bucket, TOKEN, true), &bucket).await;
    gives_up_bad_lines(two(&bucket, TOKEN, false), &bucket).await;
}

#[tokio::test]
#[ignore = "needs real servers"]
async fn points_of_two_agents_and_of_runs_within_one_interval_all_count() {
    let bucket = fresh("runs");
    let target = two(&bucket, TOKEN, true);
    let start = now() / INTERVAL * INTERVAL;
    for host in ["a", "b"] {
        for run in 0..5 {
            let series = born("flows", host, start + 7 * run);
            let sink = InfluxDb::<Point>::new("live", &options(target.clone()), TIMEOUT, series).unwrap();
            let sums = Sums { source_bytes: 1 << run, ..Sums::default() };
            let mut request = Request::default();
            sink.encode(&point(vec![(TagName::Src, "x".into())], sums, start), &mut request.body);
            request.items.push((request.body.len() as u32, Weight::default()));
            for _ in 0..2 {
                assert_eq!(sink.deliver(&request).await, Outcome::Delivered);
            }
        }
    }
    assert_eq!(sum(&target, &bucket, "source_bytes").await, 2 * 31);
}

#[tokio::test]
#[ignore = "needs real servers"]
async fn version_2_refuses_what_is_too_old() {
    let bucket = fresh("short");
    let target = two(&bucket, TOKEN, false);
    let orgs = ask(&target, Method::GET, &["api", "v2", "orgs"], &[("org", "o")], "").await;
    let orgs: serde_json::Value = serde_json::from_str(&orgs).unwrap();
    let org = orgs.pointer("/orgs/0/id").and_then(serde_json::Value::as_str).unwrap();
    let rules = r#"[{"type":"expire","everySeconds":86400}]"#;
    let body = format!(r#"{{"orgID":"{org}","name":"{bucket}","retentionRules":{rules}}}"#);
    ask(&target, Method::POST, &["api", "v2", "buckets"], &[], &body).await;
    gives_up_what_is_too_old(target, &bucket).await;
}

#[tokio::test]
#[ignore = "needs real servers"]
async fn version_2_says_what_a_person_has_to_mend() {
    for (target, part) in [
        (two("flows", "hunter2", false), "status 401"),
        (two("no-such-bucket", TOKEN, false), "create = true"),
    ] {
        let outcome = sink(target).deliver(&request(&["m n=1i 1"])).await;
        let Outcome::NotNow { reason, in_doubt: false, .. } = outcome else { panic!("{outcome:?}") };
        assert!(reason.contains(part) && !reason.contains("hunter2"), "{reason}");
    }
}

#[tokio::test]
#[ignore = "needs real servers"]
async fn version_1_keeps_what_it_is_sent_in_a_database_that_is_made() {
    let database = fresh("one");
    delivers(one(&database, true), &database).await;
    gives_up_bad_lines(one(&database, false), &database).await;
    let query = format!("ALTER RETENTION POLICY autogen ON {database} DURATION 1d SHARD DURATION 1h");
    let other = fresh("short");
    let create = format!("CREATE DATABASE {other}");
    ask(&one(&other, false), Method::POST, &["query"], &[("q", &create)], "").await;
    let query = query.replace(&database, &other);
    ask(&one(&other, false), Method::POST, &["query"], &[("q", &query)], "").await;
    gives_up_what_is_too_old(one(&other, false), &other).await;
}

#[tokio::test]
#[ignore = "needs real servers"]
async fn datagrams_arrive_at_a_server_that_has_room() {
    let udp = std::env::var("CONNTALLY_INFLUXDB_1_UDP").unwrap();
    let address = udp.trim_start_matches("udp://").to_owned();
    let sink = sink(Target::Udp { address, payload: 1_400 });
    let target = one("udp", false);
    let before = sum(&target, "udp", "source_packets").await;
    assert_eq!(sink.deliver(&records(&sink, 200)).await, Outcome::Delivered);
    tokio::time::sleep(Duration::from_secs(3)).await;
    assert_eq!(sum(&target, "udp", "source_packets").await, before + 200);
}
