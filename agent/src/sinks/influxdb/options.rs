//! What a person can set about this sink.

use std::fmt;

use super::schema::{MEASUREMENT, STATUS};
use crate::config::{ALL_EVENTS, Choice as _, Place, RecordEvent, Secret, Section, read_aggregate};
use crate::pipeline::aggregate::AggregateConfig;
use crate::sinks::http::{Endpoint, HttpOptions};

/// What fits a packet over nearly all links, tunnels included.
const PAYLOAD: u32 = 1_400;

/// What the configuration of the server says where it is written to by datagrams.
const OF_RECEIVER: [&str; 6] =
    ["database", "retention_policy", "user", "password", "password_file", "create"];

/// Keys of sums by groups.
const OF_GROUPS: [&str; 4] = ["group_by", "interval", "max_series", "series_window"];

/// How a database is written to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Options {
    /// Where it is.
    pub target: Target,
    /// Certificates, compression, connecting.
    pub http: HttpOptions,
    /// The measurement that all points are of.
    pub measurement: String,
    /// What has a series of its own.
    pub shape: Shape,
    /// Whether it is told how complete the accounting is.
    pub status: bool,
}

/// What the points are of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shape {
    /// Flows.
    PerFlow,
    /// Groups of flows.
    Groups(AggregateConfig),
}

/// A database, by the interface that it is written by.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Target {
    /// Version 2 of the HTTP interface.
    Two {
        /// The server.
        url: Endpoint,
        /// The organisation.
        org: String,
        /// The bucket.
        bucket: String,
        /// The token.
        token: Secret,
        /// Whether to make the bucket if it is missing.
        create: bool,
    },
    /// Version 1 of it.
    One {
        /// The server.
        url: Endpoint,
        /// The database.
        database: String,
        /// The retention policy; the database's default one if `None`.
        retention_policy: Option<String>,
        /// User and password.
        login: Option<(String, Secret)>,
        /// Whether to make the database if it is missing.
        create: bool,
    },
    /// Datagrams.
    Udp {
        /// Host and port.
        address: String,
        /// Bytes of a datagram at most, without its headers.
        payload: u32,
    },
}

impl Options {
    /// Reads the keys of a sink that gets records of these events; `place` is where its table stands. `None` when
    /// something is wrong, which was noted.
    pub(crate) fn read(
        place: &Place,
        section: &mut Section<'_>,
        events: &[RecordEvent],
        has_networks: bool,
    ) -> Option<Self> {
        if events.len() < RecordEvent::ALL.len() {
            let place = section.place("events").unwrap_or_else(|| place.clone());
            section.problem("events", &place, ALL_EVENTS);
        }
        let target = if section.count("version", 2, 1..=2) == 1 {
            version_1(place, section)
        } else {
            version_2(place, section)
        };
        let is_udp = target.as_ref().is_some_and(Target::is_datagrams);
        let http = if is_udp { HttpOptions::default() } else { HttpOptions::read(section) };
        let measurement = measurement(section);
        let (shape, status) = (shape(section, has_networks), section.boolean("status", true));
        Some(Self { http, measurement, shape, status, target: target? })
    }

    /// The secrets that it needs.
    pub(crate) fn secrets(&self) -> Vec<&Secret> {
        match &self.target {
            Target::Two { token, .. } => vec![token],
            Target::One { login: Some((_, password)), .. } => vec![password],
            Target::One { login: None, .. } | Target::Udp { .. } => Vec::new(),
        }
    }
}

impl Target {
    /// Whether nobody says what has arrived.
    pub(crate) const fn is_datagrams(&self) -> bool {
        matches!(self, Self::Udp { .. })
    }
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Two { url, org, bucket, .. } => write!(f, "bucket {bucket} of organisation {org} at {url}"),
            Self::One { url, database, retention_policy: Some(policy), .. } => {
                write!(f, "retention policy {policy} of database {database} at {url}")
            }
            Self::One { url, database, .. } => write!(f, "database {database} at {url}"),
            Self::Udp { address, .. } => write!(f, "udp://{address}"),
        }
    }
}

