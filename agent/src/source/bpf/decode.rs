//! Makes an observation of a kernel event.

use conntally_common::{Counter as KernelCounter, Event, EventFlags, EventKind, KernelTuple};

use super::end_reason;
use crate::kernel::bpf::is_selftest;
use crate::model::{Counter, Family, Observation, ObservationKind, Status, Totals, Tuple, protocol};

/// Appends the observation that an event stands for, unless it is of a self-test.
#[inline(always)]
pub(super) fn report(event: &Event, observations: &mut Vec<Observation>) {
    if !is_selftest(event) {
        observations.push(observation(event));
    }
}

/// The observation that an event stands for.
#[must_use]
#[inline(always)]
pub fn observation(event: &Event) -> Observation {
    let [original, reply] = event.tuples;
    let kind = match event.kind {
        EventKind::NEW => ObservationKind::New,
        EventKind::END => ObservationKind::End,
        EventKind::EXISTING => ObservationKind::Existing,
        _ => ObservationKind::Update,
    };
    Observation {
        kind,
        boot_ns: event.boot_ns,
        conntrack: event.conntrack,
        born_ns: event.born_ns,
        start_ns: event.start_ns,
        netns: event.netns,
        zone: event.zone,
        protocol_state: has_state(original.protocol).then_some(event.protocol_state),
        has_counters: event.flags & EventFlags::COUNTERS != 0,
        midlife: event.flags & EventFlags::MIDLIFE != 0,
        announced: event.flags & EventFlags::ANNOUNCED != 0,
        status: Status(event.status),
        mark: event.mark,
        labels: event.labels,
        original: tuple(&original),
        reply: tuple(&reply),
        totals: totals(&event.counters),
        end_reason: (kind == ObservationKind::End).then(|| end_reason::of(event)),
    }
}

const fn has_state(number: u8) -> bool {
    matches!(number, protocol::TCP | protocol::SCTP | protocol::DCCP)
}

fn totals([original, reply]: &[KernelCounter; 2]) -> Totals {
    let counter = |kernel: &KernelCounter| Counter { packets: kernel.packets, bytes: kernel.bytes };
    Totals { original: counter(original), reply: counter(reply) }
}

#[inline(always)]
fn tuple(kernel: &KernelTuple) -> Tuple {
    let is_v6 = i32::from(kernel.family) == libc::AF_INET6;
    // The kernel does not promise that the bytes behind an IPv4 address are zero.
    let mask = if is_v6 { u128::MAX } else { IPV4 };
    let address = |bytes: [u8; 16]| (u128::from_ne_bytes(bytes) & mask).to_ne_bytes();
    Tuple {
        family: if is_v6 { Family::V6 } else { Family::V4 },
        protocol: kernel.protocol,
        src: address(kernel.src),
        dst: address(kernel.dst),
        src_port: u16::from_be_bytes(kernel.src_port),
        dst_port: u16::from_be_bytes(kernel.dst_port),
    }
}

/// Where an IPv4 address stands.
const IPV4: u128 = u128::from_ne_bytes([0xFF, 0xFF, 0xFF, 0xFF, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]);

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    /// A UDP flow from 10.0.0.2:1000 to 10.0.0.1:53.
    pub(crate) fn event() -> Event {
        let mut event = zerocopy::FromZeros::new_zeroed();
        let Event { tuples: [original, reply], kind, .. } = &mut event;
        (original.src[..4]).copy_from_slice(&[10, 0, 0, 2]);
        (original.dst[..4]).copy_from_slice(&[10, 0, 0, 1]);
        (original.src_port, original.dst_port) = (1000u16.to_be_bytes(), 53u16.to_be_bytes());
        (original.family, original.protocol) = (2, protocol::UDP);
        (reply.src, reply.dst) = (original.dst, original.src);
        (reply.src_port, reply.dst_port) = (original.dst_port, original.src_port);
        (reply.family, reply.protocol, reply.direction) = (2, protocol::UDP, 1);
        *kind = EventKind::UPDATE;
        event
    }

    #[test]
    fn addresses_and_ports_come_in_host_terms() {
        let observation = observation(&event());
        assert_eq!(observation.original.source().to_string(), "10.0.0.2");
        assert_eq!((observation.original.src_port, observation.original.dst_port), (1000, 53));
        assert_eq!(observation.reply.source().to_string(), "10.0.0.1");
        assert_eq!(observation.protocol_state, None);
    }

    #[test]
    fn icmp_type_and_code_stand_where_the_port_is() {
        let mut event = event();
        event.tuples[0].protocol = protocol::ICMP;
        event.tuples[0].dst_port = [8, 0];
        assert_eq!(observation(&event).original.dst_port, 8 << 8);
    }

    #[test]
    fn what_lies_behind_an_ipv4_address_is_ignored() {
        let mut event = event();
        event.tuples[0].src[9] = 77;
        assert_eq!(observation(&event).original.src[9], 0);
    }
}
