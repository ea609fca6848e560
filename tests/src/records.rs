//! The agent's JSON lines, gathered into one account per flow id.

use std::collections::{BTreeMap, HashMap};
use std::net::IpAddr;

use serde::Deserialize;

use crate::key::{Counter, FlowKey, Totals, Tuple, protocol};

/// All that the agent said of one flow.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FlowAccount {
    /// Its name.
    pub key: FlowKey,
    /// `event.start` of its last record; RFC 3339 in UTC, so texts sort like times.
    pub start: String,
    /// Records of the kinds start, info and end.
    pub news: u32,
    /// See `news`.
    pub updates: u32,
    /// See `news`.
    pub ends: u32,
    /// Records after the first end; there must be none.
    pub after_end: u32,
    /// Records whose totals were below those of an earlier one; there must be none.
    pub regressions: u32,
    /// Sum of all deltas.
    pub deltas: Totals,
    /// Totals of the last record.
    pub totals: Totals,
    /// `event.duration` of the last record, in nanoseconds.
    pub duration_ns: u64,
    /// `@timestamp` of each record.
    pub timestamps: Vec<String>,
    /// End reason of the end record.
    pub end_reason: Option<String>,
    /// Flags of the last record.
    pub flags: Vec<String>,
    /// Translated source of the last record.
    pub source_nat: Option<Endpoint>,
    /// Translated destination of the last record.
    pub destination_nat: Option<Endpoint>,
    /// All status names that any record showed.
    pub status: Vec<String>,
    /// Marks in the order in which its records showed them, each once in a row.
    pub marks: Vec<u32>,
    /// Labels of the last record, in hexadecimal; `None` when it has none.
    pub labels: Option<String>,
}

impl FlowAccount {
    /// Whether a flag is set.
    #[must_use]
    pub fn has_flag(&self, flag: &str) -> bool {
        self.flags.iter().any(|set| set == flag)
    }

    /// How many records there are of it.
    #[must_use]
    pub const fn records(&self) -> u32 {
        self.news + self.updates + self.ends
    }

    /// The tuple of answering packets as the record's NAT fields tell it.
    #[must_use]
    pub fn nat_reply(&self) -> Tuple {
        let mut asked = self.key.tuple;
        if let Some(nat) = self.source_nat {
            asked.source = nat.ip.unwrap_or(asked.source);
            asked.source_port = nat.port.unwrap_or(asked.source_port);
        }
        if let Some(nat) = self.destination_nat {
            asked.destination = nat.ip.unwrap_or(asked.destination);
            asked.destination_port = nat.port.unwrap_or(asked.destination_port);
        }
        asked.answer()
    }
}

/// Address and port of one side; what is not translated may be absent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
pub struct Endpoint {
    /// Address.
    pub ip: Option<IpAddr>,
    /// Port.
    pub port: Option<u16>,
}

/// Everything an agent printed.
#[derive(Debug, Default)]
pub struct Records {
    accounts: BTreeMap<String, FlowAccount>,
    /// Ended flows by the inode of their namespace.
    ended: HashMap<u32, usize>,
    /// Number of records.
    pub events: u64,
    /// Lines that are no record, each with the reason.
    pub bad_lines: Vec<String>,
}

impl Records {
    /// Reads one line.
    pub fn add_line(&mut self, line: &str) {
        match serde_json::from_str::<Line>(line) {
            Ok(parsed) => self.add(parsed),
            Err(cause) => self.bad_lines.push(format!("{cause}: {line}")),
        }
    }

