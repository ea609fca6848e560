//! From the attributes of a message to a flow.

use super::{ConntrackMessage, MESSAGE_DELETE, tuple};
use crate::{
    kernel::netlink::{
        attribute::{Attribute, Malformed},
        message::Message,
    },
    model::{Counter, Status, Totals},
};

const CTA_TUPLE_ORIG: u16 = 1;
const CTA_TUPLE_REPLY: u16 = 2;
const CTA_STATUS: u16 = 3;
const CTA_PROTOINFO: u16 = 4;
const CTA_TIMEOUT: u16 = 7;
const CTA_MARK: u16 = 8;
const CTA_COUNTERS_ORIG: u16 = 9;
const CTA_COUNTERS_REPLY: u16 = 10;
const CTA_ID: u16 = 12;
const CTA_ZONE: u16 = 18;
const CTA_TIMESTAMP: u16 = 20;
const CTA_LABELS: u16 = 22;

const CTA_COUNTERS_PACKETS: u16 = 1;
const CTA_COUNTERS_BYTES: u16 = 2;

const CTA_TIMESTAMP_START: u16 = 1;
const CTA_TIMESTAMP_STOP: u16 = 2;

/// The state is the first attribute of `CTA_PROTOINFO_TCP`, `_DCCP` and `_SCTP` alike.
const CTA_PROTOINFO_STATE: u16 = 1;

/// Reads a message of kind [`super::MESSAGE_NEW`] or [`MESSAGE_DELETE`]. Attributes that it does not know are
/// passed over.
///
/// # Errors
/// Names the attribute that is truncated, has the wrong size, or is missing.
pub fn decode(message: &Message<'_>) -> Result<ConntrackMessage, Malformed> {
    let mut flow = ConntrackMessage {
        destroyed: message.kind == MESSAGE_DELETE,
        requested_by: message.port,
        ..ConntrackMessage::default()
    };
    let (mut original, mut reply) = (None, None);
    for attribute in message.netfilter_attributes("conntrack message")? {
        let attribute = attribute?;
        match attribute.kind {
            CTA_TUPLE_ORIG => original = Some(tuple::decode(&attribute, "CTA_TUPLE_ORIG")?),
            CTA_TUPLE_REPLY => reply = Some(tuple::decode(&attribute, "CTA_TUPLE_REPLY")?),
            _ => property(&attribute, &mut flow)?,
        }
    }
    let (original, original_zone) = original.ok_or(Malformed::Missing { place: "CTA_TUPLE_ORIG" })?;
    let (reply, reply_zone) = reply.ok_or(Malformed::Missing { place: "CTA_TUPLE_REPLY" })?;
    (flow.original, flow.reply) = (original, reply);
    // A zone that holds for one direction only stands inside that tuple; it is the entry's zone all the same.
    flow.zone = original_zone.or(reply_zone).unwrap_or(flow.zone);
    Ok(flow)
}

/// Everything but the tuples.
fn property(attribute: &Attribute<'_>, flow: &mut ConntrackMessage) -> Result<(), Malformed> {
    match attribute.kind {
        CTA_STATUS => flow.status = Status(attribute.u32("CTA_STATUS")?),
        CTA_PROTOINFO => flow.protocol_state = protocol_state(attribute)?,
        CTA_TIMEOUT => flow.timeout = Some(attribute.u32("CTA_TIMEOUT")?),
        CTA_MARK => flow.mark = attribute.u32("CTA_MARK")?,
        CTA_COUNTERS_ORIG => totals(flow).original = counter(attribute, "CTA_COUNTERS_ORIG")?,
        CTA_COUNTERS_REPLY => totals(flow).reply = counter(attribute, "CTA_COUNTERS_REPLY")?,
        CTA_ID => flow.id = attribute.u32("CTA_ID")?,
        CTA_ZONE => flow.zone = attribute.u16("CTA_ZONE")?,
        CTA_TIMESTAMP => timestamps(attribute, flow)?,
        CTA_LABELS => flow.labels = attribute.array("CTA_LABELS")?,
        _ => {}
    }
    Ok(())
}

fn totals(flow: &mut ConntrackMessage) -> &mut Totals {
    flow.counters.get_or_insert_default()
}

