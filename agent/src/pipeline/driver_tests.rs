//! The driver against a sink that answers as it is told. Time is paused: it passes when everyone waits.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use proptest::prelude::*;
use tokio::time::{Instant, sleep};

use super::{GivenUp, Handle, Items, Offered, Outcome, Report, Request, Sink, spawn};
use crate::config::{DeliveryConfig, QueueConfig, WhenFull};
use crate::model::{FlowId, Record, RecordKind, Waiting};
use crate::sinks::samples::{end_of_tcp, ping};

/// How one try ends.
#[derive(Clone, Debug)]
enum Answer {
    Say(Outcome),
    After(Duration),
    /// The sink itself gives up waiting after that time.
    Unanswered(Duration),
    Never,
    Panic,
}

/// A try as the sink saw it.
#[derive(Clone, Debug)]
struct Try {
    at: Duration,
    flows: Vec<u128>,
    attempt: u32,
    in_doubt: bool,
}

#[derive(Clone)]
struct Script {
    start: Instant,
    answers: Arc<Mutex<VecDeque<Answer>>>,
    tries: Arc<Mutex<Vec<Try>>>,
    at_once: Arc<Mutex<(usize, usize)>>,
}

impl Script {
    fn new(answers: impl IntoIterator<Item = Answer>) -> Self {
        Self {
            start: Instant::now(),
            answers: Arc::new(Mutex::new(answers.into_iter().collect())),
            tries: Arc::default(),
            at_once: Arc::default(),
        }
    }

    fn tries(&self) -> Vec<Try> {
        self.tries.lock().unwrap().clone()
    }

    /// The flows of each try.
    fn flows(&self) -> Vec<Vec<u128>> {
        self.tries().into_iter().map(|seen| seen.flows).collect()
    }

    /// How many requests were under way at the same time.
    fn most_at_once(&self) -> usize {
        self.at_once.lock().unwrap().1
    }
}

/// Flow ids, one a line, ten bytes each.
impl Sink for Script {
    type Item = Record;

    fn encode(&self, item: &Record, out: &mut Vec<u8>) {
        assert!(item.mark != 666, "cursed");
        out.extend_from_slice(format!("{:9}\n", item.flow_id.0).as_bytes());
    }

    async fn deliver(&self, request: &Request) -> Outcome {
        let pieces = (0..request.items.len()).filter_map(|position| request.piece(position));
        let flows = pieces.map(|piece| std::str::from_utf8(piece).unwrap().trim().parse().unwrap()).collect();
        let Request { attempt, in_doubt, .. } = *request;
        self.tries.lock().unwrap().push(Try { at: self.start.elapsed(), flows, attempt, in_doubt });
        {
            let mut at_once = self.at_once.lock().unwrap();
            at_once.0 += 1;
            at_once.1 = at_once.1.max(at_once.0);
        }
        let answer = self.answers.lock().unwrap().pop_front();
        let outcome = match answer {
            None => Outcome::Delivered,
            Some(Answer::Say(outcome)) => outcome,
            Some(Answer::After(pause)) => {
                sleep(pause).await;
                Outcome::Delivered
            }
            Some(Answer::Unanswered(pause)) => {
                sleep(pause).await;
                Outcome::NotNow { reason: "no answer".into(), retry_after: None, in_doubt: true }
            }
            Some(Answer::Never) => std::future::pending().await,
            Some(Answer::Panic) => panic!("bad luck"),
        };
        self.at_once.lock().unwrap().0 -= 1;
        outcome
    }
}

const SECOND: Duration = Duration::from_secs(1);

fn config() -> DeliveryConfig {
    DeliveryConfig { batch_records: 4, batch_bytes: 1 << 20, ..DeliveryConfig::default() }
}

fn start(script: &Script, config: &DeliveryConfig) -> Handle<Record> {
    let queue = QueueConfig { records: 1_000, when_full: WhenFull::Coalesce };
    spawn("a", script.clone(), &queue, config)
}

fn records(flows: std::ops::Range<u128>) -> Items<Record> {
    flows.map(|flow| Record { flow_id: FlowId(flow), ..ping() }).collect::<Vec<_>>().into()
}

async fn finish(handle: &Handle<Record>) -> Report {
    handle.close();
    handle.hurry(3_600 * SECOND);
    handle.ended().await;
    handle.report()
}

fn not_now(retry_after: Option<Duration>) -> Answer {
    Answer::Say(Outcome::NotNow { reason: "away".into(), retry_after, in_doubt: false })
}

