//! The typed configuration and its defaults.

use super::{Problems, SinkConfig};
use crate::pipeline::filter::FilterLists;
use crate::pipeline::networks::NetworkDefinition;
use std::path::PathBuf;
use std::time::Duration;

/// Everything that may be configured.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    /// Where the agent keeps what must not outlive the boot: locks, values to restore.
    pub run_dir: PathBuf,
    /// Where flows and unwritten records outlive the process; nowhere by default.
    pub state_dir: Option<PathBuf>,
    /// How long an orderly shutdown may take.
    pub shutdown_timeout: Duration,
    /// Where observations come from.
    pub source: SourceConfig,
    /// The flow table.
    pub flow: FlowConfig,
    /// Which records are wanted at all.
    pub filter: FilterLists,
    /// Names for prefixes.
    pub networks: Vec<NetworkDefinition>,
    /// What is written to standard output when there are no sinks.
    pub output: OutputConfig,
    /// Destinations, by name.
    pub sinks: Vec<SinkConfig>,
    /// The agent's own log.
    pub log: LogConfig,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            run_dir: PathBuf::from("/run/conntally"),
            state_dir: None,
            shutdown_timeout: Duration::from_secs(10),
            source: SourceConfig::default(),
            flow: FlowConfig::default(),
            filter: FilterLists::default(),
            networks: Vec::new(),
            output: OutputConfig::default(),
            sinks: Vec::new(),
            log: LogConfig::default(),
        }
    }
}

impl Config {
    /// Whether anybody needs records of this kind.
    #[must_use]
    pub fn wants(&self, event: RecordEvent) -> bool {
        if self.sinks.is_empty() {
            return self.output.events.contains(&event);
        }
        // A flow is kept in the state directory from its first record on.
        let is_kept = self.state_dir.is_some() && event == RecordEvent::New;
        is_kept || self.sinks.iter().any(|sink| sink.events.contains(&event))
    }

    /// Every secret that cannot be read now; `outside_service`: those aside that only a service is handed.
    pub(super) fn check_secrets(&self, outside_service: bool) -> Problems {
        let mut problems = Problems::default();
        let secrets = self.sinks.iter().flat_map(SinkConfig::secrets);
        let now = secrets.filter(|secret| !(outside_service && secret.is_awaited()));
        now.for_each(|secret| secret.check(&mut problems));
        problems
    }
}

/// `[source]`
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SourceConfig {
    /// Which source runs.
    pub kind: SourceKind,
    /// How the kernel programs are attached.
    pub hook: Hook,
    /// By which way updates of living flows come from the kernel programs.
    pub updates: Updates,
    /// Whether the agent turns on `nf_conntrack_acct` and `nf_conntrack_timestamp` while it runs.
    pub manage_sysctls: bool,
    /// Whether the agent adds an nftables table of its own so that an idle namespace tracks connections.
    pub enable_tracking: bool,
    /// How often a flow of a given age speaks: ascending ages, the first is zero, at most
    /// [`conntally_common::CURVE_STEPS`] steps.
    pub rate_curve: Vec<RateStep>,
    /// How many flows the kernel programs can keep apart.
    pub slots: Slots,
    /// Size of the ring of new flows and updates, in bytes: a power of two.
    pub ring_bytes: u32,
    /// Size of the ring of ends, in bytes: a power of two.
    pub end_ring_bytes: u32,
    /// Ends that the queue behind that ring holds.
    pub ends_overflow: u32,
    /// Time between two walks through the kernel's table.
    pub reconcile_every: Duration,
    /// Receive buffer of each ctnetlink socket, in bytes.
    pub netlink_buffer: u32,
    /// The recording to read, with [`SourceKind::Replay`].
    pub replay: Option<PathBuf>,
}

impl Default for SourceConfig {
    fn default() -> Self {
        Self {
            kind: SourceKind::Auto,
            hook: Hook::Auto,
            updates: Updates::Packet,
            manage_sysctls: true,
            enable_tracking: false,
            rate_curve: vec![RateStep::seconds(0, 5), RateStep::seconds(60, 20), RateStep::seconds(300, 60)],
            slots: Slots::Auto,
            ring_bytes: 16 << 20,
            end_ring_bytes: 16 << 20,
            ends_overflow: 8_192,
            reconcile_every: Duration::from_secs(300),
            netlink_buffer: 8 << 20,
            replay: None,
        }
    }
}

/// One step of the rate curve.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RateStep {
    /// The step holds for flows of at least this age.
    pub age: Duration,
    /// The shortest time between two updates of such a flow.
    pub every: Duration,
}

impl RateStep {
    /// A step in whole seconds.
    #[must_use]
    pub const fn seconds(age: u64, every: u64) -> Self {
        Self { age: Duration::from_secs(age), every: Duration::from_secs(every) }
    }
}

/// Size of the kernel programs' slot table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Slots {
    /// From `nf_conntrack_max` and the number of network namespaces.
    Auto,
    /// This many flows.
    Count(u32),
}

/// `[flow]`
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FlowConfig {
    /// Flows in the agent's table at most.
    pub max_flows: u32,
}

