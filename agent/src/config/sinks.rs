//! `[sinks.NAME]`: what all destinations have in common; the rest is read by the module of each.

use super::reader::Section;
use super::secret::Secret;
use super::spool::{self, SpoolConfig};
use super::{Choice, OutputFormat, Place, RecordEvent, Stream, filter};
use crate::pipeline::Networks;
use crate::pipeline::filter::FilterLists;
use crate::sinks::{elasticsearch, influxdb};
use std::ops::RangeInclusive;
use std::path::Path;
use std::time::Duration;

/// A name stands in log lines, in audits and in variables of the environment.
const LONGEST_NAME: usize = 32;

const QUEUE_RECORDS: RangeInclusive<u32> = 1_024..=1 << 24;
const BATCH_RECORDS: RangeInclusive<u32> = 1..=1 << 20;
const BATCH_BYTES: RangeInclusive<u32> = 1 << 10..=64 << 20;
const CONCURRENCY: RangeInclusive<u32> = 1..=64;
/// Why a sink that is told what is new needs every record.
pub(crate) const ALL_EVENTS: &str =
    "must name all: points are of what moved since the flow's record before, and miss what is left out";

const LONGEST_AGE: Duration = Duration::from_secs(60);
const LONGEST_TIMEOUT: Duration = Duration::from_secs(600);
const SHORTEST_TIMEOUT: Duration = Duration::from_millis(10);
const LONGEST_PAUSE: Duration = Duration::from_secs(3_600);
const SHORTEST_PAUSE: Duration = Duration::from_secs(1);

/// One destination.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SinkConfig {
    /// Its name.
    pub name: String,
    /// Which records it gets; ends always are among them.
    pub events: Vec<RecordEvent>,
    /// Which of those.
    pub filter: FilterLists,
    /// What may wait for it.
    pub queue: QueueConfig,
    /// Where requests lie until they are delivered; only with `when_full = "spool"`.
    pub spool: Option<SpoolConfig>,
    /// How it is delivered to.
    pub delivery: DeliveryConfig,
    /// What it is.
    pub kind: SinkKind,
}

/// The queue of a sink.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct QueueConfig {
    /// Records that may wait.
    pub records: u32,
    /// What happens when they do not fit.
    pub when_full: WhenFull,
}

/// How a sink is delivered to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeliveryConfig {
    /// Records of a request at most.
    pub batch_records: u32,
    /// Bytes of a request at most, before compression; a single record may have more.
    pub batch_bytes: u32,
    /// How long a record waits at most for others to travel with.
    pub batch_age: Duration,
    /// How long one try may take.
    pub timeout: Duration,
    /// Requests under way at the same time.
    pub concurrency: u32,
    /// The longest pause between two tries, unless the server asks for more.
    pub retry_max: Duration,
}

/// What a sink is, with what only this kind has.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SinkKind {
    /// Standard output or standard error.
    Stdio(Stream, OutputFormat),
    /// InfluxDB.
    Influxdb(Box<influxdb::Options>),
    /// Elasticsearch or OpenSearch.
    Elasticsearch(Box<elasticsearch::Options>),
    /// Nowhere: for measuring.
    Null,
}

/// The names of the kinds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum SinkType {
    Stdout,
    Stderr,
    Influxdb,
    Elasticsearch,
    Null,
}

impl Choice for SinkType {
    const ALL: &'static [(&'static str, Self)] = &[
        ("stdout", Self::Stdout),
        ("stderr", Self::Stderr),
        ("influxdb", Self::Influxdb),
        ("elasticsearch", Self::Elasticsearch),
        ("null", Self::Null),
    ];
}

/// What a sink has that its table says nothing of.
struct Defaults {
    events: Vec<RecordEvent>,
    delivery: DeliveryConfig,
}

impl SinkType {
    fn defaults(self) -> Defaults {
        match self {
            Self::Stdout | Self::Stderr | Self::Influxdb | Self::Null => {
                Defaults { events: all_events(), delivery: DeliveryConfig::default() }
            }
            // Sums over totals are only right over ends.
            Self::Elasticsearch => {
                Defaults { events: vec![RecordEvent::End], delivery: DeliveryConfig::default() }
            }
        }
    }
}

/// What happens to records for which a queue has no room.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum WhenFull {
    /// Updates of flows that wait already are merged; what still does not fit is dropped and counted.
    #[default]
    Coalesce,
    /// They are dropped and counted.
    DropNewest,
    /// Every request goes through files on disk; when these have no room either, records are dropped and counted.
    Spool,
}

