//! The driver with a spool, against a server that comes and goes. Time is paused: it passes when everyone waits.

use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tempfile::TempDir;
use tokio::time::{Instant, sleep};

use super::spool::Spool;
use super::{GivenUp, Handle, Item, Offered, Outcome, Report, Request, Sink, Weight, spawn_with};
use crate::config::{DeliveryConfig, QueueConfig, SpoolConfig, WhenFull};
use crate::model::{FlowId, Record};
use crate::sinks::samples::ping;

#[derive(Clone, Copy, Debug, PartialEq)]
enum Mood {
    Up,
    Away,
    Stuck,
    /// Takes the first record, refuses the second for good, and the others for now.
    Picky,
}

/// A server that keeps what it took, and how each try looked.
#[derive(Clone)]
struct Server {
    mood: Arc<Mutex<Mood>>,
    stored: Arc<Mutex<Vec<u8>>>,
    tries: Arc<Mutex<Vec<bool>>>,
}

impl Server {
    fn new(mood: Mood) -> Self {
        Self { mood: Arc::new(Mutex::new(mood)), stored: Arc::default(), tries: Arc::default() }
    }

    fn become_(&self, mood: Mood) {
        *self.mood.lock().unwrap() = mood;
    }

    /// Flows in the order in which they were stored.
    fn flows(&self) -> Vec<u128> {
        let stored = self.stored.lock().unwrap();
        let lines = std::str::from_utf8(&stored).unwrap().lines();
        lines.map(|line| line.trim().parse().unwrap()).collect()
    }

    /// Whether each try was in doubt.
    fn doubts(&self) -> Vec<bool> {
        self.tries.lock().unwrap().clone()
    }
}

impl Sink for Server {
    type Item = Record;

    fn encode(&self, item: &Record, out: &mut Vec<u8>) {
        out.extend_from_slice(format!("{:9}\n", item.flow_id.0).as_bytes());
    }

    async fn deliver(&self, request: &Request) -> Outcome {
        self.tries.lock().unwrap().push(request.in_doubt);
        let mood = *self.mood.lock().unwrap();
        match mood {
            Mood::Up => {
                self.stored.lock().unwrap().extend_from_slice(&request.body);
                Outcome::Delivered
            }
            Mood::Away => Outcome::NotNow { reason: "away".into(), retry_after: None, in_doubt: false },
            Mood::Stuck => std::future::pending().await,
            Mood::Picky => {
                self.stored.lock().unwrap().extend_from_slice(request.piece(0).unwrap());
                let again = (2..request.items.len()).collect();
                let given_up = vec![GivenUp { position: 1, reason: "bad".into() }];
                self.become_(Mood::Away);
                Outcome::Partly { again, reason: "full".into(), given_up, retry_after: None }
            }
        }
    }
}

const SECOND: Duration = Duration::from_secs(1);

fn config(dir: &Path) -> SpoolConfig {
    SpoolConfig { segment_bytes: 1_000, max_bytes: 1 << 20, ..SpoolConfig::in_dir(dir.join("spool")) }
}

fn start_with(server: &Server, config: &SpoolConfig, queue: u32) -> Handle<Record> {
    let spool = Spool::open("a", config, "test", [1; 16], false).unwrap();
    let queue = QueueConfig { records: queue, when_full: WhenFull::Spool };
    let delivery = DeliveryConfig { batch_records: 4, ..DeliveryConfig::default() };
    spawn_with("a", server.clone(), &queue, &delivery, Some(spool))
}

fn start(server: &Server, dir: &TempDir) -> Handle<Record> {
    start_with(server, &config(dir.path()), 1_000)
}

fn records(flows: std::ops::Range<u128>) -> Arc<Vec<Record>> {
    Arc::new(flows.map(|flow| Record { flow_id: FlowId(flow), ..ping() }).collect())
}

