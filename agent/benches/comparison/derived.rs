//! The same line as one would write it without an encoder of one's own: structs with a derived `Serialize`.
//!
//! What is not JSON (calendar, Community ID, names) is the agent's own code here too. The encoder is given batches, of
//! which it makes several Community IDs at once and each second's date but once; one who writes line by line cannot.

use std::{net::IpAddr, sync::Arc};

use anyhow::Result;
use conntally::{
    flow::CommunityId,
    model::{Counter, Family, NatKind, Record, RecordKind},
    sinks::{
        json::EncodeContext,
        names::{event_type, flag_names, nat_name, protocol_name, protocol_state, status_names},
        time::rfc3339,
    },
};
use serde::Serialize;

#[derive(Serialize)]
struct Line<'a> {
    #[serde(rename = "@timestamp")]
    timestamp: &'a str,
    ecs: Ecs,
    event: Event<'a>,
    flow: Flow,
    network: Network<'a>,
    source: Endpoint,
    destination: Endpoint,
    related: Related,
    host: Host<'a>,
    conntally: Conntally<'a>,
}

#[derive(Serialize)]
struct Ecs {
    version: &'static str,
}

#[derive(Serialize)]
struct Event<'a> {
    kind: &'static str,
    category: [&'static str; 1],
    r#type: [&'static str; 2],
    action: &'static str,
    dataset: &'static str,
    start: &'a str,
    end: &'a str,
    duration: u64,
}

#[derive(Serialize)]
struct Flow {
    id: String,
    r#final: bool,
}

#[derive(Serialize)]
struct Network<'a> {
    r#type: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    transport: Option<&'static str>,
    iana_number: String,
    community_id: &'a str,
    bytes: u64,
    packets: u64,
}

#[derive(Serialize)]
struct Endpoint {
    ip: IpAddr,
    port: u16,
    bytes: u64,
    packets: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    nat: Option<Nat>,
}

#[derive(Serialize)]
struct Nat {
    ip: IpAddr,
    port: u16,
}

#[derive(Serialize)]
struct Related {
    ip: Vec<IpAddr>,
}

#[derive(Serialize)]
struct Host<'a> {
    name: &'a str,
}

#[derive(Serialize)]
struct Conntally<'a> {
    delta: Delta,
    #[serde(skip_serializing_if = "Option::is_none")]
    last: Option<&'a str>,
    status: Vec<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    tcp_state: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    end_reason: Option<&'static str>,
    nat: &'static str,
    mark: u32,
    zone: u16,
    netns: Netns,
    flags: Vec<&'static str>,
}

#[derive(Serialize)]
struct Delta {
    source: Moved,
    destination: Moved,
}

#[derive(Serialize)]
struct Moved {
    bytes: u64,
    packets: u64,
}

#[derive(Serialize)]
struct Netns {
    inode: u32,
    #[serde(skip_serializing_if = "Option::is_none")]
    name: Option<Arc<str>>,
}

/// Appends the record as one line. Knows what the sample records have: ports, counters, no labels.
///
/// # Errors
/// When serde_json has one.
pub(crate) fn encode(record: &Record, context: &EncodeContext, out: &mut Vec<u8>) -> Result<()> {
    let moments = [Some(record.observed_ns), Some(record.start_ns), record.last_moved_ns];
    let [observed, start, last] = moments.map(|moment| moment.map(rfc3339));
    let (observed, start, last) = (text(&observed)?, text(&start)?, text(&last)?);
    let community_id = CommunityId::of(&record.original);
    let line = Line {
        timestamp: observed.unwrap_or_default(),
        ecs: Ecs { version: "8.17.0" },
        event: Event {
            kind: "event",
            category: ["network"],
            r#type: ["connection", event_type(record.kind)],
            action: "network_flow",
            dataset: "conntally.flow",
            start: start.unwrap_or_default(),
            end: observed.unwrap_or_default(),
            duration: record.duration_ns,
        },
        flow: Flow { id: record.flow_id.to_string(), r#final: record.kind == RecordKind::End },
        network: network(record, std::str::from_utf8(community_id.as_bytes())?),
        source: source(record),
        destination: destination(record),
        related: related(record),
        host: Host { name: &context.host },
        conntally: conntally(record, context, last),
    };
    serde_json::to_writer(&mut *out, &line)?;
    out.push(b'\n');
    Ok(())
}

fn text(moment: &Option<[u8; 30]>) -> Result<Option<&str>> {
    Ok(moment.as_ref().map(|text| std::str::from_utf8(text)).transpose()?)
}

fn network<'a>(record: &Record, community_id: &'a str) -> Network<'a> {
    let (there, back) = (record.totals.original, record.totals.reply);
    Network {
        r#type: if record.original.family == Family::V4 { "ipv4" } else { "ipv6" },
        transport: protocol_name(record.original.protocol),
        iana_number: record.original.protocol.to_string(),
        community_id,
        bytes: there.bytes + back.bytes,
        packets: there.packets + back.packets,
    }
}

fn source(record: &Record) -> Endpoint {
    let Counter { packets, bytes } = record.totals.original;
    let is_translated = matches!(record.nat, NatKind::Source | NatKind::Both);
    let nat = Nat { ip: record.reply.destination(), port: record.reply.dst_port };
    Endpoint {
        ip: record.original.source(),
        port: record.original.src_port,
        bytes,
        packets,
        nat: is_translated.then_some(nat),
    }
}

fn destination(record: &Record) -> Endpoint {
    let Counter { packets, bytes } = record.totals.reply;
    let is_translated = matches!(record.nat, NatKind::Destination | NatKind::Both);
    let nat = Nat { ip: record.reply.source(), port: record.reply.src_port };
    Endpoint {
        ip: record.original.destination(),
        port: record.original.dst_port,
        bytes,
        packets,
        nat: is_translated.then_some(nat),
    }
}

fn related(record: &Record) -> Related {
    let (source, destination) = (source(record), destination(record));
    let mut ip = vec![source.ip, destination.ip];
    for nat in [source.nat, destination.nat].into_iter().flatten() {
        if !ip.contains(&nat.ip) {
            ip.push(nat.ip);
        }
    }
    Related { ip }
}

fn conntally<'a>(record: &Record, context: &EncodeContext, last: Option<&'a str>) -> Conntally<'a> {
    let moved = |counter: Counter| Moved { bytes: counter.bytes, packets: counter.packets };
    Conntally {
        delta: Delta { source: moved(record.delta.original), destination: moved(record.delta.reply) },
        last,
        status: status_names(record.status).collect(),
        tcp_state: protocol_state(record).map(|(_, state)| state),
        end_reason: record.end_reason.map(|reason| reason.name()),
        nat: nat_name(record.nat),
        mark: record.mark,
        zone: record.zone,
        netns: Netns { inode: record.netns, name: (context.netns_name)(record.netns) },
        flags: flag_names(record.flags).collect(),
    }
}