fn counter(attribute: &Attribute<'_>, place: &'static str) -> Result<Counter, Malformed> {
    let (mut packets, mut bytes) = (None, None);
    for part in attribute.nested(place) {
        let part = part?;
        match part.kind {
            CTA_COUNTERS_PACKETS => packets = Some(part.u64("CTA_COUNTERS_PACKETS")?),
            CTA_COUNTERS_BYTES => bytes = Some(part.u64("CTA_COUNTERS_BYTES")?),
            _ => {}
        }
    }
    Ok(Counter {
        packets: packets.ok_or(Malformed::Missing { place: "CTA_COUNTERS_PACKETS" })?,
        bytes: bytes.ok_or(Malformed::Missing { place: "CTA_COUNTERS_BYTES" })?,
    })
}

fn timestamps(attribute: &Attribute<'_>, flow: &mut ConntrackMessage) -> Result<(), Malformed> {
    for part in attribute.nested("CTA_TIMESTAMP") {
        let part = part?;
        match part.kind {
            CTA_TIMESTAMP_START => flow.start_ns = part.u64("CTA_TIMESTAMP_START")?,
            CTA_TIMESTAMP_STOP => flow.stop_ns = part.u64("CTA_TIMESTAMP_STOP")?,
            _ => {}
        }
    }
    Ok(())
}