    /// Reads lines.
    #[must_use]
    pub fn from_lines<'a>(lines: impl IntoIterator<Item = &'a str>) -> Self {
        let mut records = Self::default();
        for line in lines {
            records.add_line(line);
        }
        records
    }

    /// Flows that were found gone, their end not having been told.
    #[must_use]
    pub fn missed(&self) -> usize {
        self.accounts().filter(|flow| flow.end_reason.as_deref() == Some("missed")).count()
    }

    /// The flows, by the time of their start under each name.
    #[must_use]
    pub fn by_key(&self) -> HashMap<FlowKey, Vec<&FlowAccount>> {
        let mut flows: HashMap<FlowKey, Vec<&FlowAccount>> = HashMap::new();
        for account in self.accounts.values() {
            flows.entry(account.key).or_default().push(account);
        }
        for same_name in flows.values_mut() {
            same_name.sort_by(|a, b| a.start.cmp(&b.start));
        }
        flows
    }

    /// All flows, in no useful order.
    pub fn accounts(&self) -> impl Iterator<Item = &FlowAccount> {
        self.accounts.values()
    }

    /// All that was billed.
    #[must_use]
    pub fn billed(&self) -> Totals {
        self.accounts.values().fold(Totals::default(), |mut sum, account| {
            sum += account.deltas;
            sum
        })
    }

    /// How many flows of these namespaces have ended.
    #[must_use]
    pub fn ended(&self, namespaces: &[u32]) -> usize {
        namespaces.iter().filter_map(|inode| self.ended.get(inode)).sum()
    }

    fn add(&mut self, line: Line) {
        let Some(key) = line.key() else {
            self.bad_lines.push(format!("flow {} has no addresses or no namespace", line.flow.id));
            return;
        };
        self.events += 1;
        let account = self.accounts.entry(line.flow.id.clone()).or_insert_with(|| FlowAccount::opened(key));
        let before = account.ends;
        account.add(line);
        if before == 0 && account.ends > 0 {
            *self.ended.entry(key.netns).or_default() += 1;
        }
    }
}

impl FlowAccount {
    /// An account that nothing was added to yet.
    #[must_use]
    pub fn opened(key: FlowKey) -> Self {
        Self {
            key,
            start: String::new(),
            news: 0,
            updates: 0,
            ends: 0,
            after_end: 0,
            regressions: 0,
            deltas: Totals::default(),
            totals: Totals::default(),
            duration_ns: 0,
            timestamps: Vec::new(),
            end_reason: None,
            flags: Vec::new(),
            source_nat: None,
            destination_nat: None,
            status: Vec::new(),
            marks: Vec::new(),
            labels: None,
        }
    }

    fn add(&mut self, line: Line) {
        self.after_end += u32::from(self.ends > 0);
        match line.event.kind() {
            Some("start") => self.news += 1,
            Some("end") => self.ends += 1,
            _ => self.updates += 1,
        }
        let totals = Totals { original: line.source.counter(), reply: line.destination.counter() };
        self.regressions += u32::from(self.totals.exceeds(totals));
        self.totals = totals;
        self.deltas += Totals {
            original: line.conntally.delta.source.counter(),
            reply: line.conntally.delta.destination.counter(),
        };
        self.start = line.event.start.unwrap_or_default();
        self.duration_ns = line.event.duration.unwrap_or_default();
        self.timestamps.push(line.timestamp);
        self.end_reason = line.conntally.end_reason.or(self.end_reason.take());
        self.flags = line.conntally.flags;
        self.source_nat = line.source.nat;
        self.destination_nat = line.destination.nat;
        if self.marks.last() != Some(&line.conntally.mark) {
            self.marks.push(line.conntally.mark);
        }
        self.labels = line.conntally.labels;
        for status in line.conntally.status {
            if !self.status.contains(&status) {
                self.status.push(status);
            }
        }
    }
}

/// The part of the record schema that the comparison needs.
#[derive(Deserialize)]
struct Line {
    #[serde(rename = "@timestamp")]
    timestamp: String,
    event: Event,
    flow: Flow,
    network: Network,
    source: Side,
    destination: Side,
    conntally: Own,
}

#[derive(Deserialize)]
struct Event {
    #[serde(rename = "type")]
    types: Vec<String>,
    start: Option<String>,
    duration: Option<u64>,
}

#[derive(Deserialize)]
struct Flow {
    id: String,
}

#[derive(Deserialize)]
struct Network {
    iana_number: String,
}

#[derive(Default, Deserialize)]
struct Side {
    ip: Option<IpAddr>,
    port: Option<u16>,
    bytes: Option<u64>,
    packets: Option<u64>,
    nat: Option<Endpoint>,
}

