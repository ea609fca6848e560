//! Hands each batch to all configured sinks, and knows which batches not all of them have delivered.

use super::consumer::{context, stdio};
use super::filtering::{filter, networks};
use super::influxdb;
use super::outlets::Pace;
use super::reporters::{self, Reporters};
use super::sink_count::{Acknowledged, Count};
use super::spooling;
use crate::config::{Choice as _, Config, RecordEvent, SinkConfig, SinkKind};
use crate::model::{Backlog, Record, RecordKind};
use crate::pipeline::filter::FilterSet;
use crate::pipeline::{Handle, Inlet, Items, Offered, Status};
use crate::sinks::elasticsearch::Elasticsearch;
use crate::sinks::null::NullSink;
use crate::sinks::stdio::SinkHandle;
use crate::sinks::tally::SinkReport;
use anyhow::Context as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed};
use std::time::Duration;

/// All configured sinks.
#[derive(Debug)]
pub(super) struct Fanout {
    outlets: Vec<Outlet>,
    pace: Pace,
    /// For how long spools are emptied in the end: the rest of the deadline is for others.
    patience: Duration,
    /// What not all have delivered; only kept for a state directory.
    unsettled: Option<Arc<Unsettled>>,
}

/// Batches that the next agent hands on again if this one is killed.
#[derive(Debug)]
struct Unsettled {
    backlog: Arc<Backlog>,
    records: AtomicUsize,
    /// How many records it keeps at most: what waits for the slowest sink, and what an earlier agent left.
    most: AtomicUsize,
    is_told: AtomicBool,
}

/// One sink.
#[derive(Debug)]
struct Outlet {
    name: String,
    events: Vec<RecordEvent>,
    filter: FilterSet,
    way: Way,
    count: Count,
    /// Where it is told how complete the accounting is, if it wants to know.
    status: Option<Handle<Status>>,
}

/// The way to a sink.
#[derive(Debug)]
enum Way {
    Stdio(SinkHandle),
    Driven(Arc<dyn Inlet>),
}

impl Fanout {
    /// Starts all of them.
    pub(super) fn open(config: &Config, pace: Pace) -> anyhow::Result<Self> {
        spooling::tell_of_abandoned(config);
        let outlets =
            config.sinks.iter().map(|sink| Outlet::open(config, sink)).collect::<anyhow::Result<_>>()?;
        let most = config.sinks.iter().map(|sink| sink.queue.records as usize).max().unwrap_or(0);
        let unsettled = config.state_dir.is_some().then(|| {
            Arc::new(Unsettled {
                backlog: Arc::default(),
                records: AtomicUsize::new(0),
                most: AtomicUsize::new(most),
                is_told: AtomicBool::new(false),
            })
        });
        Ok(Self { outlets, pace, patience: config.shutdown_timeout / 2, unsettled })
    }

    /// Hands over what there is room for. Never waits.
    pub(super) fn offer(&self, number: u64, records: &Items<Record>) -> Offered {
        self.note(number, records);
        let offered = self.outlets.iter().map(|outlet| outlet.offer(number, records));
        offered.reduce(together).unwrap_or(Offered::Closed)
    }

    /// Hands over a batch that an earlier agent may not have delivered, whatever room there is. Never waits.
    pub(super) fn admit(&self, number: u64, records: &Items<Record>) {
        if let Some(unsettled) = &self.unsettled {
            unsettled.most.fetch_add(records.len(), Relaxed);
        }
        self.note(number, records);
        for outlet in &self.outlets {
            // What is not taken any more is in its counters.
            let _ = outlet.inherit(number, records);
        }
    }

    /// Tells of the flows that live already, by records that bring nothing, those who count flows.
    pub(super) fn meet(&self, living: impl Iterator<Item = Record>) {
        let counting: Vec<_> = self.outlets.iter().filter_map(Outlet::counting).collect();
        if counting.is_empty() {
            return;
        }
        for record in living {
            for (_, inlet) in counting.iter().filter(|(outlet, _)| outlet.wants(&record)) {
                inlet.meet(&record);
            }
        }
    }

