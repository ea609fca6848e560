//! Sums behind a spool, made by agents that are killed: each record is in one of them.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use proptest::prelude::*;
use tempfile::TempDir;
use tokio::time::sleep;

use super::spool::Spool;
use super::{Fold, Folded, Inlet, Items, Offered, Outcome, Request, Sink, spawn_with};
use crate::config::{DeliveryConfig, QueueConfig, SpoolConfig, WhenFull};
use crate::model::{FlowId, Record};
use crate::sinks::samples::ping;

/// Sums of one interval, so that they take more than one request.
const SUMS: u128 = 7;

/// Adds up bytes by the flow's number.
struct Sum {
    /// The number of the next sum: no other agent gives it.
    next: u128,
    bytes: [u64; SUMS as usize],
}

impl Fold for Sum {
    type Item = Record;

    fn take(&mut self, records: &[Record], _: &mut Vec<Record>) {
        for record in records {
            self.bytes[(record.flow_id.0 % SUMS) as usize] += record.delta.original.bytes;
        }
    }

    fn advance(&mut self, _: i64, out: &mut Vec<Record>) {
        for bytes in std::mem::take(&mut self.bytes).into_iter().filter(|bytes| *bytes > 0) {
            out.push(record(self.next, bytes));
            self.next += 1;
        }
    }

    fn finish(mut self, now_ns: i64, out: &mut Vec<Record>) {
        self.advance(now_ns, out);
    }
}

/// Keeps one figure for each number, the last that it was told, as a database does.
#[derive(Clone, Default)]
struct Server {
    sums: Arc<Mutex<BTreeMap<u128, u64>>>,
    is_away: bool,
}

impl Server {
    fn total(&self) -> u64 {
        self.sums.lock().unwrap().values().sum()
    }
}

impl Sink for Server {
    type Item = Record;

    fn encode(&self, item: &Record, out: &mut Vec<u8>) {
        out.extend_from_slice(format!("{} {}\n", item.flow_id.0, item.delta.original.bytes).as_bytes());
    }

    async fn deliver(&self, request: &Request) -> Outcome {
        if self.is_away {
            return Outcome::NotNow { reason: "away".into(), retry_after: None, in_doubt: false };
        }
        for line in std::str::from_utf8(&request.body).unwrap().lines() {
            let (number, bytes) = line.split_once(' ').unwrap();
            self.sums.lock().unwrap().insert(number.parse().unwrap(), bytes.parse().unwrap());
        }
        Outcome::Delivered
    }
}

fn record(flow: u128, bytes: u64) -> Record {
    let mut record = Record { flow_id: FlowId(flow), ..ping() };
    record.delta.original.bytes = bytes;
    record
}

fn start(server: &Server, dir: &Path, life: u128) -> Folded<Sum> {
    start_with(server, &SpoolConfig { segment_bytes: 600, ..SpoolConfig::in_dir(dir.join("spool")) }, life)
}

fn start_with(server: &Server, config: &SpoolConfig, life: u128) -> Folded<Sum> {
    let spool = Spool::open("a", config, "test", [1; 16], true).unwrap();
    let queue = QueueConfig { records: 1_000, when_full: WhenFull::Spool };
    let delivery =
        DeliveryConfig { batch_records: 3, batch_age: Duration::from_millis(1), ..DeliveryConfig::default() };
    let sum = Sum { next: life << 32, bytes: [0; SUMS as usize] };
    Folded::new(sum, spawn_with("a", server.clone(), &queue, &delivery, Some(spool)), 0)
}

/// What an agent does before it is killed.
#[derive(Clone, Debug)]
struct Life {
    /// Batches, each with its number of records, and whether an interval ends behind it.
    batches: Vec<(u8, bool)>,
    is_away: bool,
    /// How long after that, microseconds.
    killed_after_us: u16,
    /// Batches before the end of which what was written was noted last.
    unnoted: usize,
}

fn life() -> impl Strategy<Value = Life> {
    let batches = prop::collection::vec((1u8..20, any::<bool>()), 0..6);
    let rest = (any::<bool>(), 0u16..4_000, 0usize..6);
    (batches, rest).prop_map(|(batches, (is_away, killed_after_us, unnoted))| Life {
        batches,
        is_away,
        killed_after_us,
        unnoted,
    })
}

/// The state that outlives agents: batches of which it is not noted that they are written.
#[derive(Default)]
struct State {
    next: u64,
    unwritten: Vec<(u64, Items<Record>)>,
    ledger: u64,
}

impl State {
    async fn live(&mut self, life: &Life, inlet: &impl Inlet) {
        for (number, records) in &self.unwritten {
            let _ = inlet.inherit(*number, records);
        }
        for (at, (records, is_over)) in life.batches.iter().enumerate() {
            let records: Items<Record> =
                (0..u128::from(*records)).map(|flow| record(flow, 1 + at as u64)).collect::<Vec<_>>().into();
            self.ledger += records.iter().map(|record| record.delta.original.bytes).sum::<u64>();
            self.unwritten.push((self.next, Arc::clone(&records)));
            let _ = inlet.offer(self.next, &records);
            self.next += 1;
            if *is_over {
                inlet.tick(0, false);
            }
            if at + life.unnoted < life.batches.len() {
                self.note(inlet);
                sleep(Duration::from_micros(u64::from(life.killed_after_us / 4))).await;
            }
        }
    }

    fn note(&mut self, inlet: &impl Inlet) {
        let oldest = inlet.oldest().unwrap_or(self.next);
        self.unwritten.retain(|(number, _)| *number >= oldest);
    }
}

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(60))]

    #[test]
    fn killed_agents_bill_each_byte_once(lives in prop::collection::vec(life(), 1..7)) {
        let (dir, server, mut state) = (TempDir::new().unwrap(), Server::default(), State::default());
        for (number, life) in lives.iter().enumerate() {
            let server = Server { is_away: life.is_away, ..server.clone() };
            // What runs at that moment is broken off between two steps.
            runtime().block_on(async {
                let inlet = start(&server, dir.path(), number as u128);
                state.live(life, &inlet).await;
                sleep(Duration::from_micros(u64::from(life.killed_after_us))).await;
            });
        }
        runtime().block_on(async {
            let inlet = start(&server, dir.path(), 99);
            for (number, records) in &state.unwritten {
                let _ = inlet.inherit(*number, records);
            }
            inlet.close();
            inlet.ended().await;
        });
        prop_assert_eq!(server.total(), state.ledger);
    }
}

#[tokio::test(start_paused = true)]
async fn sums_of_which_only_a_part_fits_into_the_spool_are_delivered() {
    for max_bytes in (400..1_600).step_by(50) {
        let (dir, server) = (TempDir::new().unwrap(), Server::default());
        let config =
            SpoolConfig { max_bytes, segment_bytes: 600, ..SpoolConfig::in_dir(dir.path().join("spool")) };
        let folded = start_with(&server, &config, 0);
        let records: Items<Record> = (0..SUMS).map(|flow| record(flow, 10)).collect::<Vec<_>>().into();
        assert_eq!(folded.offer(1, &records), Offered::Taken);
        folded.tick(1, false);
        sleep(Duration::from_secs(5)).await;
        assert_eq!(server.total(), 10 * SUMS as u64, "with {max_bytes} bytes");
        folded.close();
        folded.ended().await;
    }
}