impl Choice for WhenFull {
    const ALL: &'static [(&'static str, Self)] =
        &[("coalesce", Self::Coalesce), ("drop_newest", Self::DropNewest), ("spool", Self::Spool)];
}

impl Default for QueueConfig {
    fn default() -> Self {
        Self { records: 262_144, when_full: WhenFull::default() }
    }
}

impl Default for DeliveryConfig {
    fn default() -> Self {
        Self {
            batch_records: 5_000,
            batch_bytes: 1 << 20,
            batch_age: Duration::from_millis(500),
            timeout: Duration::from_secs(30),
            concurrency: 1,
            retry_max: Duration::from_secs(60),
        }
    }
}

impl SinkKind {
    /// The name of its type.
    #[must_use]
    pub const fn type_name(&self) -> &'static str {
        match self {
            Self::Stdio(Stream::Stdout, _) => "stdout",
            Self::Stdio(Stream::Stderr, _) => "stderr",
            Self::Influxdb(_) => "influxdb",
            Self::Elasticsearch(_) => "elasticsearch",
            Self::Null => "null",
        }
    }

    /// The place that it delivers to, as a person would call it; `None` where there is only one.
    #[must_use]
    pub fn target(&self) -> Option<String> {
        match self {
            Self::Stdio(..) | Self::Null => None,
            Self::Influxdb(options) => Some(options.target.to_string()),
            Self::Elasticsearch(options) => Some(options.target()),
        }
    }

    /// Whether somebody says that what was delivered has arrived.
    #[must_use]
    pub fn is_acknowledged(&self) -> bool {
        !matches!(self, Self::Influxdb(options) if options.target.is_datagrams())
    }

    /// The secrets that it needs.
    fn secrets(&self) -> Vec<&Secret> {
        match self {
            Self::Stdio(..) | Self::Null => Vec::new(),
            Self::Influxdb(options) => options.secrets(),
            Self::Elasticsearch(options) => options.secrets(),
        }
    }
}

impl SinkConfig {
    /// The secrets that it needs.
    pub(super) fn secrets(&self) -> Vec<&Secret> {
        self.kind.secrets()
    }
}

/// What stands elsewhere and sinks depend on.
#[derive(Clone, Copy)]
pub(super) struct Known<'a> {
    /// `None` where something is wrong with them: then what filters name is not looked up.
    pub(super) networks: Option<&'a Networks>,
    pub(super) has_networks: bool,
    pub(super) state_dir: Option<&'a Path>,
}