fn shape(section: &mut Section<'_>, has_networks: bool) -> Shape {
    if section.boolean("per_flow", false) {
        for key in OF_GROUPS {
            section.refuse(
                key,
                "is of sums by groups, and with per_flow = true there are none; leave one of them out",
            );
        }
        return Shape::PerFlow;
    }
    Shape::Groups(read_aggregate(section, AggregateConfig::default_for(has_networks)))
}

fn version_2(place: &Place, section: &mut Section<'_>) -> Option<Target> {
    let url = url(place, section, "https://influx.example:8086");
    let org = required(place, section, "org", "the organisation that the bucket is of");
    let bucket = required(place, section, "bucket", "where points are written to");
    let token = section.secret("token", "token_file");
    if token.is_none() {
        let help = "it names the file with a token that may write to the bucket";
        section.missing_secret("token", "token_file", place, help);
    }
    let create = section.boolean("create", false);
    Some(Target::Two { url: url?, org: org?, bucket: bucket?, token: token?, create })
}

fn version_1(place: &Place, section: &mut Section<'_>) -> Option<Target> {
    if let Some(address) = udp_address(section) {
        for key in OF_RECEIVER {
            section.refuse(
                key,
                "is nothing that a datagram could say: the server's receiver of datagrams has database, retention policy \
                 and user of its own ([[udp]] in influxdb.conf); leave it out",
            );
        }
        let payload = section.count("udp_payload", PAYLOAD, 512..=65_507);
        return Some(Target::Udp { address, payload });
    }
    let url = url(place, section, "http://influx.example:8086 or udp://influx.example:8089");
    let database = required(place, section, "database", "where points are written to");
    let retention_policy = section.text("retention_policy");
    let login = login(place, section);
    let create = section.boolean("create", false);
    Some(Target::One { url: url?, database: database?, retention_policy, login, create })
}

fn url(place: &Place, section: &mut Section<'_>, example: &str) -> Option<Endpoint> {
    if section.place("url").is_none() {
        section.missing("url", place, &format!("write it like {example}"));
    }
    Endpoint::read(section, "url")
}

/// Host and port of a `udp://` address; `None` where it is another, or none.
fn udp_address(section: &mut Section<'_>) -> Option<String> {
    let place = section.place("url")?;
    section.peek("url").filter(|text| text.starts_with("udp://"))?;
    let text = section.text("url")?;
    let address = text.trim_start_matches("udp://");
    let is_whole = address.rsplit_once(':').is_some_and(|(host, port)| {
        !host.is_empty() && port.parse::<u16>().is_ok_and(|port| port != 0) && !address.contains(['/', '@'])
    });
    if !is_whole {
        section.problem(
            "url",
            &place,
            "is no address for datagrams; write it like udp://influx.example:8089",
        );
    }
    Some(address.to_owned())
}

fn required(place: &Place, section: &mut Section<'_>, key: &'static str, help: &str) -> Option<String> {
    if section.place(key).is_none() {
        section.missing(key, place, help);
    }
    section.text(key)
}

fn login(place: &Place, section: &mut Section<'_>) -> Option<(String, Secret)> {
    match (section.text("user"), section.secret("password", "password_file")) {
        (None, None) => None,
        (Some(user), Some(password)) => Some((user, password)),
        (Some(_), None) => {
            section.missing_secret("password", "password_file", place, "a user has a password");
            None
        }
        (None, Some(_)) => {
            section.missing("user", place, "a password is that of a user");
            None
        }
    }
}

fn measurement(section: &mut Section<'_>) -> String {
    let place = section.place("measurement");
    let name = section.text("measurement").unwrap_or_else(|| MEASUREMENT.to_owned());
    if name == STATUS
        && let Some(place) = &place
    {
        section.problem(
            "measurement",
            place,
            "is where the agent writes how complete the accounting is; take another",
        );
    }
    let is_wrong = name.starts_with(['#', '_']) || name.contains('\\') || name.contains(char::is_control);
    if is_wrong && let Some(place) = place {
        let rule = "is no usable name; it begins with neither # nor _ and has no backslash and no line's end";
        section.problem("measurement", &place, rule);
    }
    name
}