#[derive(Deserialize)]
struct Own {
    #[serde(default)]
    delta: Delta,
    end_reason: Option<String>,
    netns: Netns,
    #[serde(default)]
    zone: u16,
    icmp: Option<Icmp>,
    #[serde(default)]
    mark: u32,
    labels: Option<String>,
    #[serde(default)]
    status: Vec<String>,
    #[serde(default)]
    flags: Vec<String>,
}

#[derive(Default, Deserialize)]
struct Delta {
    #[serde(default)]
    source: Side,
    #[serde(default)]
    destination: Side,
}

#[derive(Deserialize)]
struct Netns {
    inode: u32,
}

#[derive(Clone, Copy, Deserialize)]
struct Icmp {
    #[serde(rename = "type")]
    kind: u8,
    code: u8,
    id: u16,
}

impl Event {
    fn kind(&self) -> Option<&str> {
        self.types.get(1).map(String::as_str)
    }
}

impl Side {
    fn counter(&self) -> Counter {
        Counter { packets: self.packets.unwrap_or_default(), bytes: self.bytes.unwrap_or_default() }
    }
}

impl Line {
    fn key(&self) -> Option<FlowKey> {
        let protocol: u8 = self.network.iana_number.parse().ok()?;
        let (source_port, destination_port) = match (protocol, self.conntally.icmp) {
            (protocol::ICMP | protocol::ICMPV6, Some(icmp)) => {
                (icmp.id, u16::from(icmp.kind) << 8 | u16::from(icmp.code))
            }
            _ => (self.source.port.unwrap_or(0), self.destination.port.unwrap_or(0)),
        };
        let tuple = Tuple {
            protocol,
            source: self.source.ip?,
            destination: self.destination.ip?,
            source_port,
            destination_port,
        };
        Some(FlowKey { netns: self.conntally.netns.inode, zone: self.conntally.zone, tuple })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(kind: &str, bytes: u64, delta: u64) -> String {
        serde_json::json!({
            "@timestamp": "2026-11-20T10:00:05.123456789Z",
            "event": {"type": ["connection", kind], "start": "2026-11-20T10:00:00.000000001Z", "duration": 5},
            "flow": {"id": "0f3c", "final": kind == "end"},
            "network": {"type": "ipv4", "transport": "tcp", "iana_number": "6", "bytes": bytes, "packets": 1},
            "source": {"ip": "10.0.0.2", "port": 40312, "bytes": bytes, "packets": 1,
                       "nat": {"ip": "192.0.2.1", "port": 7}},
            "destination": {"ip": "198.51.100.7", "port": 443, "bytes": 0, "packets": 0},
            "conntally": {"delta": {"source": {"bytes": delta, "packets": 1},
                                    "destination": {"bytes": 0, "packets": 0}},
                          "end_reason": "closed", "netns": {"inode": 4_026_531_840u32}, "flags": ["weak_id"]}
        })
        .to_string()
    }

    #[test]
    fn records_of_one_flow_add_up() {
        let lines = [line("start", 60, 60), line("info", 100, 40), line("end", 110, 10)];
        let records = Records::from_lines(lines.iter().map(String::as_str));
        assert_eq!(records.bad_lines, Vec::<String>::new());
        let account = records.accounts().next().unwrap();
        assert_eq!((account.news, account.updates, account.ends, account.after_end), (1, 1, 1, 0));
        assert_eq!(account.deltas.original.bytes, 110);
        assert_eq!(account.totals.original.bytes, 110);
        assert_eq!(account.end_reason.as_deref(), Some("closed"));
        assert!(account.has_flag("weak_id"));
        assert_eq!(account.nat_reply().destination, IpAddr::from([192, 0, 2, 1]));
    }

    #[test]
    fn records_after_the_end_and_falling_totals_are_noticed() {
        let lines = [line("end", 110, 110), line("info", 90, 0)];
        let records = Records::from_lines(lines.iter().map(String::as_str));
        let account = records.accounts().next().unwrap();
        assert_eq!((account.after_end, account.regressions), (1, 1));
    }

    #[test]
    fn a_line_that_is_no_record_is_kept_with_its_reason() {
        let records = Records::from_lines(["{\"x\":1}"]);
        assert_eq!((records.events, records.bad_lines.len()), (0, 1));
    }
}
