//! Which side of a flow is translated, told from its two tuples.

use crate::model::{NatKind, Tuple};

/// Compares the reply tuple with the mirror of the original one.
#[must_use]
pub fn nat_kind(original: &Tuple, reply: &Tuple) -> NatKind {
    let (source_port, destination_port) = if original.is_icmp() {
        // Both tuples keep the identifier in the source; NAT changes it as it would a source port.
        (reply.src_port, original.dst_port)
    } else {
        (reply.dst_port, reply.src_port)
    };
    let source = (original.src, original.src_port) != (reply.dst, source_port);
    let destination = (original.dst, original.dst_port) != (reply.src, destination_port);
    match (source, destination) {
        (false, false) => NatKind::None,
        (true, false) => NatKind::Source,
        (false, true) => NatKind::Destination,
        (true, true) => NatKind::Both,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tuple(protocol: u8, source: (u8, u16), destination: (u8, u16)) -> Tuple {
        let address = |last| [10, 0, 0, last, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
        Tuple {
            protocol,
            src: address(source.0),
            dst: address(destination.0),
            src_port: source.1,
            dst_port: destination.1,
            ..Tuple::default()
        }
    }

    #[test]
    fn each_side_is_told_by_address_or_port() {
        let original = tuple(6, (1, 1000), (2, 80));
        let cases = [
            ((2, 80), (1, 1000), NatKind::None),
            ((2, 80), (9, 1000), NatKind::Source),
            ((2, 80), (1, 1001), NatKind::Source),
            ((9, 80), (1, 1000), NatKind::Destination),
            ((2, 8080), (1, 1000), NatKind::Destination),
            ((9, 80), (9, 1000), NatKind::Both),
        ];
        for (source, destination, expected) in cases {
            assert_eq!(nat_kind(&original, &tuple(6, source, destination)), expected);
        }
    }

    #[test]
    fn an_icmp_echo_is_not_translated_because_its_reply_has_another_type() {
        let echo = tuple(1, (1, 77), (2, 0x0800));
        assert_eq!(nat_kind(&echo, &tuple(1, (2, 77), (1, 0))), NatKind::None);
        assert_eq!(nat_kind(&echo, &tuple(1, (2, 78), (1, 0))), NatKind::Source);
        assert_eq!(nat_kind(&echo, &tuple(1, (3, 77), (1, 0))), NatKind::Destination);
    }
}