fn partly(again: &[usize], given_up: &[usize]) -> Answer {
    let given_up = given_up.iter().map(|position| GivenUp { position: *position, reason: "bad".into() });
    let (again, reason, given_up) = (again.to_vec(), "full".into(), given_up.collect());
    Answer::Say(Outcome::Partly { again, reason, given_up, retry_after: None })
}

#[tokio::test(start_paused = true)]
async fn a_request_goes_when_it_has_enough_records_or_bytes_or_is_old_enough() {
    let script = Script::new([]);
    let handle = start(&script, &config());
    assert_eq!(handle.offer(0, &records(0..6)), Offered::Taken);
    sleep(Duration::from_millis(300)).await;
    assert_eq!(handle.offer(0, &records(6..7)), Offered::Taken);
    sleep(SECOND).await;
    let seen: Vec<_> = script.tries().iter().map(|seen| (seen.at.as_millis(), seen.flows.clone())).collect();
    assert_eq!(seen, [(0, vec![0, 1, 2, 3]), (500, vec![4, 5, 6])], "counted from the first that waits");

    let script = Script::new([]);
    let handle = start(&script, &DeliveryConfig { batch_records: 100, batch_bytes: 25, ..config() });
    let _ = handle.offer(0, &records(0..5));
    assert_eq!(finish(&handle).await.delivered.records, 5);
    assert_eq!(script.flows(), [vec![0, 1], vec![2, 3], vec![4]]);

    let script = Script::new([]);
    let handle = start(&script, &DeliveryConfig { batch_bytes: 5, ..config() });
    let _ = handle.offer(0, &records(0..2));
    finish(&handle).await;
    assert_eq!(script.flows(), [[0], [1]], "what is larger than a request travels alone");
}

#[tokio::test(start_paused = true)]
async fn what_waited_while_the_sink_was_busy_does_not_wait_again() {
    let script = Script::new([Answer::After(3 * SECOND)]);
    let handle = start(&script, &config());
    let _ = handle.offer(0, &records(0..4));
    sleep(SECOND).await;
    let _ = handle.offer(0, &records(4..5));
    sleep(4 * SECOND).await;
    assert_eq!(script.tries().iter().map(|seen| seen.at.as_secs_f32()).collect::<Vec<_>>(), [0.0, 3.0]);
}

#[tokio::test(start_paused = true)]
async fn a_server_that_is_away_is_tried_again_and_asked_no_sooner_than_it_wants() {
    let script = Script::new([not_now(None), not_now(Some(7 * SECOND)), not_now(None)]);
    let handle = start(&script, &config());
    let _ = handle.offer(0, &records(0..4));
    sleep(60 * SECOND).await;
    let tries = script.tries();
    assert!(tries.iter().all(|seen| seen.flows == [0, 1, 2, 3] && !seen.in_doubt));
    assert_eq!(tries.iter().map(|seen| seen.attempt).collect::<Vec<_>>(), [0, 1, 2, 3]);
    let pauses: Vec<_> = tries.windows(2).map(|pair| pair[1].at - pair[0].at).collect();
    assert!(pauses[0] <= SECOND + Duration::from_millis(1), "{pauses:?}");
    assert!((7 * SECOND..=8 * SECOND + Duration::from_millis(1)).contains(&pauses[1]), "{pauses:?}");
    assert!(pauses[2] <= 4 * SECOND + Duration::from_millis(1), "{pauses:?}");
    let report = finish(&handle).await;
    assert_eq!((report.delivered.records, report.tries, report.unwritten().records), (4, 4, 0));
}

#[tokio::test(start_paused = true)]
async fn only_what_failed_is_sent_again_and_what_can_never_be_stored_is_given_up() {
    let script = Script::new([partly(&[3, 0], &[1]), partly(&[1], &[])]);
    let handle = start(&script, &config());
    let _ = handle.offer(0, &records(0..4));
    let report = finish(&handle).await;
    assert_eq!(script.flows(), [vec![0, 1, 2, 3], vec![0, 3], vec![3]]);
    assert_eq!((report.delivered.records, report.given_up.records), (3, 1));
    assert_eq!(report.delivered.moved + report.given_up.moved, report.taken.moved);
    assert_eq!(report.unwritten(), super::Weight::default());
}

