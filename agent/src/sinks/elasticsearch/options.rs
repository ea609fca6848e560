//! What a person can set about this sink.

use std::path::PathBuf;
use std::time::Duration;

use super::{Counters, DataStream, Login};
use crate::config::{Choice, Place, RecordEvent, Secret, Section};
use crate::sinks::http::{Endpoint, HttpOptions};

/// Where refused documents are kept by default, one file for each sink.
const REJECTED_DIRECTORY: &str = "/var/lib/conntally";

/// The shortest and longest that documents may be asked to be kept.
const SHORTEST_RETENTION: Duration = Duration::from_secs(86_400);
const LONGEST_RETENTION: Duration = Duration::from_secs(100 * 365 * 86_400);

/// How a cluster is delivered to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Options {
    /// Its nodes.
    pub urls: Vec<Endpoint>,
    /// How the agent shows who it is.
    pub login: Login,
    /// Certificates, compression, connecting.
    pub http: HttpOptions,
    /// Where documents go.
    pub stream: DataStream,
    /// Which figures readers sum.
    pub counters: Counters,
    /// Whether it is told how complete the accounting is.
    pub status: bool,
    /// Whether the agent installs template and retention at its start.
    pub setup: bool,
    /// How long documents are kept; if `None`, for ever or as an earlier set-up said.
    pub retention: Option<Duration>,
    /// Where refused documents are kept, if not in a file named after the sink.
    pub rejected_file: Option<PathBuf>,
    /// How large that file becomes, in bytes; one older one is kept.
    pub rejected_bytes: u32,
}

impl Options {
    /// The defaults for a cluster.
    #[must_use]
    pub fn new(urls: Vec<Endpoint>) -> Self {
        Self {
            urls,
            login: Login::None,
            http: HttpOptions::default(),
            stream: DataStream::of("default"),
            counters: Counters::Total,
            status: true,
            setup: false,
            retention: None,
            rejected_file: None,
            rejected_bytes: 16 << 20,
        }
    }

    /// The data stream and where it is, as a person would call it.
    pub(crate) fn target(&self) -> String {
        let urls: Vec<_> = self.urls.iter().map(ToString::to_string).collect();
        format!("data stream {} at {}", self.stream, urls.join(", "))
    }

    /// Reads the keys of a sink that gets records of these events; `place` is where its table stands.
    pub(crate) fn read(place: &Place, section: &mut Section<'_>, events: &[RecordEvent]) -> Self {
        let default = Self::new(urls(place, section));
        Self {
            login: login(place, section),
            http: HttpOptions::read(section),
            stream: stream(section),
            counters: counters(place, section, events),
            status: section.boolean("status", default.status),
            setup: section.boolean("setup", default.setup),
            retention: retention(section),
            rejected_file: rejected_file(section),
            rejected_bytes: section.size("rejected_bytes", default.rejected_bytes, 4 << 10..=1 << 30),
            urls: default.urls,
        }
    }

    /// The secrets that it needs.
    pub(crate) fn secrets(&self) -> Vec<&Secret> {
        match &self.login {
            Login::None => Vec::new(),
            Login::ApiKey(secret) | Login::Basic { password: secret, .. } => vec![secret],
        }
    }

    /// Where refused documents of the sink of that name are kept.
    pub(super) fn rejected_file(&self, sink: &str) -> PathBuf {
        let default = || PathBuf::from(REJECTED_DIRECTORY).join(format!("{sink}-rejected.ndjson"));
        self.rejected_file.clone().unwrap_or_else(default)
    }
}

fn urls(place: &Place, section: &mut Section<'_>) -> Vec<Endpoint> {
    let given = section.place("urls");
    let texts = section.texts("urls").unwrap_or_default();
    let Some(at) = given else {
        section.missing("urls", place, "name the nodes, as in urls = [\"https://es1:9200\"]");
        return Vec::new();
    };
    if texts.is_empty() {
        section.problem("urls", &at, "names no node; write it like [\"https://es1:9200\"]");
    }
    let mut endpoints = Vec::new();
    for text in &texts {
        match Endpoint::parse(text) {
            Ok(endpoint) => endpoints.push(endpoint),
            Err(error) => section.problem("urls", &at, format!("one {error}")),
        }
    }
    endpoints
}

fn login(place: &Place, section: &mut Section<'_>) -> Login {
    let key = section.secret("api_key", "api_key_file");
    let user = section.text("user");
    let password = section.secret("password", "password_file");
    match (key, user, password) {
        (None, None, None) => Login::None,
        (Some(key), None, None) => Login::ApiKey(key),
        (None, Some(user), Some(password)) => Login::Basic { user, password },
        (Some(key), _, _) => {
            section.problem("api_key", place, "goes with neither user nor password; keep one way to log in");
            Login::ApiKey(key)
        }
        (None, Some(_), None) => {
            section.missing_secret("password", "password_file", place, "a user has a password");
            Login::None
        }
        (None, None, Some(_)) => {
            section.missing("user", place, "a password is that of a user");
            Login::None
        }
    }
}

fn stream(section: &mut Section<'_>) -> DataStream {
    let place = section.place("namespace");
    let namespace = section.text("namespace").unwrap_or_else(|| "default".to_owned());
    if let (Some(wrong), Some(place)) = (DataStream::wrong_namespace(&namespace), place) {
        section.problem("namespace", &place, wrong);
    }
    DataStream::of(&namespace)
}

/// Whoever sums totals over updates counts the same bytes many times: that has to be chosen. A delta counts from the
/// flow's record before, so that sums are right only over all records.
fn counters(place: &Place, section: &mut Section<'_>, events: &[RecordEvent]) -> Counters {
    let given = section.place("counters");
    let chosen = section.optional_choice("counters");
    match (&given, chosen) {
        (None, _) if *events != [RecordEvent::End] => {
            let help = "with other events than \"end\" choose \"delta\" (sums over documents are right) or \"total\"";
            section.missing("counters", place, help);
        }
        (Some(at), Some(Counters::Delta)) if events.len() < RecordEvent::ALL.len() => {
            let message = "is \"delta\", which needs events = [\"new\", \"update\", \"end\"]: a delta counts from the \
                           record before";
            section.problem("counters", at, message);
        }
        _ => {}
    }
    chosen.unwrap_or_default()
}

impl Choice for Counters {
    const ALL: &'static [(&'static str, Self)] = &[("total", Self::Total), ("delta", Self::Delta)];
}

fn retention(section: &mut Section<'_>) -> Option<Duration> {
    let retention = section.required_duration("retention", LONGEST_RETENTION)?;
    let place = section.place("retention")?;
    if retention < SHORTEST_RETENTION {
        section.problem("retention", &place, "is too short; the least is 1d");
    } else if retention.as_secs() % 3_600 != 0 {
        section.problem("retention", &place, "must be whole days or hours, as in \"30d\"");
    }
    Some(retention)
}

fn rejected_file(section: &mut Section<'_>) -> Option<PathBuf> {
    let path = section.path("rejected_file")?;
    if !path.is_absolute() {
        let place = section.place("rejected_file")?;
        section.problem("rejected_file", &place, format!("{path:?} is not absolute; begin it with /"));
    }
    Some(path)
}