    /// Memory of a batch that was written, if there is any.
    pub(super) fn spare(&self) -> Vec<Record> {
        let spare = self.outlets.iter().find_map(|outlet| match &outlet.way {
            Way::Stdio(handle) => Some(handle.spare()),
            Way::Driven(_) => None,
        });
        spare.unwrap_or_default()
    }

    /// Hands over all of a batch as soon as each sink has room: for a replay. Cancel safe.
    pub(super) async fn send(&self, number: u64, records: &Items<Record>) -> Offered {
        for outlet in &self.outlets {
            match &outlet.way {
                Way::Stdio(handle) => handle.room_for(records.len()).await,
                Way::Driven(handle) => handle.room_for(records.len()).await,
            }
        }
        // Until here nobody has any of it, and from here on nothing waits.
        self.note(number, records);
        let sent = self.outlets.iter().map(|outlet| outlet.put(number, records));
        sent.reduce(together).unwrap_or(Offered::Closed)
    }

    /// Tells the time by the wall clock, for those that make something of the records of an interval.
    pub(super) fn tick(&self, now_ns: i64) {
        for outlet in &self.outlets {
            if let Way::Driven(inlet) = &outlet.way {
                inlet.tick(now_ns, self.pace == Pace::OfReader);
            }
        }
    }

    /// Waits until none of them can write any more.
    pub(super) async fn closed(&self) {
        for outlet in &self.outlets {
            match &outlet.way {
                Way::Stdio(handle) => handle.closed().await,
                Way::Driven(handle) => handle.ended().await,
            }
        }
    }

    /// The ways to those that want to know how complete the accounting is.
    pub(super) fn reporters(&self) -> Reporters {
        Reporters::new(self.outlets.iter().filter_map(|outlet| outlet.status.clone()).collect())
    }

    pub(super) fn tally(&self) -> FanoutTally {
        let counts = self.outlets.iter().map(|outlet| outlet.count.clone()).collect();
        FanoutTally { counts, unsettled: self.unsettled.clone() }
    }

    /// What not all have delivered.
    pub(super) fn backlog(&self) -> Arc<Backlog> {
        let Some(unsettled) = &self.unsettled else { return Arc::default() };
        unsettled.settle(self.outlets.iter().filter_map(|outlet| outlet.count.oldest()).min());
        Arc::clone(&unsettled.backlog)
    }

    /// Ends the input of all at once, and waits until each of them is done. What has a spool leaves the rest there some
    /// time after `hurry`.
    pub(super) async fn finish(self, hurry: impl Future<Output = ()>) -> SinkReport {
        let tally = self.tally();
        let (mut written, mut driven) = (Vec::new(), Vec::new());
        for outlet in self.outlets {
            match outlet.way {
                Way::Stdio(handle) => written.push(handle),
                Way::Driven(handle) => driven.push(handle),
            }
        }
        driven.iter().for_each(|handle| handle.close());
        let hurrying = async {
            hurry.await;
            driven.iter().for_each(|handle| handle.hurry(self.patience));
        };
        let mut ending = std::pin::pin!(async {
            let mut error = None;
            for handle in written {
                error = handle.finish().await.error.or(error);
            }
            for handle in &driven {
                handle.ended().await;
            }
            error
        });
        let error = tokio::select! {
            error = &mut ending => error,
            () = hurrying => ending.await,
        };
        SinkReport { error, ..tally.report() }
    }

    fn note(&self, number: u64, records: &Items<Record>) {
        if let Some(unsettled) = &self.unsettled {
            unsettled.push(number, records);
        }
    }
}

fn acknowledged(kind: &SinkKind) -> Acknowledged {
    if kind.is_acknowledged() { Acknowledged::Yes } else { Acknowledged::No }
}

/// Full where one is, closed where all are.
fn together(one: Offered, other: Offered) -> Offered {
    match (one, other) {
        (Offered::Closed, Offered::Closed) => Offered::Closed,
        (Offered::Full, _) | (_, Offered::Full) => Offered::Full,
        _ => Offered::Taken,
    }
}

