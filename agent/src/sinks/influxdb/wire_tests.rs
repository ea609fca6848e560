//! Requests against a server that says what it is told to.

use std::time::{Duration, SystemTime};

use super::{InfluxDb, Options, Series, Shape, Target};
use crate::config::{Document, Secret, SinkKind, validate};
use crate::model::Record;
use crate::pipeline::{Outcome, Request, Sink, Weight};
use crate::sinks::http::double::{Double, Reply};
use crate::sinks::http::{Endpoint, HttpOptions};
use crate::sinks::samples::end_of_tcp;

pub(super) const TIMEOUT: Duration = Duration::from_secs(5);

pub(super) fn request(lines: &[&str]) -> Request {
    let mut request = Request::default();
    for line in lines {
        request.body.extend_from_slice(format!("{line}\n").as_bytes());
        request.items.push((request.body.len() as u32, Weight { records: 1, ..Weight::default() }));
    }
    request
}

pub(super) fn options(target: Target) -> Options {
    Options {
        target,
        http: HttpOptions::default(),
        measurement: "flows".into(),
        shape: Shape::PerFlow,
        status: false,
    }
}

pub(super) fn sink(target: Target) -> InfluxDb<Record> {
    let series = Series::new("flows", "gw", Duration::from_secs(10), SystemTime::now());
    InfluxDb::new("live", &options(target), TIMEOUT, series).unwrap()
}

fn two(url: Endpoint, create: bool) -> Target {
    Target::Two { url, org: "n o c".into(), bucket: "flows".into(), token: Secret::of("hunter2"), create }
}

fn json(status: u16, body: &str) -> Reply {
    Reply::Say(status, "Content-Type: application/json\r\n", body.into())
}

