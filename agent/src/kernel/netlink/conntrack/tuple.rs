//! `CTA_TUPLE_ORIG` and `CTA_TUPLE_REPLY`: one direction of a flow.

use crate::{
    kernel::netlink::attribute::{Attribute, Malformed},
    model::{Family, Tuple, protocol},
};

const CTA_TUPLE_IP: u16 = 1;
const CTA_TUPLE_PROTO: u16 = 2;
const CTA_TUPLE_ZONE: u16 = 3;

const CTA_IP_V4_SRC: u16 = 1;
const CTA_IP_V4_DST: u16 = 2;
const CTA_IP_V6_SRC: u16 = 3;
const CTA_IP_V6_DST: u16 = 4;

const CTA_PROTO_NUM: u16 = 1;
const CTA_PROTO_SRC_PORT: u16 = 2;
const CTA_PROTO_DST_PORT: u16 = 3;
const CTA_PROTO_ICMP_ID: u16 = 4;
const CTA_PROTO_ICMP_TYPE: u16 = 5;
const CTA_PROTO_ICMP_CODE: u16 = 6;
const CTA_PROTO_ICMPV6_ID: u16 = 7;
const CTA_PROTO_ICMPV6_TYPE: u16 = 8;
const CTA_PROTO_ICMPV6_CODE: u16 = 9;

/// Reads one direction, and its zone where the zone holds for this direction only.
///
/// <https://github.com/torvalds/linux/blob/v6.12/net/netfilter/nf_conntrack_netlink.c#L124>
pub(super) fn decode(
    attribute: &Attribute<'_>,
    place: &'static str,
) -> Result<(Tuple, Option<u16>), Malformed> {
    let mut tuple = Tuple::default();
    let (mut has_addresses, mut has_protocol, mut zone) = (false, false, None);
    for part in attribute.nested(place) {
        let part = part?;
        match part.kind {
            CTA_TUPLE_IP => has_addresses = addresses(&part, &mut tuple)?,
            CTA_TUPLE_PROTO => has_protocol = ports(&part, &mut tuple)?,
            CTA_TUPLE_ZONE => zone = Some(part.u16("CTA_TUPLE_ZONE")?),
            _ => {}
        }
    }
    if !has_addresses {
        return Err(Malformed::Missing { place: "CTA_TUPLE_IP" });
    }
    if !has_protocol {
        return Err(Malformed::Missing { place: "CTA_PROTO_NUM" });
    }
    Ok((tuple, zone))
}

/// Whether both addresses were there.
fn addresses(attribute: &Attribute<'_>, tuple: &mut Tuple) -> Result<bool, Malformed> {
    let (mut source, mut destination) = (None, None);
    for part in attribute.nested("CTA_TUPLE_IP") {
        let part = part?;
        match part.kind {
            CTA_IP_V4_SRC => source = Some((Family::V4, widened(part.array("CTA_IP_V4_SRC")?))),
            CTA_IP_V4_DST => destination = Some((Family::V4, widened(part.array("CTA_IP_V4_DST")?))),
            CTA_IP_V6_SRC => source = Some((Family::V6, part.array("CTA_IP_V6_SRC")?)),
            CTA_IP_V6_DST => destination = Some((Family::V6, part.array("CTA_IP_V6_DST")?)),
            _ => {}
        }
    }
    let (Some((family, src)), Some((other, dst))) = (source, destination) else { return Ok(false) };
    (tuple.family, tuple.src, tuple.dst) = (family, src, dst);
    Ok(family == other)
}

fn widened([a, b, c, d]: [u8; 4]) -> [u8; 16] {
    [a, b, c, d, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]
}

/// Whether the protocol's number was there.
fn ports(attribute: &Attribute<'_>, tuple: &mut Tuple) -> Result<bool, Malformed> {
    let mut number = None;
    let (mut source, mut destination) = (0, 0);
    let (mut icmp_id, mut icmp_type, mut icmp_code) = (0, 0, 0);
    for part in attribute.nested("CTA_TUPLE_PROTO") {
        let part = part?;
        match part.kind {
            CTA_PROTO_NUM => number = Some(part.u8("CTA_PROTO_NUM")?),
            CTA_PROTO_SRC_PORT => source = part.u16("CTA_PROTO_SRC_PORT")?,
            CTA_PROTO_DST_PORT => destination = part.u16("CTA_PROTO_DST_PORT")?,
            CTA_PROTO_ICMP_ID | CTA_PROTO_ICMPV6_ID => icmp_id = part.u16("CTA_PROTO_ICMP_ID")?,
            CTA_PROTO_ICMP_TYPE | CTA_PROTO_ICMPV6_TYPE => icmp_type = part.u8("CTA_PROTO_ICMP_TYPE")?,
            CTA_PROTO_ICMP_CODE | CTA_PROTO_ICMPV6_CODE => icmp_code = part.u8("CTA_PROTO_ICMP_CODE")?,
            _ => {}
        }
    }
    let Some(number) = number else { return Ok(false) };
    tuple.protocol = number;
    (tuple.src_port, tuple.dst_port) = match number {
        protocol::ICMP | protocol::ICMPV6 => (icmp_id, u16::from_be_bytes([icmp_type, icmp_code])),
        _ => (source, destination),
    };
    Ok(true)
}