impl Unsettled {
    fn push(&self, number: u64, records: &Items<Record>) {
        self.backlog.push(number, Arc::clone(records));
        let mut kept = self.records.fetch_add(records.len(), Relaxed) + records.len();
        let most = self.most.load(Relaxed);
        while kept > most && kept > records.len() {
            // Never the batch itself, and so something.
            kept -= self.forget(self.backlog.oldest()).max(1);
            if !self.is_told.swap(true, Relaxed) {
                tracing::warn!(
                    "state: more records wait for sinks than are kept for the next agent ({}): if this one is killed, \
                     the oldest are not handed on again",
                    most
                );
            }
        }
    }

    fn forget(&self, oldest: Option<u64>) -> usize {
        let records = self.backlog.settle(oldest.map(|number| number + 1));
        self.records.fetch_sub(records, Relaxed);
        records
    }

    fn settle(&self, oldest: Option<u64>) {
        let records = self.backlog.settle(oldest);
        if self.records.fetch_sub(records, Relaxed) == records {
            self.is_told.store(false, Relaxed);
        }
    }
}

impl Outlet {
    fn open(whole: &Config, config: &SinkConfig) -> anyhow::Result<Self> {
        let mut status = None;
        let way = match &config.kind {
            SinkKind::Stdio(stream, format) => {
                Way::Stdio(stdio(*stream, *format, config.queue.records, networks(whole)?))
            }
            SinkKind::Influxdb(options) => {
                let inlet = influxdb::open(whole, config, options)?;
                status = reporters::influxdb(config, options, inlet.trouble())?;
                Way::Driven(inlet)
            }
            SinkKind::Elasticsearch(options) => {
                let sink = Elasticsearch::new(
                    &config.name,
                    options,
                    config.delivery.timeout,
                    context(networks(whole)?),
                )
                .with_context(|| format!("sinks.{} cannot be used", config.name))?;
                let told = reporters::elasticsearch(config, options, &sink)?;
                let handle = spooling::start(config, sink)?;
                status = told.map(|told| reporters::start(config, told, handle.trouble()));
                Way::Driven(Arc::new(handle))
            }
            SinkKind::Null => Way::Driven(Arc::new(spooling::start(config, NullSink)?)),
        };
        let count = match &way {
            Way::Stdio(handle) => Count::of_stdio(&config.name, handle),
            Way::Driven(inlet) => {
                Count::of_driver(&config.name, Arc::clone(inlet), acknowledged(&config.kind))
            }
        };
        let (name, events) = (config.name.clone(), config.events.clone());
        let filter = filter(whole, &config.filter);
        let filter = filter.with_context(|| format!("the filters of sinks.{name} cannot be used"))?;
        Ok(Self { name, events, filter, way, count, status })
    }

    fn offer(&self, number: u64, records: &Items<Record>) -> Offered {
        let wanted = self.wanted(records);
        match &self.way {
            Way::Driven(handle) => handle.offer(number, &wanted),
            Way::Stdio(handle) => {
                self.without(&wanted).unwrap_or_else(|| self.note_closed(handle.offer(number, wanted)))
            }
        }
    }

    /// Hands over what an earlier agent may have delivered, whatever room there is.
    fn inherit(&self, number: u64, records: &Items<Record>) -> Offered {
        match &self.way {
            Way::Driven(handle) => handle.inherit(number, &self.wanted(records)),
            Way::Stdio(handle) => {
                let wanted = self.wanted(records);
                self.without(&wanted).unwrap_or_else(|| self.note_closed(handle.admit(number, wanted)))
            }
        }
    }

    /// Hands over all of it; there is room.
    fn put(&self, number: u64, records: &Items<Record>) -> Offered {
        let wanted = self.wanted(records);
        match &self.way {
            Way::Driven(handle) => handle.admit(number, &wanted),
            Way::Stdio(handle) => {
                self.without(&wanted).unwrap_or_else(|| self.note_closed(handle.put(number, wanted)))
            }
        }
    }

    /// What comes of it where a standard stream is not to be handed any.
    fn without(&self, wanted: &[Record]) -> Option<Offered> {
        if self.count.miss(wanted) {
            return Some(Offered::Closed);
        }
        wanted.is_empty().then_some(Offered::Taken)
    }

    /// A standard stream notes what it is handed even then: it must not be handed more.
    fn note_closed(&self, offered: Offered) -> Offered {
        if offered == Offered::Closed {
            self.count.close(&self.name);
        }
        offered
    }

