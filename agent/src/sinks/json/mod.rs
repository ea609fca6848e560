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

use super::draft::{Draft, Line, Mention, Said};
use super::names::{STATUS_NAMED, flag_names, nat_name, protocol_name, protocol_state, status_names};
use super::time::Calendar;
use crate::flow::community_id::{self, CommunityId};
use crate::model::{
    Counter, EndReason, Family, NatKind, Record, RecordFlags, RecordKind, Status, Totals, Tuple, protocol,
};
use crate::pipeline::Networks;

/// Tells the name of a network namespace by its inode, if it has one.
pub type NetnsName = dyn Fn(u32) -> Option<Arc<str>> + Send + Sync;

/// What a record does not know itself.
pub struct EncodeContext {
    /// Name of this host.
    pub host: String,
    /// Names of network namespaces.
    pub netns_name: Box<NetnsName>,
    /// Names of networks.
    pub networks: Arc<Networks>,
}

/// Which figures stand in `source.*`, `destination.*` and `network.*`, which readers sum.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Counters {
    /// Totals since the flow's birth; what is new stands under `conntally.delta`. For ends.
    #[default]
    Total,
    /// What is new since the flow's previous record; totals stand under `conntally.total`. For updates.
    Delta,
}

/// Writes records as lines.
pub struct Encoder {
    context: EncodeContext,
    draft: Box<Draft>,
    calendars: Calendars,
    /// What is said of the host, as it stands in each line.
    host: Said,
    netns: Netns,
    /// Of the records that are encoded together.
    ids: [CommunityId; community_id::TOGETHER],
}

/// One for the moments of records, which follow each other, and one for the moments before them.
struct Calendars {
    now: Calendar,
    before: Calendar,
}

