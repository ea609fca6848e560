//! The one record schema as JSON: ECS 8 names, one line a record, written without allocation.
//!
//! `source` is the opener of the flow, `destination` the answerer. Their counters are totals since the flow's
//! birth; what is new since the flow's previous record stands under `conntally.delta`. What is unknown is absent.

mod writer;

pub mod status;

#[cfg(test)]
mod tests;

use std::net::IpAddr;
use std::sync::Arc;

use self::writer::Writer;
use super::names::{event_type, flag_names, nat_name, protocol_name, protocol_state, status_names};
use crate::flow::CommunityId;
use crate::model::{Counter, Family, NatKind, Record, RecordKind};

/// Version of ECS whose names are used.
const ECS_VERSION: &str = "8.17.0";

/// Tells the name of a network namespace by its inode, if it has one.
pub type NetnsName = dyn Fn(u32) -> Option<Arc<str>> + Send + Sync;

/// What a record does not know itself.
pub struct EncodeContext {
    /// Name of this host.
    pub host: String,
    /// Names of network namespaces.
    pub netns_name: Box<NetnsName>,
}

/// Appends the record as one line, its newline included.
pub fn encode(record: &Record, context: &EncodeContext, out: &mut Vec<u8>) {
    let mut json = Writer::new(out);
    json.open('{');
    json.timestamp("@timestamp", record.observed_ns);
    json.raw(r#","ecs":{"version":""#);
    json.raw(ECS_VERSION);
    json.raw("\"}");
    event(&mut json, record);
    flow(&mut json, record);
    network(&mut json, record);
    let [source_nat, destination_nat] = translated(record);
    endpoint(
        &mut json,
        "source",
        record.original.source(),
        record.original.src_port,
        record.totals.original,
        source_nat,
        record,
    );
    endpoint(
        &mut json,
        "destination",
        record.original.destination(),
        record.original.dst_port,
        record.totals.reply,
        destination_nat,
        record,
    );
    related(&mut json, record);
    json.object("host");
    json.string("name", &context.host);
    json.close('}');
    conntally(&mut json, record, context);
    json.close('}');
    json.raw("\n");
}

fn event(json: &mut Writer, record: &Record) {
    json.raw(r#","event":{"kind":"event","category":["network"],"type":["connection",""#);
    json.raw(event_type(record.kind));
    json.raw(r#""],"action":"network_flow","dataset":"conntally.flow""#);
    json.timestamp("start", record.start_ns);
    json.timestamp("end", record.observed_ns);
    json.number("duration", record.duration_ns);
    json.close('}');
}

fn flow(json: &mut Writer, record: &Record) {
    json.object("flow");
    json.hex("id", &record.flow_id.0.to_be_bytes());
    json.boolean("final", record.kind == RecordKind::End);
    json.close('}');
}

fn network(json: &mut Writer, record: &Record) {
    json.object("network");
    json.string("type", if record.original.family == Family::V4 { "ipv4" } else { "ipv6" });
    if let Some(name) = protocol_name(record.original.protocol) {
        json.string("transport", name);
    }
    json.quoted_number("iana_number", record.original.protocol);
    json.ascii("community_id", CommunityId::of(&record.original).as_bytes());
    let (there, back) = (record.totals.original, record.totals.reply);
    let sum = Counter {
        packets: there.packets.saturating_add(back.packets),
        bytes: there.bytes.saturating_add(back.bytes),
    };
    counter(json, record, sum);
    json.close('}');
}

/// Bytes and packets, unless the kernel does not count them.
fn counter(json: &mut Writer, record: &Record, counter: Counter) {
    if !record.flags.no_counters {
        json.number("bytes", counter.bytes);
        json.number("packets", counter.packets);
    }
}

/// What source and destination are translated to.
fn translated(record: &Record) -> [Option<(IpAddr, u16)>; 2] {
    let source = matches!(record.nat, NatKind::Source | NatKind::Both);
    let destination = matches!(record.nat, NatKind::Destination | NatKind::Both);
    [
        source.then(|| (record.reply.destination(), record.reply.dst_port)),
        destination.then(|| (record.reply.source(), record.reply.src_port)),
    ]
}

fn endpoint(
    json: &mut Writer,
    name: &str,
    ip: IpAddr,
    port: u16,
    moved: Counter,
    nat: Option<(IpAddr, u16)>,
    record: &Record,
) {
    let address = |json: &mut Writer, ip, port| {
        json.address("ip", ip);
        if record.original.has_ports() {
            json.number("port", u64::from(port));
        }
    };
    json.object(name);
    address(json, ip, port);
    counter(json, record, moved);
    if let Some((ip, port)) = nat {
        json.object("nat");
        address(json, ip, port);
        json.close('}');
    }
    json.close('}');
}

/// All addresses of the flow, each once.
fn related(json: &mut Writer, record: &Record) {
    let [source, destination] = translated(record).map(|nat| nat.map(|(ip, _)| ip));
    let all = [Some(record.original.source()), Some(record.original.destination()), source, destination];
    json.object("related");
    json.array("ip");
    for (position, ip) in all.iter().enumerate() {
        let is_first_mention = !all.iter().take(position).any(|earlier| earlier == ip);
        if let (Some(ip), true) = (ip, is_first_mention) {
            json.address_item(*ip);
        }
    }
    json.close(']');
    json.close('}');
}

fn conntally(json: &mut Writer, record: &Record, context: &EncodeContext) {
    json.object("conntally");
    delta(json, record);
    if let Some(last) = record.last_moved_ns {
        json.timestamp("last", last);
    }
    json.names("status", status_names(record.status));
    if let Some((field, state)) = protocol_state(record) {
        json.string(field, state);
    }
    icmp(json, record);
    if let Some(reason) = record.end_reason {
        json.string("end_reason", reason.name());
    }
    json.string("nat", nat_name(record.nat));
    json.number("mark", u64::from(record.mark));
    if record.labels != [0; 16] {
        json.hex("labels", &record.labels);
    }
    json.number("zone", u64::from(record.zone));
    json.object("netns");
    json.number("inode", u64::from(record.netns));
    if let Some(name) = (context.netns_name)(record.netns) {
        json.string("name", &name);
    }
    json.close('}');
    json.names("flags", flag_names(record.flags));
    json.close('}');
}

fn delta(json: &mut Writer, record: &Record) {
    if record.flags.no_counters {
        return;
    }
    json.object("delta");
    for (name, moved) in [("source", record.delta.original), ("destination", record.delta.reply)] {
        json.object(name);
        counter(json, record, moved);
        json.close('}');
    }
    json.close('}');
}

fn icmp(json: &mut Writer, record: &Record) {
    if record.original.is_icmp() {
        let [kind, code] = record.original.dst_port.to_be_bytes();
        json.object("icmp");
        json.number("type", u64::from(kind));
        json.number("code", u64::from(code));
        json.number("id", u64::from(record.original.src_port));
        json.close('}');
    }
}