/// Reads `[sinks]`. `events` reads the key of that name.
pub(super) fn read(
    top: &mut Section<'_>,
    known: Known<'_>,
    events: impl Fn(&mut Section<'_>) -> Option<Vec<RecordEvent>>,
) -> Vec<SinkConfig> {
    let (mut stdout, mut stderr, mut dirs) = (None, None, Vec::new());
    top.named("sinks", |name, place, section| {
        check_name(name, place, section);
        let kind = kind(place, section)?;
        match kind {
            SinkType::Stdout => only_one(name, place, section, &mut stdout, "standard output"),
            SinkType::Stderr => only_one(name, place, section, &mut stderr, "standard error"),
            _ => {}
        }
        let events = events(section);
        let filter = filter::lists(section, known.networks);
        let sink = match kind {
            SinkType::Stdout => stdio_sink(name, Stream::Stdout, events, section),
            SinkType::Stderr => stdio_sink(name, Stream::Stderr, events, section),
            SinkType::Influxdb => driven(name, kind, events, known, section, |section, events| {
                let options = influxdb::Options::read(place, section, events, known.has_networks);
                // Where there are none, the problem is noted.
                options.map_or(SinkKind::Null, |options| SinkKind::Influxdb(Box::new(options)))
            }),
            SinkType::Elasticsearch => driven(name, kind, events, known, section, |section, events| {
                SinkKind::Elasticsearch(Box::new(elasticsearch::Options::read(place, section, events)))
            }),
            SinkType::Null => driven(name, kind, events, known, section, |_, _| SinkKind::Null),
        };
        let sink = SinkConfig { filter, ..sink };
        spool::check(&sink, known.state_dir, &mut dirs, section);
        Some(sink)
    })
}

/// A sink with a queue and a driver; `own` reads what only its kind has.
fn driven(
    name: &str,
    kind: SinkType,
    events: Option<Vec<RecordEvent>>,
    known: Known<'_>,
    section: &mut Section<'_>,
    own: impl FnOnce(&mut Section<'_>, &[RecordEvent]) -> SinkKind,
) -> SinkConfig {
    let defaults = kind.defaults();
    let events = events.unwrap_or(defaults.events);
    SinkConfig {
        name: name.to_owned(),
        queue: queue(section),
        spool: spool::read(name, section, known.state_dir),
        delivery: delivery(section, &defaults.delivery),
        kind: own(section, &events),
        events,
        filter: FilterLists::default(),
    }
}

/// Lines of two sinks would stand within each other.
fn only_one(name: &str, place: &Place, section: &mut Section<'_>, first: &mut Option<String>, stream: &str) {
    if let Some(first) = first.replace(name.to_owned()) {
        section.problem("type", place, format!("sinks.{first} writes to {stream} already"));
    }
}

/// It is written by a task of its own: nothing is retried.
fn stdio_sink(
    name: &str,
    stream: Stream,
    events: Option<Vec<RecordEvent>>,
    section: &mut Section<'_>,
) -> SinkConfig {
    let format = section.choice("format", OutputFormat::default());
    check_events(format, events.as_deref(), section);
    let kind = SinkKind::Stdio(stream, format);
    let records = section.count("queue_records", QueueConfig::default().records, QUEUE_RECORDS);
    SinkConfig {
        name: name.to_owned(),
        events: events.unwrap_or_else(all_events),
        filter: FilterLists::default(),
        queue: QueueConfig { records, when_full: WhenFull::DropNewest },
        spool: None,
        delivery: DeliveryConfig::default(),
        kind,
    }
}

/// Line protocol is of what is new.
pub(super) fn check_events(format: OutputFormat, events: Option<&[RecordEvent]>, section: &mut Section<'_>) {
    if format == OutputFormat::LineProtocol
        && events.is_some_and(|events| events.len() < RecordEvent::ALL.len())
        && let Some(place) = section.place("events")
    {
        section.problem("events", &place, format!("{ALL_EVENTS}; or choose another format"));
    }
}

fn kind(place: &Place, section: &mut Section<'_>) -> Option<SinkType> {
    if section.place("type").is_none() {
        let names: Vec<_> = SinkType::names().collect();
        section.missing("type", place, &format!("it is one of {}", names.join(", ")));
    }
    let kind: Option<SinkType> = section.optional_choice("type");
    match kind {
        Some(kind) => section.told("type", kind),
        // Which keys it may have is not known.
        None => section.ignore_rest(),
    }
    kind
}

fn check_name(name: &str, place: &Place, section: &mut Section<'_>) {
    let is_plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-' || c == '_';
    let is_taken = matches!(name, "output" | "");
    if name.len() > LONGEST_NAME || !name.chars().all(is_plain) || name.contains("__") || is_taken {
        let rule =
            "has no usable name; use up to 32 of a-z, 0-9, - and _ (no two _ in a row), but not \"output\"";
        section.problem_here(place, rule);
    }
}

/// The keys of a queue.
fn queue(section: &mut Section<'_>) -> QueueConfig {
    let default = QueueConfig::default();
    QueueConfig {
        records: section.count("queue_records", default.records, QUEUE_RECORDS),
        when_full: section.choice("when_full", default.when_full),
    }
}

/// The keys of delivery.
fn delivery(section: &mut Section<'_>, default: &DeliveryConfig) -> DeliveryConfig {
    DeliveryConfig {
        batch_records: section.count("batch_records", default.batch_records, BATCH_RECORDS),
        batch_bytes: section.size("batch_bytes", default.batch_bytes, BATCH_BYTES),
        batch_age: section.duration("batch_age", default.batch_age, LONGEST_AGE),
        timeout: at_least(section, "timeout", default.timeout, SHORTEST_TIMEOUT..=LONGEST_TIMEOUT),
        concurrency: section.count("concurrency", default.concurrency, CONCURRENCY),
        retry_max: at_least(section, "retry_max", default.retry_max, SHORTEST_PAUSE..=LONGEST_PAUSE),
    }
}

fn at_least(
    section: &mut Section<'_>,
    key: &'static str,
    default: Duration,
    range: RangeInclusive<Duration>,
) -> Duration {
    let value = section.duration(key, default, *range.end());
    if value < *range.start()
        && let Some(place) = section.place(key)
    {
        section.problem(key, &place, format!("is too short; the least is {:?}", range.start()));
    }
    value
}

fn all_events() -> Vec<RecordEvent> {
    RecordEvent::ALL.iter().map(|(_, event)| *event).collect()
}