impl Default for FlowConfig {
    fn default() -> Self {
        Self { max_flows: 1_000_000 }
    }
}

/// `[output]`: standard output, the sink that runs when no other is configured.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OutputConfig {
    /// What records look like.
    pub format: OutputFormat,
    /// Which records are wanted; ends always are.
    pub events: Vec<RecordEvent>,
    /// Records that may wait for a slow reader.
    pub queue_records: u32,
}

impl Default for OutputConfig {
    fn default() -> Self {
        Self {
            format: OutputFormat::Auto,
            events: RecordEvent::ALL.iter().map(|(_, event)| *event).collect(),
            queue_records: 262_144,
        }
    }
}

/// `[log]`
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LogConfig {
    /// The least severe message that is written.
    pub level: LogLevel,
    /// What a message looks like.
    pub format: LogFormat,
}

/// An option with a closed list of values.
pub trait Choice: Copy + PartialEq + 'static {
    /// Every value under the name that the file, the environment and the flags use.
    const ALL: &'static [(&'static str, Self)];

    /// The value of that name.
    #[must_use]
    fn from_name(name: &str) -> Option<Self> {
        Self::ALL.iter().find(|(known, _)| *known == name).map(|(_, value)| *value)
    }

    /// The name of this value.
    #[must_use]
    fn name(self) -> &'static str {
        Self::ALL.iter().find(|(_, value)| *value == self).map_or("", |(name, _)| name)
    }

    /// All names, in the order of the documentation.
    fn names() -> impl Iterator<Item = &'static str> {
        Self::ALL.iter().map(|(name, _)| *name)
    }
}

/// Where observations come from.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum SourceKind {
    /// Kernel programs where they are permitted, else ctnetlink.
    #[default]
    Auto,
    /// Kernel programs.
    Bpf,
    /// ctnetlink dumps and events.
    Netlink,
    /// A recording.
    Replay,
}

impl Choice for SourceKind {
    const ALL: &'static [(&'static str, Self)] =
        &[("auto", Self::Auto), ("bpf", Self::Bpf), ("netlink", Self::Netlink), ("replay", Self::Replay)];
}

/// How the kernel programs are attached.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Hook {
    /// fentry where it works, else kprobe.
    #[default]
    Auto,
    /// By trampoline.
    Fentry,
    /// By breakpoint.
    Kprobe,
}

impl Choice for Hook {
    const ALL: &'static [(&'static str, Self)] =
        &[("auto", Self::Auto), ("fentry", Self::Fentry), ("kprobe", Self::Kprobe)];
}

/// By which way updates of living flows come from the kernel programs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Updates {
    /// With the packet that makes a flow due.
    #[default]
    Packet,
    /// By looking at the flows that are due; no packet is hooked.
    Sweep,
}

impl Choice for Updates {
    const ALL: &'static [(&'static str, Self)] = &[("packet", Self::Packet), ("sweep", Self::Sweep)];
}

/// What a record is of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RecordEvent {
    /// The first sight of a flow.
    New,
    /// A living flow that moved or changed.
    Update,
    /// The end of a flow.
    End,
}

impl Choice for RecordEvent {
    const ALL: &'static [(&'static str, Self)] =
        &[("new", Self::New), ("update", Self::Update), ("end", Self::End)];
}

/// Where lines go that no server takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stream {
    /// Standard output.
    Stdout,
    /// Standard error, where the agent's own log goes, too.
    Stderr,
}

/// What records look like on a standard stream.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum OutputFormat {
    /// A table on a terminal, JSON lines elsewhere.
    #[default]
    Auto,
    /// Aligned rows for a person.
    Table,
    /// One JSON object a line.
    Json,
    /// The same as pairs of names and values.
    Logfmt,
    /// InfluxDB's line protocol, a series for each flow.
    LineProtocol,
    /// Nothing: for measuring.
    Null,
}

impl Choice for OutputFormat {
    const ALL: &'static [(&'static str, Self)] = &[
        ("auto", Self::Auto),
        ("table", Self::Table),
        ("json", Self::Json),
        ("logfmt", Self::Logfmt),
        ("line_protocol", Self::LineProtocol),
        ("null", Self::Null),
    ];
}

/// Severity of the log.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum LogLevel {
    /// Data was lost or someone must act.
    Error,
    /// Something went wrong and was mended; nothing is lost.
    Warn,
    /// What the agent does.
    #[default]
    Info,
    /// Why it does so.
    Debug,
    /// Everything.
    Trace,
}

impl Choice for LogLevel {
    const ALL: &'static [(&'static str, Self)] = &[
        ("error", Self::Error),
        ("warn", Self::Warn),
        ("info", Self::Info),
        ("debug", Self::Debug),
        ("trace", Self::Trace),
    ];
}

/// What a log message looks like.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum LogFormat {
    /// One line for a person.
    #[default]
    Text,
    /// One JSON object a line.
    Json,
}

impl Choice for LogFormat {
    const ALL: &'static [(&'static str, Self)] = &[("text", Self::Text), ("json", Self::Json)];
}