fn offer(handle: &Handle<Record>, flows: std::ops::Range<u128>) -> Weight {
    let records = records(flows);
    let _: Offered = handle.offer(7, &records);
    records.iter().fold(Weight::default(), |mut sum, record| {
        sum += record.weight();
        sum
    })
}

async fn finish(handle: &Handle<Record>) -> Report {
    handle.close();
    handle.hurry(3_600 * SECOND);
    handle.ended().await;
    let (report, waiting) = (handle.report(), handle.waiting());
    assert_eq!(waiting.records, report.unwritten().records + report.spooled.records);
    assert!(waiting.records > 0 || waiting.oldest.is_zero(), "{waiting:?}");
    report
}

fn files(dir: &TempDir) -> usize {
    std::fs::read_dir(config(dir.path()).dir).unwrap().count() - 1
}

#[tokio::test(start_paused = true)]
async fn what_is_offered_goes_through_the_spool_in_order_and_nothing_stays_there() {
    let (dir, server) = (TempDir::new().unwrap(), Server::new(Mood::Up));
    let handle = start(&server, &dir);
    for batch in 0..50 {
        offer(&handle, batch * 5..batch * 5 + 5);
        sleep(Duration::from_millis(10)).await;
    }
    let report = finish(&handle).await;
    assert_eq!(server.flows(), (0..250).collect::<Vec<_>>());
    assert_eq!(
        (report.delivered, report.spooled, report.unwritten()),
        (report.taken, Weight::default(), Weight::default())
    );
    assert_eq!((files(&dir), handle.oldest()), (0, None));
    assert!(server.doubts().iter().all(|in_doubt| !in_doubt));
}

#[tokio::test(start_paused = true)]
async fn what_a_server_that_is_away_did_not_take_waits_for_the_next_agent() {
    let (dir, away) = (TempDir::new().unwrap(), Server::new(Mood::Away));
    let handle = start(&away, &dir);
    let offered = offer(&handle, 0..400);
    sleep(5 * SECOND).await;
    assert_eq!(handle.oldest(), None, "what is on disk need not be handed on again");
    let waiting = handle.waiting();
    assert_eq!((waiting.records, waiting.moved, waiting.oldest), (400, offered.moved, 5 * SECOND));
    let before = Instant::now();
    let report = finish(&handle).await;
    assert!(before.elapsed() < 2 * SECOND, "{:?}", before.elapsed());
    assert_eq!(
        (report.spooled, report.unwritten(), report.delivered.records),
        (offered, Weight::default(), 0)
    );

    let server = Server::new(Mood::Up);
    let handle = start(&server, &dir);
    assert_eq!(handle.report().spooled, offered);
    offer(&handle, 400..410);
    let report = finish(&handle).await;
    assert_eq!(server.flows(), (0..410).collect::<Vec<_>>());
    assert_eq!((report.delivered.records, report.spooled.records, report.unwritten().records), (410, 0, 0));
    assert_eq!(server.doubts().iter().filter(|in_doubt| **in_doubt).count(), 1, "only what had been tried");
}

#[test]
fn a_killed_agent_loses_nothing_that_was_on_disk() {
    let (dir, server) = (TempDir::new().unwrap(), Server::new(Mood::Stuck));
    let runtime =
        || tokio::runtime::Builder::new_current_thread().enable_all().start_paused(true).build().unwrap();
    let killed = runtime();
    killed.block_on(async {
        let handle = start(&server, &dir);
        offer(&handle, 0..100);
        sleep(5 * SECOND).await;
    });
    drop(killed);
    server.become_(Mood::Up);
    let report = runtime().block_on(async { finish(&start(&server, &dir)).await });
    assert_eq!(server.flows(), (0..100).collect::<Vec<_>>());
    assert_eq!((report.delivered.records, report.missing, report.damaged.records), (100, 0, 0));
    assert_eq!(server.doubts()[..3], [false, true, false]);
}

