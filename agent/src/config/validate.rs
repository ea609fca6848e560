//! From the raw tree to the typed configuration, or to all that is wrong with it.

use super::document::Table;
use super::reader::Section;
use super::shape::TableShape;
use super::{
    Config, Document, FlowConfig, LogConfig, OutputConfig, Place, Problems, RateStep, RecordEvent, Slots,
    SourceConfig, SourceKind, filter, sinks,
};
use conntally_common::CURVE_STEPS;
use std::time::Duration;

/// An hour is far more than any flush needs, and no accident like `10h` for `10s` goes unnoticed.
const LONGEST_SHUTDOWN: Duration = Duration::from_secs(3_600);
/// Deadlines are kept in 32-bit jiffies, which wrap after 49 days at 1,000 Hz; half of that compares right.
const LONGEST_INTERVAL: Duration = Duration::from_secs(86_400);
const LONGEST_AGE: Duration = Duration::from_secs(365 * 86_400);
/// The coarsest clock of a kernel ticks every 10 ms.
const SHORTEST_INTERVAL: Duration = Duration::from_millis(10);
const SHORTEST_RECONCILE: Duration = Duration::from_secs(1);

/// Makes the typed configuration; keys that are absent have their default.
///
/// # Errors
/// Every problem with its place and key.
pub fn validate(document: &Document) -> Result<Config, Problems> {
    let mut problems = document.twice.clone();
    let (config, _) = read(&document.root, &mut problems);
    problems.into_result(config)
}

/// What the reader asks for in a document, whatever is wrong with it.
pub(super) fn shape_of(document: &Document) -> TableShape {
    read(&document.root, &mut Problems::default()).1
}

/// Whether a key stands outside of any table.
pub(super) fn is_top_level_key(key: &str) -> bool {
    matches!(
        key,
        "run_dir"
            | "state_dir"
            | "shutdown_timeout"
            | "source"
            | "flow"
            | "filter"
            | "networks"
            | "output"
            | "sinks"
            | "log"
    )
}

fn read(root: &Table, problems: &mut Problems) -> (Config, TableShape) {
    let default = Config::default();
    let mut top = Section::new(String::new(), Some(root), problems);
    // Filters name networks.
    let (networks, known_networks) = top.section("networks", filter::networks);
    let has_networks = !networks.is_empty();
    // Spools lie below it.
    let state_dir = absolute_path(&mut top, "state_dir");
    let known =
        sinks::Known { networks: known_networks.as_ref(), has_networks, state_dir: state_dir.as_deref() };
    let config = Config {
        run_dir: absolute_path(&mut top, "run_dir").unwrap_or(default.run_dir),
        shutdown_timeout: top.duration("shutdown_timeout", default.shutdown_timeout, LONGEST_SHUTDOWN),
        source: top.section("source", source),
        flow: top.section("flow", flow),
        filter: top.section("filter", |section| filter::lists(section, known_networks.as_ref())),
        networks,
        output: top.section("output", output),
        sinks: sinks::read(&mut top, known, events),
        state_dir,
        log: top.section("log", log),
    };
    // A flow is in the log of the state from its first record on: what is held back before is in no file. Where there are
    // sinks, they need not want it.
    if config.state_dir.is_some()
        && config.sinks.is_empty()
        && !config.output.events.contains(&RecordEvent::New)
        && let Some(place) = top.place("state_dir")
    {
        top.problem(
            "state_dir",
            &place,
            "needs \"new\" in output.events: the state learns of a flow by its first record, without which a restart \
             could skip what the flow moved; add \"new\", or leave state_dir out",
        );
    }
    (config, top.finish())
}

fn absolute_path(top: &mut Section<'_>, key: &'static str) -> Option<std::path::PathBuf> {
    let path = top.path(key)?;
    if !path.is_absolute() {
        let place = top.place(key)?;
        top.problem(key, &place, format!("{path:?} is not absolute; begin it with /"));
    }
    Some(path)
}

fn source(section: &mut Section<'_>) -> SourceConfig {
    let default = SourceConfig::default();
    let config = SourceConfig {
        kind: section.choice("kind", default.kind),
        hook: section.choice("hook", default.hook),
        updates: section.choice("updates", default.updates),
        manage_sysctls: section.boolean("manage_sysctls", default.manage_sysctls),
        enable_tracking: section.boolean("enable_tracking", default.enable_tracking),
        rate_curve: rate_curve(section).unwrap_or(default.rate_curve),
        slots: section.auto_or_count("slots", 1_024..=1 << 24).map_or(Slots::Auto, Slots::Count),
        ring_bytes: ring(section, "ring_bytes", default.ring_bytes),
        end_ring_bytes: ring(section, "end_ring_bytes", default.end_ring_bytes),
        ends_overflow: section.count("ends_overflow", default.ends_overflow, 1..=1 << 20),
        reconcile_every: reconcile_every(section, default.reconcile_every),
        netlink_buffer: section.size("netlink_buffer", default.netlink_buffer, 64 << 10..=1 << 30),
        replay: section.path("replay"),
    };
    replay_has_its_file(section, &config);
    config
}