fn healthy() -> Reply {
    json(200, r#"{"name":"influxdb","status":"pass","version":"v2.7.12"}"#)
}

fn no_organization() -> Reply {
    json(200, r#"{"orgs":[]}"#)
}

fn bad_line(line: &str) -> Reply {
    json(400, &format!(r#"{{"code":"invalid","message":"unable to parse '{line}': missing fields"}}"#))
}

#[tokio::test]
async fn version_2_is_written_to_with_its_token_once_it_was_asked_who_it_is() {
    let double = Double::plain([healthy(), no_organization()]).await;
    let sink = sink(two(double.endpoint("/"), false));
    for _ in 0..2 {
        assert_eq!(sink.deliver(&request(&["m n=1i 1"])).await, Outcome::Delivered);
    }
    let asked = double.asked();
    let heads: Vec<_> = asked.iter().map(|asked| asked.head.lines().next().unwrap()).collect();
    assert_eq!(heads[0], "GET /health HTTP/1.1");
    assert!(heads[1].starts_with("GET /api/v2/orgs?org=n+o+c"), "{heads:?}");
    let write = "POST /api/v2/write?org=n+o+c&bucket=flows&precision=ns HTTP/1.1";
    assert_eq!(heads[2..], [write, write]);
    assert!(asked.iter().skip(1).all(|asked| asked.head.contains("Token hunter2")));
    assert_eq!(asked[2].body, b"m n=1i 1\n");
}

#[tokio::test]
async fn below_a_path_everything_is_asked_below_it() {
    let orgs = json(200, r#"{"orgs":[{"id":"00aa","name":"n o c"}]}"#);
    let double = Double::plain([healthy(), orgs, json(200, r#"{"buckets":[]}"#), json(201, "{}")]).await;
    let sink = sink(two(double.endpoint("/influx"), true));
    assert_eq!(sink.deliver(&request(&["m n=1i 1"])).await, Outcome::Delivered);
    let asked = double.asked();
    assert!(asked.iter().all(|asked| asked.head.contains(" /influx/")), "{asked:?}");
    assert_eq!(asked[3].body, br#"{"orgID":"00aa","name":"flows","retentionRules":[]}"#);
}

#[tokio::test]
async fn a_bucket_that_is_missing_is_made_if_that_is_wanted() {
    let orgs = json(200, r#"{"orgs":[{"id":"00aa","name":"n o c"}]}"#);
    let none = json(404, r#"{"code":"not found","message":"bucket \"flows\" not found"}"#);
    let double = Double::plain([healthy(), orgs, none, json(201, "{}")]).await;
    let sink = sink(two(double.endpoint("/"), true));
    assert_eq!(sink.deliver(&request(&["m n=1i 1"])).await, Outcome::Delivered);
    let asked = double.asked();
    assert!(asked[2].head.starts_with("GET /api/v2/buckets?name=flows&orgID=00aa"), "{asked:?}");
    assert!(asked[3].head.starts_with("POST /api/v2/buckets "), "{asked:?}");
}

#[tokio::test]
async fn while_a_bucket_is_missing_that_is_not_to_be_made_only_writes_are_tried_again() {
    let missing = || json(404, r#"{"code":"not found","message":"bucket \"flows\" not found"}"#);
    let double = Double::plain([healthy(), no_organization(), missing(), missing()]).await;
    let sink = sink(two(double.endpoint("/"), false));
    for _ in 0..2 {
        let outcome = sink.deliver(&request(&["m n=1i 1"])).await;
        assert!(matches!(outcome, Outcome::NotNow { .. }), "{outcome:?}");
    }
    assert_eq!(sink.deliver(&request(&["m n=1i 1"])).await, Outcome::Delivered);
    let writes = double.asked().iter().filter(|asked| asked.head.starts_with("POST /api/v2/write")).count();
    assert_eq!((writes, double.asked().len()), (3, 5));
}

#[tokio::test]
async fn a_bucket_that_is_gone_is_made_again_if_that_is_wanted() {
    let orgs = || json(200, r#"{"orgs":[{"id":"00aa","name":"n o c"}]}"#);
    let none = || json(200, r#"{"buckets":[]}"#);
    let gone = json(404, r#"{"code":"not found","message":"bucket \"flows\" not found"}"#);
    let prepared = || [healthy(), orgs(), none(), json(201, "{}")];
    let replies = prepared().into_iter().chain([gone]).chain(prepared());
    let double = Double::plain(replies).await;
    let sink = sink(two(double.endpoint("/"), true));
    assert!(matches!(sink.deliver(&request(&["m n=1i 1"])).await, Outcome::NotNow { .. }));
    assert_eq!(sink.deliver(&request(&["m n=1i 1"])).await, Outcome::Delivered);
    let made = double.asked().iter().filter(|asked| asked.head.starts_with("POST /api/v2/buckets")).count();
    assert_eq!(made, 2);
}

#[tokio::test]
async fn nobody_there_is_said_and_nothing_is_in_doubt() {
    let url = Endpoint::parse("http://127.0.0.1:1").unwrap();
    let outcome = sink(two(url, false)).deliver(&request(&["m n=1i 1"])).await;
    let Outcome::NotNow { reason, in_doubt: false, .. } = outcome else { panic!("{outcome:?}") };
    assert!(reason.contains("nothing listens there") && !reason.contains("hunter2"), "{reason}");
}

#[tokio::test]
async fn a_bad_line_that_nobody_names_is_found() {
    // Eight lines, of which the sixth is bad: halves are refused until it is alone.
    let refused = || bad_line("what is no line of ours");
    let stored = || Reply::Say(204, "", String::new());
    let halves = [refused(), stored(), refused(), refused(), stored(), refused(), stored()];
    let double = Double::plain([healthy(), no_organization()].into_iter().chain(halves)).await;
    let lines = ["m n=1i 1", "m n=1i 2", "m n=1i 3", "m n=1i 4", "m n=1i 5", "bad", "m n=1i 7", "m n=1i 8"];
    let outcome = sink(two(double.endpoint("/"), false)).deliver(&request(&lines)).await;
    let Outcome::Partly { again, given_up, .. } = outcome else { panic!("{outcome:?}") };
    assert!(again.is_empty());
    assert_eq!(given_up.iter().map(|gone| gone.position).collect::<Vec<_>>(), [5]);
    let bodies: Vec<_> = double.asked().into_iter().skip(2).map(|asked| asked.body).collect();
    assert_eq!(bodies[5], b"bad\n");
    assert_eq!(bodies[6], b"m n=1i 7\nm n=1i 8\n");
}

#[tokio::test]
async fn a_search_that_is_refused_for_now_goes_on_later() {
    let busy = Reply::Say(503, "Retry-After: 3\r\n", String::new());
    let replies = [healthy(), no_organization(), bad_line("?"), Reply::Say(204, "", String::new()), busy];
    let double = Double::plain(replies).await;
    let outcome = sink(two(double.endpoint("/"), false)).deliver(&request(&["a", "b", "c", "d"])).await;
    let Outcome::Partly { again, reason, given_up, retry_after } = outcome else { panic!("{outcome:?}") };
    assert_eq!((again, given_up, retry_after), (vec![2, 3], vec![], Some(Duration::from_secs(3))));
    assert!(reason.contains("503"), "{reason}");
}

#[tokio::test]
async fn a_token_that_is_refused_is_read_again() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("token");
    std::fs::write(&path, "old").unwrap();
    let refused = json(401, r#"{"code":"unauthorized","message":"old is no token"}"#);
    let double = Double::plain([healthy(), no_organization(), refused]).await;
    let text = format!(
        "[sinks.live]\ntype = \"influxdb\"\nurl = \"{}\"\norg = \"o\"\nbucket = \"b\"\ntoken_file = {path:?}\n",
        double.endpoint("/")
    );
    let config = validate(&Document::parse(&text, "x.toml".as_ref()).unwrap()).unwrap();
    let SinkKind::Influxdb(options) = &config.sinks[0].kind else { panic!("{config:?}") };
    let sink = sink(options.target.clone());
    let outcome = sink.deliver(&request(&["m n=1i 1"])).await;
    let Outcome::NotNow { reason, .. } = outcome else { panic!("{outcome:?}") };
    assert!(reason.contains("*** is no token; check token_file"), "{reason}");
    std::fs::write(&path, "new").unwrap();
    assert_eq!(sink.deliver(&request(&["m n=1i 1"])).await, Outcome::Delivered);
    assert!(double.asked().last().unwrap().head.contains("Token new"));
}

#[tokio::test]
async fn who_is_not_known_is_told_the_keys_that_are_in_use() {
    let one = |url, login| Target::One {
        url,
        database: "flows".into(),
        retention_policy: None,
        login,
        create: false,
    };
    let ann = || Some(("ann".to_owned(), Secret::of("hunter2")));
    let pinged = || Reply::Say(204, "X-Influxdb-Version: 1.12.4\r\n", String::new());
    for (is_two, login, advice) in [
        (true, None, "; check token"),
        (false, ann(), "; check user and password"),
        (false, None, "; set user and password_file: the server wants to know who this is"),
    ] {
        let refused = json(401, r#"{"error":"unauthorized access"}"#);
        let double = if is_two {
            Double::plain([healthy(), no_organization(), refused]).await
        } else {
            Double::plain([pinged(), refused]).await
        };
        let url = double.endpoint("/");
        let target = if is_two { two(url, false) } else { one(url, login) };
        let outcome = sink(target).deliver(&request(&["m n=1i 1"])).await;
        let Outcome::NotNow { reason, .. } = outcome else { panic!("{outcome:?}") };
        assert!(reason.ends_with(advice), "{reason}");
    }
}

#[tokio::test]
async fn version_1_has_its_database_in_the_address_and_its_password_in_a_header() {
    let double = Double::plain([Reply::Say(204, "X-Influxdb-Version: 1.8.10\r\n", String::new())]).await;
    let target = |create| Target::One {
        url: double.endpoint("/"),
        database: "my \"flows\"".into(),
        retention_policy: Some("week".into()),
        login: Some(("ann".into(), Secret::of("hunter2"))),
        create,
    };
    assert_eq!(sink(target(true)).deliver(&request(&["m n=1i 1"])).await, Outcome::Delivered);
    let asked = double.asked();
    let heads: Vec<_> = asked.iter().map(|asked| asked.head.lines().next().unwrap()).collect();
    assert_eq!(
        heads,
        [
            "GET /ping HTTP/1.1",
            "POST /query?q=CREATE+DATABASE+%22my+%5C%22flows%5C%22%22 HTTP/1.1",
            "POST /write?db=my+%22flows%22&precision=ns&rp=week HTTP/1.1",
        ]
    );
    assert!(asked[2].head.contains("Basic YW5uOmh1bnRlcjI="), "{}", asked[2].head);
}

#[tokio::test]
async fn datagrams_hold_whole_lines_and_no_more_than_they_may() {
    let receiver = tokio::net::UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let address = receiver.local_addr().unwrap().to_string();
    let sink = sink(Target::Udp { address, payload: 1_000 });
    let mut body = Vec::new();
    for _ in 0..10 {
        sink.encode(&end_of_tcp(), &mut body);
    }
    let text = String::from_utf8(body).unwrap();
    let long = format!("m,t={} n=1i 1", "y".repeat(1_000));
    let lines: Vec<&str> = text.lines().chain([long.as_str()]).collect();
    let outcome = sink.deliver(&request(&lines)).await;
    let Outcome::Partly { again, given_up, .. } = outcome else { panic!("{outcome:?}") };
    assert_eq!((again.len(), given_up.len(), given_up[0].position), (0, 1, 10));
    let (mut received, mut buffer) = (String::new(), [0; 2_000]);
    while received.len() < text.len() {
        let length = receiver.recv(&mut buffer).await.unwrap();
        let datagram = std::str::from_utf8(&buffer[..length]).unwrap();
        assert!(length <= 1_000 && datagram.ends_with('\n'), "{length}");
        received.push_str(datagram);
    }
    assert_eq!(received, text);
}