#[tokio::test(start_paused = true)]
async fn a_server_that_never_answers_does_not_hold_up_the_end() {
    let (dir, server) = (TempDir::new().unwrap(), Server::new(Mood::Stuck));
    let handle = start(&server, &dir);
    offer(&handle, 0..10);
    sleep(SECOND).await;
    let before = Instant::now();
    handle.close();
    handle.hurry(3 * SECOND);
    handle.ended().await;
    let report = handle.report();
    assert!(before.elapsed() < 4 * SECOND, "{:?}", before.elapsed());
    assert_eq!((report.spooled.records, report.unwritten().records), (10, 0));
}

#[tokio::test(start_paused = true)]
async fn each_record_has_one_fate_when_a_request_is_stored_in_part() {
    let (dir, server) = (TempDir::new().unwrap(), Server::new(Mood::Picky));
    let handle = start(&server, &dir);
    let offered = offer(&handle, 0..4);
    let report = finish(&handle).await;
    assert_eq!((report.delivered.records, report.given_up.records, report.spooled.records), (1, 1, 2));
    let mut sum = report.delivered;
    sum += report.given_up;
    sum += report.spooled;
    assert_eq!((sum, report.unwritten()), (offered, Weight::default()));
}

#[tokio::test(start_paused = true)]
async fn a_full_spool_costs_the_newest_counted_and_goes_on_when_there_is_room() {
    let (dir, server) = (TempDir::new().unwrap(), Server::new(Mood::Away));
    let config = SpoolConfig { max_bytes: 3_000, ..config(dir.path()) };
    let handle = start_with(&server, &config, 40);
    let mut offered = Weight::default();
    for batch in 0..60 {
        offered += offer(&handle, batch * 5..batch * 5 + 5);
        sleep(Duration::from_millis(600)).await;
    }
    let report = handle.report();
    assert!(report.dropped.records > 100 && report.spooled.records > 40, "{report:?}");
    server.become_(Mood::Up);
    sleep(60 * SECOND).await;
    offered += offer(&handle, 300..320);
    let report = finish(&handle).await;
    assert_eq!(report.delivered.records + report.dropped.records, offered.records);
    assert_eq!(report.delivered.moved + report.dropped.moved, offered.moved);
    let flows = server.flows();
    assert!(flows.is_sorted_by(|a, b| a < b), "{flows:?}");
    assert!(flows.ends_with(&(300..320).collect::<Vec<_>>()));
}

#[tokio::test(start_paused = true)]
async fn what_a_full_spool_never_took_stays_with_whoever_handed_it_in() {
    let (dir, server) = (TempDir::new().unwrap(), Server::new(Mood::Away));
    let config = SpoolConfig { max_bytes: 3_000, ..config(dir.path()) };
    let handle = start_with(&server, &config, 1_000);
    let offered = offer(&handle, 0..200);
    sleep(5 * SECOND).await;
    assert_eq!(handle.oldest(), Some(7));
    let report = finish(&handle).await;
    assert_eq!(handle.oldest(), Some(7), "a state directory keeps it for the next agent");
    assert_eq!(report.spooled.records + report.unwritten().records, offered.records);
    assert!(report.spooled.records > 0 && report.unwritten().records > 0, "{report:?}");
}

#[tokio::test(start_paused = true)]
async fn a_disk_that_fails_does_not_keep_a_server_that_works_from_getting_records() {
    let (dir, server) = (TempDir::new().unwrap(), Server::new(Mood::Up));
    let handle = start(&server, &dir);
    std::fs::remove_dir_all(config(dir.path()).dir).unwrap();
    offer(&handle, 0..100);
    sleep(10 * SECOND).await;
    assert_eq!(server.flows(), (0..100).collect::<Vec<_>>());
    std::fs::create_dir(config(dir.path()).dir).unwrap();
    offer(&handle, 100..200);
    let report = finish(&handle).await;
    assert_eq!(server.flows(), (0..200).collect::<Vec<_>>());
    assert_eq!((report.delivered.records, report.spooled.records, report.dropped.records), (200, 0, 0));
}