    /// With its inlet, if that counts flows.
    fn counting(&self) -> Option<(&Self, &dyn Inlet)> {
        match &self.way {
            Way::Driven(inlet) if inlet.counts_flows() => Some((self, &**inlet)),
            Way::Driven(_) | Way::Stdio(_) => None,
        }
    }

    fn wants(&self, record: &Record) -> bool {
        self.events.contains(&event(record.kind)) && self.filter.wants(record)
    }

    /// Those that this sink gets. Not copied where it gets all.
    fn wanted(&self, records: &Items<Record>) -> Items<Record> {
        let is_wanted = |record: &Record| self.wants(record);
        let wants_all = self.events.len() == RecordEvent::ALL.len() && self.filter.wants_all();
        if wants_all || records.iter().all(is_wanted) {
            return Arc::clone(records);
        }
        records.iter().filter(|record| is_wanted(record)).copied().collect::<Vec<_>>().into()
    }
}

fn event(kind: RecordKind) -> RecordEvent {
    match kind {
        RecordKind::New => RecordEvent::New,
        RecordKind::Update => RecordEvent::Update,
        RecordKind::End => RecordEvent::End,
    }
}

/// The counters of all sinks.
#[derive(Debug)]
pub(super) struct FanoutTally {
    counts: Vec<Count>,
    unsettled: Option<Arc<Unsettled>>,
}