#[tokio::test(start_paused = true)]
async fn a_request_that_is_too_large_is_halved_in_order() {
    let too_large = || Answer::Say(Outcome::TooLarge { reason: "30 bytes".into() });
    let script = Script::new([too_large(), too_large()]);
    let handle = start(&script, &config());
    let _ = handle.offer(0, &records(0..8));
    let report = finish(&handle).await;
    let expected = [vec![0, 1, 2, 3], vec![0, 1], vec![0], vec![1], vec![2, 3], vec![4, 5, 6, 7]];
    assert_eq!(script.flows(), expected);
    assert_eq!(report.delivered.records, 8);

    let script = Script::new([too_large(), too_large()]);
    let handle = start(&script, &config());
    let _ = handle.offer(0, &records(0..2));
    let report = finish(&handle).await;
    assert_eq!(script.flows(), [vec![0, 1], vec![0], vec![0], vec![1]]);
    assert_eq!((report.delivered.records, report.given_up.records), (2, 0), "a small one waits");
}

#[tokio::test(start_paused = true)]
async fn a_server_that_wants_to_be_left_alone_is_whichever_request_it_told() {
    let script = Script::new([not_now(Some(10 * SECOND))]);
    let handle = start(&script, &DeliveryConfig { concurrency: 3, ..config() });
    for batch in 0..10 {
        assert_eq!(handle.offer(0, &records(batch * 4..batch * 4 + 4)), Offered::Taken);
        sleep(SECOND / 2).await;
    }
    sleep(20 * SECOND).await;
    let early = script.tries().iter().filter(|seen| seen.at < 10 * SECOND).count();
    assert_eq!((early, script.tries().len()), (1, 11));
    assert_eq!(finish(&handle).await.delivered.records, 40);
}

#[tokio::test(start_paused = true)]
async fn without_an_answer_in_time_it_is_tried_again_in_doubt() {
    let script = Script::new([Answer::Never, not_now(None)]);
    let handle = start(&script, &config());
    let _ = handle.offer(0, &records(0..4));
    sleep(60 * SECOND).await;
    let tries = script.tries();
    let seen: Vec<_> = tries.iter().map(|seen| (seen.attempt, seen.in_doubt)).collect();
    assert_eq!(seen, [(0, false), (1, true), (2, true)], "a doubt stays");
    assert!(tries[1].at >= 30 * SECOND);
}

#[tokio::test(start_paused = true)]
async fn records_come_in_order_however_often_they_are_tried() {
    let answers =
        [not_now(None), partly(&[2, 3], &[]), not_now(None), Answer::After(SECOND), partly(&[0, 1], &[])];
    let script = Script::new(answers);
    let handle = start(&script, &config());
    for batch in 0..5 {
        let _ = handle.offer(0, &records(batch * 4..batch * 4 + 4));
    }
    finish(&handle).await;
    // Four to a request: none is begun before the one before it is done.
    let requests: Vec<_> = script.flows().concat().iter().map(|flow| flow / 4).collect();
    assert!(requests.is_sorted(), "{requests:?}");
    assert_eq!((requests.last(), script.most_at_once()), (Some(&4), 1));
}

#[tokio::test(start_paused = true)]
async fn no_more_requests_are_under_way_than_configured() {
    let script = Script::new(vec![Answer::After(SECOND); 10]);
    let handle = start(&script, &DeliveryConfig { concurrency: 3, ..config() });
    let _ = handle.offer(0, &records(0..40));
    assert_eq!(finish(&handle).await.delivered.records, 40);
    assert_eq!(script.most_at_once(), 3);
    assert_eq!(script.tries().last().unwrap().at, 3 * SECOND);
}

#[tokio::test(start_paused = true)]
async fn the_end_of_the_input_hurries_everything_that_waits() {
    let script = Script::new(vec![not_now(Some(200 * SECOND)); 2]);
    let handle = start(&script, &config());
    let _ = handle.offer(0, &records(0..6));
    sleep(SECOND).await;
    assert_eq!(finish(&handle).await.delivered.records, 6);
    assert!(script.tries().last().unwrap().at < 4 * SECOND);
    assert_eq!(handle.offer(0, &records(6..8)), Offered::Closed);
    assert_eq!(handle.report().dropped.records, 2, "and counted");
}

#[tokio::test(start_paused = true)]
async fn what_is_not_delivered_by_the_deadline_is_told() {
    let script = Script::new(vec![Answer::Never; 100]);
    let handle = start(&script, &config());
    let _ = handle.offer(3, &records(0..6));
    let _ = handle.offer(4, &vec![end_of_tcp()].into());
    handle.close();
    assert!(tokio::time::timeout(10 * SECOND, handle.ended()).await.is_err());
    let left = handle.report().unwritten();
    assert_eq!((left.records, left.ends, left.moved), (7, 1, handle.report().taken.moved));
    assert_eq!(handle.oldest(), Some(3), "so the next agent hands it on again");
}