impl Encoder {
    /// Writes by this context.
    #[must_use]
    pub fn new(context: EncodeContext) -> Self {
        let (mut draft, mut host) = (Box::<Draft>::default(), Vec::new());
        let mut json = Line::new(&mut draft, &mut host);
        json.raw(r#"]},"host":{"name":""#);
        json.escaped(&context.host);
        json.raw(r#""},"conntally":{"#);
        json.finish();
        Self {
            context,
            draft,
            calendars: Calendars { now: Calendar::new(), before: Calendar::new() },
            host: Said::new(&host),
            netns: Netns::default(),
            ids: Default::default(),
        }
    }

    /// Appends each of the records as one line, its newline included. Many at once are cheaper than each alone.
    pub fn encode(&mut self, records: &[Record], out: &mut Vec<u8>) {
        self.encode_documents(records, Counters::Total, out, |json, _| json.raw("{"), |_| {});
    }

    /// The same where a line is part of something: `begin` writes all that stands before the schema's first field,
    /// `ended` is told how long the buffer is then.
    #[inline(always)]
    pub(super) fn encode_documents(
        &mut self,
        records: &[Record],
        counters: Counters,
        out: &mut Vec<u8>,
        begin: impl Fn(&mut Line<'_>, &Record),
        mut ended: impl FnMut(usize),
    ) {
        let Self { context, draft, calendars, host, netns, ids } = self;
        // Its name may have changed since the last time.
        netns.said.set(b"");
        for together in records.chunks(community_id::TOGETHER) {
            community_id::of_each(together.iter().map(|record| &record.original), ids);
            for (record, id) in together.iter().zip(&*ids) {
                if netns.said.is_empty() || netns.inode != record.netns {
                    netns.turn_to(record.netns, context, draft);
                }
                let mut json = Line::new(draft, out);
                begin(&mut json, record);
                let common = Common { host, netns: &netns.said, networks: &context.networks };
                document(json, calendars, (record, Figures::of(record, counters)), id, &common);
                ended(out.len());
            }
        }
    }
}

/// The namespace of the record before, and what is said of it.
#[derive(Default)]
struct Netns {
    inode: u32,
    /// Memory for its text.
    text: Vec<u8>,
    said: Said,
}

impl Netns {
    fn turn_to(&mut self, inode: u32, context: &EncodeContext, draft: &mut Draft) {
        self.inode = inode;
        self.text.clear();
        let mut json = Line::new(draft, &mut self.text);
        json.number(r#""netns":{"inode":"#, inode.into());
        if let Some(name) = (context.netns_name)(inode) {
            json.raw(r#","name":""#);
            json.escaped(&name);
            json.raw("\"");
        }
        json.raw("}");
        json.finish();
        self.said.set(&self.text);
    }
}

/// What records have in common.
struct Common<'a> {
    host: &'a Said,
    netns: &'a Said,
    networks: &'a Networks,
}

/// What readers sum, and what stands beside it.
#[derive(Clone, Copy)]
struct Figures<'a> {
    summed: &'a Totals,
    other: &'a Totals,
    /// The key of the other one.
    key: &'static str,
}

impl<'a> Figures<'a> {
    #[inline(always)]
    const fn of(record: &'a Record, counters: Counters) -> Self {
        let Record { totals, delta, .. } = record;
        match counters {
            Counters::Total => Self { summed: totals, other: delta, key: r#""delta""# },
            Counters::Delta => Self { summed: delta, other: totals, key: r#""total""# },
        }
    }
}

/// All from the schema's first field on.
#[inline(always)]
fn document(
    mut json: Line<'_>,
    calendars: &mut Calendars,
    (record, figures): (&Record, Figures<'_>),
    id: &CommunityId,
    common: &Common<'_>,
) {
    event(&mut json, calendars, record);
    flow(&mut json, record);
    network(&mut json, record, figures.summed, id);
    if common.networks.has_internal() {
        json = direction(json, record, common.networks);
    }
    let mentions = endpoints(&mut json, record, figures.summed);
    related(&mut json, mentions);
    json.said(common.host);
    other(&mut json, record, figures);
    last_seen(&mut json, calendars, record);
    place(&mut json, record);
    json.said(common.netns);
    if !common.networks.is_empty() {
        json = named(json, record, common.networks);
    }
    flags(&mut json, record.flags);
    json.finish();
}

/// Which way the flow goes, as seen from the internal networks. It takes the writer and gives it back, here and below:
/// where a writer that is only lent to another function has got to would be in memory, and not in a register.
#[inline(never)]
fn direction<'a>(mut json: Line<'a>, record: &Record, networks: &Networks) -> Line<'a> {
    if let Some(direction) = networks.direction(&record.original, &record.reply) {
        json.raw(r#","direction":""#);
        json.text(direction.name().as_bytes());
        json.raw("\"");
    }
    json
}

/// The networks that the two ends are in.
#[inline(never)]
fn named<'a>(mut json: Line<'a>, record: &Record, networks: &Networks) -> Line<'a> {
    let Tuple { family, src, dst, .. } = record.original;
    let find = |address| networks.network(networks.locate(family, address)?);
    let ends = [(r#""source":""#, find(src)), (r#""destination":""#, find(dst))];
    let mut before = r#","network":{"#;
    for (key, network) in ends {
        let Some(network) = network else { continue };
        json.raw(before);
        json.raw(key);
        json.escaped(&network.name);
        json.raw("\"");
        before = ",";
    }
    if before == "," {
        json.raw("}");
    }
    json
}

#[inline(always)]
fn flags(json: &mut Line<'_>, flags: RecordFlags) {
    if flags == RecordFlags::default() {
        return json.raw(",\"flags\":[]}}\n");
    }
    json.raw(r#","flags":["#);
    json.quoted(flag_names(flags));
    json.raw("]}}\n");
}

/// The version of the Elastic Common Schema whose names are used.
macro_rules! ecs_version {
    () => {
        "8.17.0"
    };
}

pub(crate) const ECS_VERSION: &str = ecs_version!();

/// What stands between the first two moments of a line, but for the type of event in the middle.
const HAPPENED: &str = concat!(
    r#"","ecs":{"version":""#,
    ecs_version!(),
    r#""},"event":{"kind":"event","category":["network"],"type":["connection",""#,
);
const ACTION: &str = r#""],"action":"network_flow","dataset":"conntally.flow","start":""#;

/// The moment, the schema's version and what happened.
#[inline(always)]
fn event(json: &mut Line<'_>, calendars: &mut Calendars, record: &Record) {
    json.raw(r#""@timestamp":""#);
    let observed = json.moment(&mut calendars.now, record.observed_ns);
    json.raw(HAPPENED);
    // Each by itself, so that its length is known.
    match record.kind {
        RecordKind::New => json.raw("start"),
        RecordKind::Update => json.raw("info"),
        RecordKind::End => json.raw("end"),
    }
    json.raw(ACTION);
    json.moment(&mut calendars.before, record.start_ns);
    json.raw(r#"","end":""#);
    json.again(observed);
    json.number(r#"","duration":"#, record.duration_ns);
}

#[inline(always)]
fn flow(json: &mut Line<'_>, record: &Record) {
    json.raw(r#"},"flow":{"id":""#);
    json.hex(record.flow_id.0);
    if record.kind == RecordKind::End {
        json.raw(r#"","final":true"#);
    } else {
        json.raw(r#"","final":false"#);
    }
}

#[inline(always)]
fn network(json: &mut Line<'_>, record: &Record, totals: &Totals, id: &CommunityId) {
    network_protocol(json, record.original.family, record.original.protocol);
    json.ascii(id.as_bytes());
    json.raw("\"");
    let (there, back) = (totals.original, totals.reply);
    let sum = Counter {
        packets: there.packets.saturating_add(back.packets),
        bytes: there.bytes.saturating_add(back.bytes),
    };
    counter(json, record, sum);
}

/// Family and protocol; what nearly all flows have is said in one go.
#[inline(always)]
fn network_protocol(json: &mut Line<'_>, family: Family, number: u8) {
    match (family, number) {
        (Family::V4, protocol::TCP) => {
            json.raw(r#"},"network":{"type":"ipv4","transport":"tcp","iana_number":"6","community_id":""#);
        }
        (Family::V4, protocol::UDP) => {
            json.raw(r#"},"network":{"type":"ipv4","transport":"udp","iana_number":"17","community_id":""#);
        }
        (family, number) => {
            json.raw(r#"},"network":{"type":""#);
            json.ascii(if family == Family::V4 { b"ipv4\"" } else { b"ipv6\"" });
            if let Some(name) = protocol_name(number) {
                json.raw(r#","transport":""#);
                json.text(name.as_bytes());
                json.raw("\"");
            }
            json.number(r#","iana_number":""#, number.into());
            json.raw(r#"","community_id":""#);
        }
    }
}

/// Bytes and packets, unless the kernel does not count them.
#[inline(always)]
fn counter(json: &mut Line<'_>, record: &Record, counter: Counter) {
    if record.flags.no_counters {
        return;
    }
    if counter == Counter::default() {
        return json.raw(r#","bytes":0,"packets":0"#);
    }
    json.number(r#","bytes":"#, counter.bytes);
    json.number(r#","packets":"#, counter.packets);
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

/// An address of the flow and where it stands in the line.
type Address = (IpAddr, Mention);

/// The addresses of source and destination, and what they are translated to.
type Mentions = (Address, Address, [Option<Address>; 2]);

/// Source and destination.
#[inline(always)]
fn endpoints(json: &mut Line<'_>, record: &Record, totals: &Totals) -> Mentions {
    let original = &record.original;
    let [source_nat, destination_nat] = translated(record);
    json.raw(r#"},"source":{"ip":""#);
    let source = endpoint(json, record, (original.source(), original.src_port), totals.original, source_nat);
    json.raw(r#"},"destination":{"ip":""#);
    let destination =
        endpoint(json, record, (original.destination(), original.dst_port), totals.reply, destination_nat);
    (source.0, destination.0, [source.1, destination.1])
}

#[inline(always)]
fn endpoint(
    json: &mut Line<'_>,
    record: &Record,
    (ip, port): (IpAddr, u16),
    moved: Counter,
    nat: Option<(IpAddr, u16)>,
) -> (Address, Option<Address>) {
    let mention = address(json, record, ip, port);
    counter(json, record, moved);
    let Some((ip, port)) = nat else { return (mention, None) };
    json.raw(r#","nat":{"ip":""#);
    let translated = address(json, record, ip, port);
    json.raw("}");
    (mention, Some(translated))
}

#[inline(always)]
fn address(json: &mut Line<'_>, record: &Record, ip: IpAddr, port: u16) -> Address {
    let mention = json.address(ip);
    json.raw("\"");
    if record.original.has_ports() {
        json.number(r#","port":"#, u64::from(port));
    }
    (ip, mention)
}

/// All addresses of the flow, each once.
#[inline(always)]
fn related(json: &mut Line<'_>, (source, destination, translated): Mentions) {
    json.raw(r#"},"related":{"ip":[""#);
    json.again(source.1);
    if destination.0 != source.0 {
        json.raw(r#"",""#);
        json.again(destination.1);
    }
    let mut said = None;
    for (ip, mention) in translated.into_iter().flatten() {
        if ip != source.0 && ip != destination.0 && said != Some(ip) {
            json.raw(r#"",""#);
            json.again(mention);
            said = Some(ip);
        }
    }
    json.raw("\"");
}

/// What is new since the flow's previous record, or its totals.
#[inline(always)]
fn other(json: &mut Line<'_>, record: &Record, Figures { other, key, .. }: Figures<'_>) {
    if record.flags.no_counters {
        return;
    }
    json.raw(key);
    let (there, back) = (other.original, other.reply);
    if there == Counter::default() {
        json.raw(r#":{"source":{"bytes":0,"packets":0"#);
    } else {
        json.number(r#":{"source":{"bytes":"#, there.bytes);
        json.number(r#","packets":"#, there.packets);
    }
    if back == Counter::default() {
        return json.raw(r#"},"destination":{"bytes":0,"packets":0}},"#);
    }
    json.number(r#"},"destination":{"bytes":"#, back.bytes);
    json.number(r#","packets":"#, back.packets);
    json.raw("}},");
}

/// What is known of the flow by this record: activity, state, end.
#[inline(always)]
fn last_seen(json: &mut Line<'_>, calendars: &mut Calendars, record: &Record) {
    if let Some(last) = record.last_moved_ns {
        json.raw(r#""last":""#);
        // Not what the line has already: that may have been handed out with a long name of the host.
        let is_now = last == record.observed_ns;
        json.moment(if is_now { &mut calendars.now } else { &mut calendars.before }, last);
        json.raw(r#"","#);
    }
    json.raw(r#""status":["#);
    status(json, record.status);
    state(json, record);
    icmp(json, record);
    match record.end_reason {
        None => {}
        Some(EndReason::Timeout) => json.raw(r#","end_reason":"timeout""#),
        Some(EndReason::Closed) => json.raw(r#","end_reason":"closed""#),
        Some(reason) => {
            json.raw(r#","end_reason":""#);
            json.text(reason.name().as_bytes());
            json.raw("\"");
        }
    }
}

#[inline(always)]
fn state(json: &mut Line<'_>, record: &Record) {
    let Some((field, state)) = protocol_state(record) else { return };
    if record.original.protocol == protocol::TCP {
        json.raw(r#","tcp_state":""#);
    } else {
        json.raw(",\"");
        json.text(field.as_bytes());
        json.raw(r#"":""#);
    }
    json.text(state.as_bytes());
    json.raw("\"");
}

/// The names of the status bits; what nearly all flows have is said in one go.
#[inline(always)]
fn status(json: &mut Line<'_>, status: Status) {
    const SEEN: u32 = Status::CONFIRMED | Status::SEEN_REPLY;
    const ASSURED: u32 = SEEN | Status::ASSURED;
    match status.0 & STATUS_NAMED {
        Status::CONFIRMED => json.raw(r#""confirmed"]"#),
        SEEN => json.raw(r#""confirmed","replied"]"#),
        ASSURED => json.raw(r#""confirmed","replied","assured"]"#),
        _ => {
            json.quoted(status_names(status));
            json.raw("]");
        }
    }
}

#[inline(always)]
fn icmp(json: &mut Line<'_>, record: &Record) {
    if record.original.is_icmp() {
        let [kind, code] = record.original.dst_port.to_be_bytes();
        json.number(r#","icmp":{"type":"#, u64::from(kind));
        json.number(r#","code":"#, u64::from(code));
        json.number(r#","id":"#, u64::from(record.original.src_port));
        json.raw("}");
    }
}

/// How the kernel has marked the flow.
#[inline(always)]
fn place(json: &mut Line<'_>, record: &Record) {
    let is_plain = record.mark == 0 && record.zone == 0 && record.labels == [0; 16];
    match record.nat {
        NatKind::None if is_plain => json.raw(r#","nat":"none","mark":0,"zone":0,"#),
        NatKind::Source if is_plain => json.raw(r#","nat":"snat","mark":0,"zone":0,"#),
        _ => marks(json, record),
    }
}

#[inline(always)]
fn marks(json: &mut Line<'_>, record: &Record) {
    json.raw(r#","nat":""#);
    json.text(nat_name(record.nat).as_bytes());
    json.number(r#"","mark":"#, u64::from(record.mark));
    if record.labels != [0; 16] {
        json.raw(r#","labels":""#);
        json.hex(u128::from_be_bytes(record.labels));
        json.raw("\"");
    }
    json.number(r#","zone":"#, u64::from(record.zone));
    json.raw(",");
}