fn replay_has_its_file(section: &mut Section<'_>, config: &SourceConfig) {
    if config.kind != SourceKind::Replay || config.replay.is_some() || section.place("replay").is_some() {
        return;
    }
    if let Some(place) = section.any_place() {
        section.problem("replay", &place, "is missing; kind = \"replay\" needs the recording to read");
    }
}

/// A walk costs, and one that follows the other at once finds nothing.
fn reconcile_every(section: &mut Section<'_>, default: Duration) -> Duration {
    let every = section.duration("reconcile_every", default, LONGEST_INTERVAL);
    if every < SHORTEST_RECONCILE
        && let Some(place) = section.place("reconcile_every")
    {
        section.problem("reconcile_every", &place, "is too short; the least is 1s");
    }
    every
}

/// The kernel takes only powers of two, and makes a ring no smaller than a page of memory.
fn ring(section: &mut Section<'_>, key: &'static str, default: u32) -> u32 {
    let bytes = section.size(key, default, 4 << 10..=1 << 30);
    if !bytes.is_power_of_two()
        && let Some(place) = section.place(key)
    {
        let (below, above) = (bytes.next_power_of_two() >> 11, bytes.next_power_of_two() >> 10);
        section.problem(
            key,
            &place,
            format!("is no power of two; {below}KiB and {above}KiB are the nearest"),
        );
    }
    bytes
}

fn rate_curve(section: &mut Section<'_>) -> Option<Vec<RateStep>> {
    let (curve, place) = section.tables("rate_curve", rate_step)?;
    let mut wrong = |message: String| section.problem("rate_curve", &place, message);
    match curve.first() {
        None => wrong("has no step; the default is [{ age = \"0s\", every = \"5s\" }, …]".into()),
        Some(first) if !first.age.is_zero() => wrong("must begin with a step of age = \"0s\"".into()),
        Some(_) => {}
    }
    if curve.len() > CURVE_STEPS {
        wrong(format!("has {} steps; the most is {CURVE_STEPS}", curve.len()));
    }
    if !curve.is_sorted_by(|before, after| before.age < after.age) {
        wrong("ages must ascend, each once".into());
    }
    Some(curve)
}

fn rate_step(place: &Place, step: &mut Section<'_>) -> Option<RateStep> {
    let age = required(step, place, "age", LONGEST_AGE);
    let every = required(step, place, "every", LONGEST_INTERVAL);
    if let (Some(interval), Some(place)) = (every, step.place("every"))
        && interval < SHORTEST_INTERVAL
    {
        step.problem(
            "every",
            &place,
            format!("is too short; the least is {}ms", SHORTEST_INTERVAL.as_millis()),
        );
    }
    Some(RateStep { age: age?, every: every? })
}

fn required(step: &mut Section<'_>, place: &Place, key: &'static str, most: Duration) -> Option<Duration> {
    if step.place(key).is_none() {
        step.missing(key, place, "a step is { age = \"1m\", every = \"20s\" }");
    }
    step.required_duration(key, most)
}

fn flow(section: &mut Section<'_>) -> FlowConfig {
    FlowConfig { max_flows: section.count("max_flows", FlowConfig::default().max_flows, 1_024..=1 << 28) }
}

fn output(section: &mut Section<'_>) -> OutputConfig {
    let default = OutputConfig::default();
    let (format, events) = (section.choice("format", default.format), events(section));
    sinks::check_events(format, events.as_deref(), section);
    OutputConfig {
        format,
        events: events.unwrap_or(default.events),
        queue_records: section.count("queue_records", default.queue_records, 1_024..=1 << 24),
    }
}

fn events(section: &mut Section<'_>) -> Option<Vec<RecordEvent>> {
    let (events, place) = section.choices("events")?;
    if !events.contains(&RecordEvent::End) {
        section.problem("events", &place, "lacks \"end\", without which no flow is accounted to its end");
    }
    Some(events)
}

fn log(section: &mut Section<'_>) -> LogConfig {
    let default = LogConfig::default();
    LogConfig {
        level: section.choice("level", default.level),
        format: section.choice("format", default.format),
    }
}