#[tokio::test(start_paused = true)]
async fn a_batch_is_the_oldest_until_all_of_it_is_delivered() {
    let script = Script::new([Answer::After(SECOND), partly(&[1], &[]), Answer::After(SECOND)]);
    let handle = start(&script, &config());
    for number in [5, 6, 7] {
        let first = u128::from(number) * 3;
        let _ = handle.offer(number, &records(first..first + 3));
    }
    assert_eq!(handle.oldest(), Some(5));
    sleep(Duration::from_millis(1_001)).await;
    assert_eq!(handle.oldest(), Some(6), "one of it was in the first request, one is tried again");
    finish(&handle).await;
    assert_eq!(handle.oldest(), None);
}

#[tokio::test(start_paused = true)]
async fn what_waits_is_told_with_the_age_of_the_oldest_also_where_others_overtake_it() {
    let script = Script::new([Answer::Never]);
    let handle = start(&script, &DeliveryConfig { concurrency: 2, ..config() });
    assert_eq!(handle.waiting(), Waiting::default());
    // The first request never ends; all others are delivered at once.
    for first in [0, 4, 8] {
        let _ = handle.offer(0, &records(first..first + 4));
        sleep(10 * SECOND).await;
    }
    let moved = handle.report().unwritten().moved;
    assert_eq!(handle.waiting(), Waiting { records: 4, moved, oldest: 30 * SECOND });
}

#[tokio::test(start_paused = true)]
async fn what_is_merged_in_the_queue_waits_as_long_as_the_first_of_it() {
    let script = Script::new([Answer::Never]);
    let handle = spawn(
        "a",
        script.clone(),
        &QueueConfig { records: 16, when_full: WhenFull::Coalesce },
        &DeliveryConfig { timeout: 3_600 * SECOND, ..config() },
    );
    for _ in 0..6 {
        let _ = handle.offer(0, &records(0..4));
        sleep(10 * SECOND).await;
    }
    let Report { taken, merged, .. } = handle.report();
    assert!(merged > 0 && merged < 20);
    let waiting = handle.waiting();
    assert_eq!((waiting.records, waiting.moved), (24 - merged, taken.moved));
    assert_eq!(waiting.oldest, 60 * SECOND);
}

#[tokio::test(start_paused = true)]
async fn a_panic_costs_a_try_and_only_if_it_comes_again_and_again_the_request() {
    let script = Script::new([Answer::Panic, Answer::Panic]);
    let handle = start(&script, &config());
    let _ = handle.offer(0, &records(0..4));
    let report = finish(&handle).await;
    assert_eq!((report.delivered.records, report.panics), (4, 2));
    assert!(script.tries()[1].in_doubt);

    let script = Script::new(vec![Answer::Panic; 3]);
    let handle = start(&script, &config());
    let _ = handle.offer(0, &records(0..5));
    let report = finish(&handle).await;
    assert_eq!((report.given_up.records, report.delivered.records, report.panics), (4, 1, 3));
}

#[tokio::test(start_paused = true)]
async fn an_item_that_cannot_be_encoded_is_given_up_and_the_others_go_on() {
    let script = Script::new([]);
    let handle = start(&script, &config());
    let mut batch = records(0..3).to_vec();
    batch[1].mark = 666;
    let _ = handle.offer(0, &batch.into());
    let report = finish(&handle).await;
    assert_eq!(script.flows(), [[0, 2]]);
    assert_eq!((report.given_up.records, report.delivered.records, report.panics), (1, 2, 1));
    assert_eq!(handle.oldest(), None);
}

#[tokio::test(start_paused = true)]
async fn a_sink_that_hangs_or_panics_does_not_slow_another() {
    let (stuck, cursed) = (Script::new(vec![Answer::Never; 100]), Script::new(vec![Answer::Panic; 100]));
    let good = Script::new([]);
    let handles = [&stuck, &cursed, &good].map(|script| start(script, &config()));
    for batch in 0..100 {
        for handle in &handles {
            let _ = handle.offer(0, &records(batch * 8..batch * 8 + 8));
        }
        sleep(Duration::from_millis(10)).await;
    }
    assert_eq!(handles[2].report().delivered.records, 800);
    assert!(good.tries().last().unwrap().at < SECOND);
    assert!(handles[0].report().delivered.records == 0 && handles[1].report().given_up.records < 800);
}

#[tokio::test(start_paused = true)]
async fn what_an_earlier_agent_may_have_sent_is_in_doubt_and_what_comes_after_it_is_not() {
    let script = Script::new([]);
    let handle = start(&script, &config());
    let _ = handle.inherit(6, &records(0..4));
    let _ = handle.inherit(7, &records(4..8));
    let _ = handle.offer(8, &records(8..12));
    finish(&handle).await;
    let doubts: Vec<_> = script.tries().iter().map(|sent| sent.in_doubt).collect();
    assert_eq!(doubts, [true, true, false]);
}