impl FanoutTally {
    /// What was done until now; what is delivered everywhere is settled then.
    pub(super) fn report(&self) -> SinkReport {
        if let Some(unsettled) = &self.unsettled {
            unsettled.settle(self.counts.iter().filter_map(Count::oldest).min());
        }
        let of_each = self.counts.iter().map(Count::report);
        let (mut written, mut broken_pipe, mut sinks) = (0, true, Vec::new());
        for (delivered, has_no_reader, losses) in of_each {
            written += delivered;
            broken_pipe &= has_no_reader;
            sinks.push(losses);
        }
        SinkReport { written, broken_pipe, sinks, ..SinkReport::default() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{DeliveryConfig, QueueConfig, WhenFull};
    use crate::pipeline::filter::{Filter, FilterLists};
    use crate::sinks::samples::{end_of_tcp, ping};

    fn sink(name: &str, events: &[RecordEvent], records: u32) -> SinkConfig {
        let queue = QueueConfig { records, when_full: WhenFull::DropNewest };
        SinkConfig {
            name: name.to_owned(),
            events: events.to_vec(),
            filter: FilterLists::default(),
            queue,
            spool: None,
            delivery: DeliveryConfig::default(),
            kind: SinkKind::Null,
        }
    }

    fn config(sinks: Vec<SinkConfig>) -> Config {
        Config { sinks, state_dir: Some("/nowhere".into()), ..Config::default() }
    }

    fn batch(updates: usize, ends: usize) -> Items<Record> {
        [vec![ping(); updates], vec![end_of_tcp(); ends]].concat().into()
    }

    const ALL: [RecordEvent; 3] = [RecordEvent::New, RecordEvent::Update, RecordEvent::End];

    #[tokio::test(start_paused = true)]
    async fn each_sink_gets_what_it_wants_and_loses_for_itself() {
        let sinks = vec![sink("all", &ALL, 8), sink("ends", &[RecordEvent::End], 100)];
        let fanout = Fanout::open(&config(sinks), Pace::Live).unwrap();
        assert_eq!(fanout.offer(0, &batch(10, 3)), Offered::Full);
        let tally = fanout.tally();
        assert_eq!(fanout.finish(async {}).await.written, 8 + 3);
        let lost: Vec<_> = tally.report().sinks.into_iter().flat_map(|sink| sink.lost).collect();
        let counts: Vec<_> = lost.iter().map(|(reason, count, _)| (*reason, *count)).collect();
        let expected = [
            ("all.queue_full", 4),
            ("all.queue_full_ends", 1),
            ("all.given_up", 0),
            ("all.spool_damaged", 0),
            ("ends.queue_full", 0),
            ("ends.queue_full_ends", 0),
            ("ends.given_up", 0),
            ("ends.spool_damaged", 0),
        ];
        assert_eq!(counts, expected);
        assert_eq!(lost[0].2.flows, 1, "ends are in the sum");
    }

    #[tokio::test(start_paused = true)]
    async fn what_the_filters_of_a_sink_leave_out_is_no_loss_and_goes_to_the_others() {
        let exclude = vec![Filter::parse("proto = tcp").unwrap()];
        let filter = FilterLists { exclude, ..FilterLists::default() };
        let sinks = vec![sink("all", &ALL, 100), SinkConfig { filter, ..sink("few", &ALL, 100) }];
        let fanout = Fanout::open(&config(sinks), Pace::Live).unwrap();
        assert_eq!(fanout.offer(0, &batch(10, 3)), Offered::Taken);
        let report = fanout.finish(async {}).await;
        assert_eq!(report.written, 13 + 10);
        assert!(report.sinks.iter().flat_map(|sink| &sink.lost).all(|(_, count, _)| *count == 0));
    }

    #[tokio::test(start_paused = true)]
    async fn a_batch_is_kept_until_every_sink_has_delivered_it() {
        let quick = SinkConfig {
            delivery: DeliveryConfig { batch_records: 1, ..DeliveryConfig::default() },
            ..sink("quick", &ALL, 1_000)
        };
        let fanout = Fanout::open(&config(vec![quick, sink("slow", &ALL, 1_000)]), Pace::Live).unwrap();
        for number in 5..8 {
            assert_eq!(fanout.offer(number, &batch(2, 1)), Offered::Taken);
        }
        tokio::time::sleep(std::time::Duration::from_millis(100)).await;
        assert_eq!(fanout.backlog().oldest(), Some(5));
        tokio::time::sleep(std::time::Duration::from_secs(1)).await;
        assert_eq!(fanout.backlog().oldest(), None);
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_kept_for_the_next_agent_is_bounded_and_its_newest() {
        let fanout =
            Fanout::open(&config(vec![sink("a", &ALL, 10), sink("b", &ALL, 20)]), Pace::Live).unwrap();
        for number in 0..30 {
            let _ = fanout.offer(number, &batch(3, 0));
        }
        let numbers =
            |fanout: &Fanout| fanout.backlog().batches().iter().map(|(n, _)| *n).collect::<Vec<_>>();
        assert_eq!(numbers(&fanout), (24..30).collect::<Vec<_>>());
        assert_eq!(fanout.send(30, &batch(25, 0)).await, Offered::Taken);
        assert_eq!(numbers(&fanout), [30], "one batch always");
    }

    #[tokio::test(start_paused = true)]
    async fn what_an_earlier_agent_left_goes_to_every_sink_and_stays_known_until_it_is_delivered() {
        let sinks = vec![sink("a", &ALL, 8), sink("b", &[RecordEvent::End], 8)];
        let fanout = Fanout::open(&config(sinks), Pace::Live).unwrap();
        for number in 0..4 {
            fanout.admit(number, &batch(5, 2));
        }
        assert_eq!(fanout.offer(4, &batch(1, 1)), Offered::Full, "they wait before it");
        let numbers: Vec<_> = fanout.backlog().batches().iter().map(|(number, _)| *number).collect();
        assert_eq!(numbers, [0, 1, 2, 3, 4]);
        let tally = fanout.tally();
        assert_eq!(fanout.finish(async {}).await.written, 4 * 7 + 4 * 2);
        let lost: u64 =
            tally.report().sinks.iter().flat_map(|sink| &sink.lost).map(|(_, count, _)| count).sum();
        assert_eq!(lost, 3);
    }

    #[tokio::test(start_paused = true)]
    async fn at_the_pace_of_the_reader_nothing_is_dropped() {
        let sinks = vec![sink("a", &ALL, 8), sink("b", &ALL, 100)];
        let fanout = Fanout::open(&Config { state_dir: None, ..config(sinks) }, Pace::OfReader).unwrap();
        for _ in 0..20 {
            assert_eq!(fanout.send(0, &batch(5, 2)).await, Offered::Taken);
        }
        let report = fanout.finish(async {}).await;
        assert_eq!(report.written, 2 * 140);
        assert!(report.sinks.iter().flat_map(|sink| &sink.lost).all(|(_, count, _)| *count == 0));
    }
}