fn protocol_state(attribute: &Attribute<'_>) -> Result<Option<u8>, Malformed> {
    let Some(protocol) = attribute.nested("CTA_PROTOINFO").next().transpose()? else { return Ok(None) };
    for part in protocol.nested("CTA_PROTOINFO") {
        let part = part?;
        if part.kind == CTA_PROTOINFO_STATE {
            return part.u8("CTA_PROTOINFO_STATE").map(Some);
        }
    }
    Ok(None)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::{super::MESSAGE_NEW, *};
    use crate::{
        kernel::netlink::message::{HEADER, Header, Messages, Writer},
        model::{Family, Tuple, protocol},
    };

    fn address_parts(w: &mut Writer, tuple: &Tuple) {
        w.nested(1, |w| match tuple.family {
            Family::V4 => {
                w.attribute(1, &tuple.src[..4]);
                w.attribute(2, &tuple.dst[..4]);
            }
            Family::V6 => {
                w.attribute(3, &tuple.src);
                w.attribute(4, &tuple.dst);
            }
        });
    }

    fn port_parts(w: &mut Writer, tuple: &Tuple) {
        w.nested(2, |w| {
            w.attribute(1, &[tuple.protocol]);
            let first = match tuple.protocol {
                protocol::ICMP => 4,
                protocol::ICMPV6 => 7,
                _ => {
                    w.attribute(2, &tuple.src_port.to_be_bytes());
                    w.attribute(3, &tuple.dst_port.to_be_bytes());
                    return;
                }
            };
            let [kind, code] = tuple.dst_port.to_be_bytes();
            w.attribute(first, &tuple.src_port.to_be_bytes());
            w.attribute(first + 1, &[kind]);
            w.attribute(first + 2, &[code]);
        });
    }

    /// A message as the kernel writes it.
    fn encode(flow: &ConntrackMessage) -> Vec<u8> {
        let mut writer = Writer::default();
        let kind = if flow.destroyed { MESSAGE_DELETE } else { MESSAGE_NEW };
        let header = Header { kind, flags: 0, sequence: 0, family: 2, resource: 0 };
        writer.message(header, |w| {
            for (kind, tuple) in [(1, &flow.original), (2, &flow.reply)] {
                w.nested(kind, |w| {
                    address_parts(w, tuple);
                    port_parts(w, tuple);
                });
            }
            w.u32(3, flow.status.0);
            if let Some(state) = flow.protocol_state {
                w.nested(4, |w| w.nested(1, |w| w.attribute(1, &[state])));
            }
            if let Some(timeout) = flow.timeout {
                w.u32(7, timeout);
            }
            w.u32(8, flow.mark);
            if let Some(totals) = flow.counters {
                for (kind, counter) in [(9, totals.original), (10, totals.reply)] {
                    w.nested(kind, |w| {
                        w.attribute(1, &counter.packets.to_be_bytes());
                        w.attribute(2, &counter.bytes.to_be_bytes());
                    });
                }
            }
            w.u32(12, flow.id);
            w.attribute(18, &flow.zone.to_be_bytes());
            w.nested(20, |w| {
                w.attribute(1, &flow.start_ns.to_be_bytes());
                w.attribute(2, &flow.stop_ns.to_be_bytes());
            });
            w.attribute(22, &flow.labels);
        });
        writer.into_bytes()
    }

    fn decoded(bytes: &[u8]) -> Result<ConntrackMessage, Malformed> {
        Messages::new(bytes).next().unwrap().and_then(|message| decode(&message))
    }

    fn any_tuple() -> impl Strategy<Value = Tuple> {
        let protocols = prop_oneof![Just(1), Just(58), any::<u8>()];
        (any::<bool>(), protocols, any::<[u8; 16]>(), any::<[u8; 16]>(), any::<u16>(), any::<u16>()).prop_map(
            |(v6, protocol, mut src, mut dst, src_port, dst_port)| {
                if !v6 {
                    src[4..].fill(0);
                    dst[4..].fill(0);
                }
                let family = if v6 { Family::V6 } else { Family::V4 };
                Tuple { family, protocol, src, dst, src_port, dst_port }
            },
        )
    }

    prop_compose! {
        fn any_flow()(
            (destroyed, original, reply) in (any::<bool>(), any_tuple(), any_tuple()),
            (status, timeout, mark) in (any::<u32>(), any::<Option<u32>>(), any::<u32>()),
            (zone, id, labels) in (any::<u16>(), any::<u32>(), any::<[u8; 16]>()),
            counters in any::<Option<[u64; 4]>>(),
            (start_ns, stop_ns, protocol_state) in (any::<u64>(), any::<u64>(), any::<Option<u8>>()),
        ) -> ConntrackMessage {
            let counters = counters.map(|[a, b, c, d]| Totals {
                original: Counter { packets: a, bytes: b },
                reply: Counter { packets: c, bytes: d },
            });
            ConntrackMessage {
                destroyed, requested_by: 0, original, reply, status: Status(status), timeout, counters, mark,
                zone, id, start_ns, stop_ns, protocol_state, labels,
            }
        }
    }

    #[test]
    fn an_icmp_tuple_has_its_identifier_type_and_code() {
        let tuple =
            Tuple { protocol: protocol::ICMP, src_port: 4711, dst_port: 8 << 8 | 3, ..Tuple::default() };
        let flow = ConntrackMessage { original: tuple, reply: tuple, ..ConntrackMessage::default() };
        assert_eq!(decoded(&encode(&flow)).unwrap().original, tuple);
    }

    #[test]
    fn a_zone_of_one_direction_is_found_inside_its_tuple() {
        let mut writer = Writer::default();
        let header = Header { kind: MESSAGE_NEW, flags: 0, sequence: 0, family: 2, resource: 0 };
        writer.message(header, |w| {
            for kind in [1, 2] {
                w.nested(kind, |w| {
                    address_parts(w, &Tuple::default());
                    port_parts(w, &Tuple::default());
                    if kind == 2 {
                        w.attribute(3, &7_u16.to_be_bytes());
                    }
                });
            }
        });
        assert_eq!(decoded(&writer.into_bytes()).unwrap().zone, 7);
    }

    #[test]
    fn a_missing_tuple_is_named() {
        let mut writer = Writer::default();
        let header = Header { kind: MESSAGE_NEW, flags: 0, sequence: 0, family: 2, resource: 0 };
        writer.message(header, |w| w.u32(3, 0));
        let error = decoded(&writer.into_bytes()).unwrap_err();
        assert_eq!(error.to_string(), "CTA_TUPLE_ORIG is missing");
    }

    #[test]
    fn a_mark_of_the_wrong_size_is_named() {
        let mut writer = Writer::default();
        let header = Header { kind: MESSAGE_NEW, flags: 0, sequence: 0, family: 2, resource: 0 };
        writer.message(header, |w| w.attribute(8, &[1, 2]));
        let error = decoded(&writer.into_bytes()).unwrap_err();
        assert_eq!(error.to_string(), "CTA_MARK: needs 4 bytes, has 2");
    }

    proptest! {
        #[test]
        fn every_flow_is_decoded_as_it_was_encoded(flow in any_flow()) {
            prop_assert_eq!(decoded(&encode(&flow)).unwrap(), flow);
        }

        #[test]
        fn a_message_with_lying_bytes_never_panics(
            flow in any_flow(), at in any::<prop::sample::Index>(), byte in any::<u8>(), cut in 0_usize..200,
        ) {
            let mut bytes = encode(&flow);
            let at = at.index(bytes.len());
            bytes[at] = byte;
            bytes.truncate(bytes.len().saturating_sub(cut).max(HEADER));
            for message in Messages::new(&bytes).flatten() {
                let _ = decode(&message);
            }
        }
    }
}