#[tokio::test(start_paused = true)]
async fn a_server_that_is_too_slow_for_a_request_gets_it_in_parts() {
    let timeout = DeliveryConfig::default().timeout;
    for late in [|timeout| Answer::After(2 * timeout), Answer::Unanswered] {
        let script = Script::new([late(timeout), late(timeout), late(timeout)]);
        let handle = start(&script, &DeliveryConfig { batch_records: 64, ..config() });
        let _ = handle.offer(0, &records(0..64));
        let report = finish(&handle).await;
        let sizes: Vec<_> = script.flows().iter().map(Vec::len).collect();
        assert_eq!(sizes, [64, 64, 32, 16, 16, 32]);
        assert!(script.tries().iter().skip(1).all(|sent| sent.in_doubt));
        assert_eq!(report.delivered.records, 64);
    }
}

#[tokio::test(start_paused = true)]
async fn while_the_server_is_away_updates_merge_and_what_a_flow_moved_is_kept() {
    let script = Script::new(vec![not_now(None); 12]);
    let queue = QueueConfig { records: 100, when_full: WhenFull::Coalesce };
    let handle = spawn("a", script.clone(), &queue, &config());
    for _ in 0..50 {
        assert_eq!(handle.offer(0, &records(0..40)), Offered::Taken);
        sleep(Duration::from_millis(100)).await;
    }
    let report = finish(&handle).await;
    assert_eq!(report.taken.records, 2_000);
    assert!(report.merged > 1_000, "{report:?}");
    assert_eq!(report.delivered.moved, report.taken.moved);
    assert_eq!(report.dropped.records + report.unwritten().records, 0);
}

#[tokio::test(start_paused = true)]
async fn a_replay_waits_for_room_and_loses_nothing() {
    let script = Script::new(vec![Answer::After(SECOND); 50]);
    let queue = QueueConfig { records: 8, when_full: WhenFull::DropNewest };
    let handle = spawn("a", script.clone(), &queue, &config());
    for batch in 0..10 {
        handle.room_for(9).await;
        assert_eq!(handle.admit(0, &records(batch * 9..batch * 9 + 9)), Offered::Taken);
    }
    let report = finish(&handle).await;
    assert_eq!((report.delivered.records, report.dropped.records, report.merged), (90, 0, 0));
}

fn answers() -> impl Strategy<Value = Vec<Answer>> {
    let positions = || prop::collection::vec(0_usize..5, 0..4);
    let answer = prop_oneof![
        3 => Just(not_now(None)),
        3 => (positions(), positions()).prop_map(|(again, given_up)| partly(&again, &given_up)),
        1 => Just(Answer::Say(Outcome::TooLarge { reason: String::new() })),
        1 => Just(Answer::After(SECOND)),
        1 => Just(Answer::Never),
    ];
    prop::collection::vec(answer, 0..30)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]
    #[test]
    fn whatever_the_server_answers_each_record_is_delivered_once_or_counted(
        answers in answers(),
        sizes in prop::collection::vec(0_u128..9, 1..12),
        concurrency in 1_u32..4,
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().start_paused(true).build();
        let (report, offered) = runtime.unwrap().block_on(async {
            let script = Script::new(answers);
            let queue = QueueConfig { records: 16, when_full: WhenFull::DropNewest };
            let handle = spawn("a", script, &queue, &DeliveryConfig { concurrency, ..config() });
            let (mut flow, mut offered) = (0, super::Weight::default());
            for (number, size) in sizes.into_iter().enumerate() {
                let kinds = [RecordKind::Update, RecordKind::End];
                let one = |record: &Record| Record { kind: kinds[record.flow_id.0 as usize % 2], ..*record };
                let batch: Vec<_> = records(flow..flow + size).iter().map(one).collect();
                batch.iter().for_each(|record| offered += super::Item::weight(record));
                let _ = handle.offer(number as u64, &batch.into());
                flow += size;
                sleep(Duration::from_millis(700)).await;
            }
            (finish(&handle).await, offered)
        });
        let Report { delivered, dropped, given_up, merged, .. } = report;
        prop_assert_eq!(delivered.moved + dropped.moved + given_up.moved, offered.moved);
        prop_assert_eq!(delivered.records + dropped.records + given_up.records, offered.records);
        prop_assert_eq!(delivered.ends + dropped.ends + given_up.ends, offered.ends);
        prop_assert_eq!((report.unwritten(), merged), (super::Weight::default(), 0));
    }
}
