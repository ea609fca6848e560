//! `conntrack -L`: a second opinion on live flows, and a stand-in for an agent while none is at hand.

use std::net::IpAddr;

use anyhow::Result;
use serde_json::json;

use crate::key::{Counter, FlowKey, Totals, Tuple, protocol};
use crate::netns::Namespace;
use crate::records::Records;

/// One line of `conntrack -L`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// Namespace and original tuple.
    pub key: FlowKey,
    /// Its counters; zero where the kernel keeps none.
    pub totals: Totals,
    /// Tuple of the answering packets.
    pub reply: Tuple,
}

impl Entry {
    /// An entry without translation.
    #[must_use]
    pub fn new(key: FlowKey, totals: Totals) -> Self {
        Self { key, totals, reply: key.tuple.answer() }
    }
}

/// Lists the live flows of a namespace, IPv4 and IPv6. Listing also removes expired entries from the table.
///
/// # Errors
/// When `conntrack` fails.
pub fn list(namespace: &Namespace) -> Result<Vec<Entry>> {
    let mut entries = Vec::new();
    for family in ["ipv4", "ipv6"] {
        let text = namespace.exec("conntrack", &["-L", "-f", family, "-o", "extended"])?;
        entries.extend(text.lines().filter_map(|line| parse(namespace.inode(), line)));
    }
    Ok(entries)
}

/// Reads one line of `conntrack -L -o extended`. `None` when it is none.
#[must_use]
pub fn parse(netns: u32, line: &str) -> Option<Entry> {
    let mut words = line.split_whitespace();
    let _family = words.next()?;
    let _family_number = words.next()?;
    let _protocol_name = words.next()?;
    let protocol: u8 = words.next()?.parse().ok()?;
    let pairs: Vec<(&str, &str)> = words.filter_map(|word| word.split_once('=')).collect();
    let second = pairs.iter().skip(1).position(|(name, _)| *name == "src")? + 1;
    let (original, original_counter) = direction(protocol, pairs.get(..second)?)?;
    let (reply, reply_counter) = direction(protocol, pairs.get(second..)?)?;
    let totals = Totals { original: original_counter, reply: reply_counter };
    let zone =
        pairs.iter().find(|(name, _)| *name == "zone").map_or(Some(0), |(_, zone)| zone.parse().ok())?;
    Some(Entry { key: FlowKey { netns, zone, tuple: original }, totals, reply })
}

fn direction(protocol: u8, pairs: &[(&str, &str)]) -> Option<(Tuple, Counter)> {
    let text = |name: &str| pairs.iter().find(|(found, _)| *found == name).map(|(_, value)| *value);
    let number = |name: &str| text(name).and_then(|value| value.parse::<u16>().ok());
    let count = |name: &str| text(name).and_then(|value| value.parse::<u64>().ok()).unwrap_or_default();
    let source: IpAddr = text("src")?.parse().ok()?;
    let destination: IpAddr = text("dst")?.parse().ok()?;
    let (source_port, destination_port) = match protocol {
        protocol::ICMP | protocol::ICMPV6 => (number("id")?, number("type")? << 8 | number("code")?),
        // GRE prints its keys as srckey and dstkey; they are zero unless it is PPTP.
        _ => (number("sport").unwrap_or(0), number("dport").unwrap_or(0)),
    };
    let tuple = Tuple { protocol, source, destination, source_port, destination_port };
    Some((tuple, Counter { packets: count("packets"), bytes: count("bytes") }))
}

/// The entries as an agent would report them that sees each flow only at its end. Lets the generator, the ledger
/// and the comparator be tested without an agent.
#[must_use]
pub fn as_records(entries: &[Entry]) -> Records {
    let lines: Vec<String> = entries.iter().enumerate().map(|(id, entry)| end_record(id, entry)).collect();
    Records::from_lines(lines.iter().map(String::as_str))
}

