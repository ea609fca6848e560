//! The words for the kernel's numbers: protocols, states, status bits.

use crate::model::{NatKind, Record, RecordFlags, RecordKind, Status, protocol};

/// Keyword of an IP protocol, lower case, as IANA has it; `None` for one without a common name.
///
/// <https://www.iana.org/assignments/protocol-numbers>
#[must_use]
pub const fn protocol_name(number: u8) -> Option<&'static str> {
    Some(match number {
        protocol::ICMP => "icmp",
        2 => "igmp",
        4 => "ipv4",
        protocol::TCP => "tcp",
        protocol::UDP => "udp",
        protocol::DCCP => "dccp",
        41 => "ipv6",
        46 => "rsvp",
        protocol::GRE => "gre",
        50 => "esp",
        51 => "ah",
        protocol::ICMPV6 => "ipv6-icmp",
        88 => "eigrp",
        89 => "ospf",
        94 => "ipip",
        103 => "pim",
        112 => "vrrp",
        115 => "l2tp",
        protocol::SCTP => "sctp",
        protocol::UDPLITE => "udplite",
        _ => return None,
    })
}

/// State of the protocol tracker: its field's name in records, and the kernel's name for it in lower case.
///
/// <https://github.com/torvalds/linux/blob/v6.12/include/uapi/linux/netfilter/nf_conntrack_tcp.h#L9>,
/// <https://github.com/torvalds/linux/blob/v6.12/include/uapi/linux/netfilter/nf_conntrack_sctp.h#L8>,
/// <https://github.com/torvalds/linux/blob/v6.12/include/linux/netfilter/nf_conntrack_dccp.h#L6>
#[must_use]
pub fn protocol_state(record: &Record) -> Option<(&'static str, &'static str)> {
    let (field, names): (_, &[&str]) = match record.original.protocol {
        protocol::TCP => ("tcp_state", &TCP_STATES),
        protocol::SCTP => ("sctp_state", &SCTP_STATES),
        protocol::DCCP => ("dccp_state", &DCCP_STATES),
        _ => return None,
    };
    Some((field, names.get(usize::from(record.protocol_state?))?))
}

const TCP_STATES: [&str; 10] = [
    "none",
    "syn_sent",
    "syn_recv",
    "established",
    "fin_wait",
    "close_wait",
    "last_ack",
    "time_wait",
    "close",
    "syn_sent2",
];

const SCTP_STATES: [&str; 9] = [
    "none",
    "closed",
    "cookie_wait",
    "cookie_echoed",
    "established",
    "shutdown_sent",
    "shutdown_recd",
    "shutdown_ack_sent",
    "heartbeat_sent",
];

const DCCP_STATES: [&str; 10] = [
    "none", "request", "respond", "partopen", "open", "closereq", "closing", "timewait", "ignore", "invalid",
];

/// The status bits that have names.
pub(crate) const STATUS_NAMED: u32 = Status::CONFIRMED
    | Status::EXPECTED
    | Status::SEEN_REPLY
    | Status::ASSURED
    | Status::SRC_NAT
    | Status::DST_NAT
    | Status::OFFLOAD
    | Status::HW_OFFLOAD;

/// The names of the status bits that are set.
pub fn status_names(status: Status) -> impl Iterator<Item = &'static str> {
    const NAMES: [(u32, &str); 8] = [
        (Status::CONFIRMED, "confirmed"),
        (Status::EXPECTED, "expected"),
        (Status::SEEN_REPLY, "replied"),
        (Status::ASSURED, "assured"),
        (Status::SRC_NAT, "snat"),
        (Status::DST_NAT, "dnat"),
        (Status::OFFLOAD, "offloaded"),
        (Status::HW_OFFLOAD, "hw_offloaded"),
    ];
    NAMES.into_iter().filter(move |&(bit, _)| status.has(bit)).map(|(_, name)| name)
}

/// The name of the flag of flows that were there before the agent.
pub const FIRST_SEEN_MIDLIFE: &str = "first_seen_midlife";

/// The name of the flag of flows of which nobody knows what they moved.
pub const NO_COUNTERS: &str = "no_counters";

/// The names of the flags that are set.
pub fn flag_names(flags: RecordFlags) -> impl Iterator<Item = &'static str> {
    let RecordFlags { first_seen_midlife, no_counters, weak_id, offloaded } = flags;
    [
        (first_seen_midlife, FIRST_SEEN_MIDLIFE),
        (no_counters, NO_COUNTERS),
        (weak_id, "weak_id"),
        (offloaded, "offloaded"),
    ]
    .into_iter()
    .filter(|&(set, _)| set)
    .map(|(_, name)| name)
}

/// The name of the kind of translation.
#[must_use]
pub const fn nat_name(nat: NatKind) -> &'static str {
    match nat {
        NatKind::None => "none",
        NatKind::Source => "snat",
        NatKind::Destination => "dnat",
        NatKind::Both => "both",
    }
}

/// The value in `event.type` for a kind of record.
#[must_use]
pub const fn event_type(kind: RecordKind) -> &'static str {
    match kind {
        RecordKind::New => "start",
        RecordKind::Update => "info",
        RecordKind::End => "end",
    }
}