fn end_record(id: usize, entry: &Entry) -> String {
    let Tuple { protocol, source, destination, source_port, destination_port } = entry.key.tuple;
    let Totals { original, reply } = entry.totals;
    let translated = entry.reply.answer();
    let is_icmp = matches!(protocol, protocol::ICMP | protocol::ICMPV6);
    let icmp = is_icmp
        .then(|| json!({"type": destination_port >> 8, "code": destination_port & 0xff, "id": source_port}));
    let side = |ip: IpAddr, port: u16, counter: Counter, nat: (IpAddr, u16)| {
        json!({"ip": ip, "port": port, "bytes": counter.bytes, "packets": counter.packets,
               "nat": {"ip": nat.0, "port": nat.1}})
    };
    json!({
        "@timestamp": "1970-01-01T00:00:00Z",
        "event": {"type": ["connection", "end"], "start": "1970-01-01T00:00:00Z"},
        "flow": {"id": id.to_string()},
        "network": {"iana_number": protocol.to_string()},
        "source": side(source, source_port, original, (translated.source, translated.source_port)),
        "destination":
            side(destination, destination_port, reply, (translated.destination, translated.destination_port)),
        "conntally": {"delta": {"source": original, "destination": reply},
                      "netns": {"inode": entry.key.netns}, "zone": entry.key.zone, "icmp": icmp}
    })
    .to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_with_counters_is_read() {
        let line = "ipv4     2 icmp     1 29 src=10.7.0.1 dst=10.7.0.2 type=8 code=0 id=14730 packets=2 bytes=168 \
                    src=10.7.0.2 dst=10.7.0.1 type=0 code=0 id=14730 packets=3 bytes=169 mark=0 use=1";
        let entry = parse(7, line).unwrap();
        assert_eq!(entry.key.tuple.source_port, 14730);
        assert_eq!(entry.key.tuple.destination_port, 8 << 8);
        assert_eq!(entry.totals.reply, Counter { packets: 3, bytes: 169 });
        assert_eq!(entry.reply, entry.key.tuple.answer());
    }

    #[test]
    fn a_translated_line_has_another_reply() {
        let line = "ipv4 2 tcp 6 117 TIME_WAIT src=10.0.0.1 dst=10.0.0.9 sport=4000 dport=80 packets=5 bytes=300 \
                    src=10.1.0.2 dst=10.0.0.9 sport=8080 dport=4001 packets=4 bytes=200 [ASSURED] mark=0 use=1";
        let entry = parse(7, line).unwrap();
        assert_eq!(entry.reply.source, IpAddr::from([10, 1, 0, 2]));
        assert_eq!((entry.reply.source_port, entry.reply.destination_port), (8080, 4001));
    }

    #[test]
    fn the_zone_is_part_of_the_name() {
        let line = "ipv4 2 udp 17 29 src=10.0.0.1 dst=10.0.0.9 sport=4000 dport=53 packets=5 bytes=300 [UNREPLIED] \
                    src=10.0.0.9 dst=10.0.0.1 sport=53 dport=4000 packets=0 bytes=0 mark=0 zone=2 use=1";
        assert_eq!(parse(7, line).unwrap().key.zone, 2);
        assert_eq!(parse(7, &line.replace("zone=2 ", "")).unwrap().key.zone, 0);
    }

    #[test]
    fn other_lines_are_passed_over() {
        assert_eq!(parse(7, "conntrack v1.4.7 (conntrack-tools): 2 flow entries have been shown."), None);
        assert_eq!(parse(7, ""), None);
    }

    #[test]
    fn what_conntrack_lists_can_play_the_agent() {
        let line = "ipv4 2 icmp 1 29 src=10.7.0.1 dst=10.7.0.2 type=8 code=0 id=5 packets=2 bytes=168 \
                    src=10.7.0.2 dst=10.7.0.1 type=0 code=0 id=5 packets=3 bytes=169 mark=0 use=1";
        let entry = parse(7, line).unwrap();
        let records = as_records(std::slice::from_ref(&entry));
        let account = records.accounts().next().unwrap();
        assert_eq!((account.key, account.totals, account.deltas), (entry.key, entry.totals, entry.totals));
    }
}
