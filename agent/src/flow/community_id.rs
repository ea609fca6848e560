//! Community ID v1 (seed 0), by which other monitors' records of the same flow are found.
//!
//! <https://github.com/corelight/community-id-spec>

use super::sha1::{self, Block, digests};
use crate::model::{Family, Tuple, protocol};

/// `1:` and 28 characters of base64.
const LENGTH: usize = 30;

/// The printable identifier; nothing by default.
#[derive(Default, Clone, Copy, Debug, PartialEq, Eq)]
pub struct CommunityId([u8; LENGTH]);

impl CommunityId {
    /// Computes it from the original tuple; both directions of a flow without NAT give the same.
    #[must_use]
    pub fn of(tuple: &Tuple) -> Self {
        let mut block = Block::new();
        put(&mut block, tuple);
        Self::print(&block.digest())
    }

    /// The identifier in ASCII.
    #[must_use]
    pub const fn as_bytes(&self) -> &[u8; LENGTH] {
        &self.0
    }

    #[inline]
    fn print(digest: &[u8; 20]) -> Self {
        let mut text = [b'='; LENGTH];
        let [version, colon, encoded @ ..] = &mut text;
        (*version, *colon) = (b'1', b':');
        let (threes, rest) = digest.as_chunks::<3>();
        let (fours, _) = encoded.as_chunks_mut::<4>();
        let last = if let [a, b] = rest { [*a, *b, 0] } else { [0; 3] };
        for (four, three) in fours.iter_mut().zip(threes.iter().chain([&last])) {
            *four = base64(*three);
        }
        let [.., pad] = &mut text;
        *pad = b'=';
        Self(text)
    }
}

/// How many identifiers are computed at once.
pub(crate) const TOGETHER: usize = sha1::TOGETHER;

/// Computes the identifiers of up to [`TOGETHER`] tuples, those of further ones left out. Together, they cost little
/// more than one.
#[inline]
pub(crate) fn of_each<'a>(
    tuples: impl ExactSizeIterator<Item = &'a Tuple>,
    ids: &mut [CommunityId; TOGETHER],
) {
    let count = tuples.len();
    let mut blocks = [const { Block::new() }; TOGETHER];
    for (block, tuple) in blocks.iter_mut().zip(tuples) {
        put(block, tuple);
    }
    for (id, digest) in ids.iter_mut().zip(&digests(&blocks, count)) {
        *id = CommunityId::print(digest);
    }
}

/// Puts what is hashed, with its end.
fn put(hashed: &mut Block, tuple: &Tuple) {
    let (source_port, destination_port, one_way) = endpoints(tuple);
    if let (Family::V4, true) = (tuple.family, has_endpoints(tuple)) {
        return put_v4(hashed, tuple, [source_port, destination_port], one_way);
    }
    let here = (u128::from_be_bytes(tuple.src), source_port);
    let there = (u128::from_be_bytes(tuple.dst), destination_port);
    let (first, second) = if one_way || here <= there { (here, there) } else { (there, here) };
    hashed.put([0, 0]);
    put_addresses(hashed, tuple.family, first.0.to_be_bytes(), second.0.to_be_bytes());
    hashed.put([tuple.protocol, 0]);
    if has_endpoints(tuple) {
        hashed.put(first.1.to_be_bytes());
        hashed.put(second.1.to_be_bytes());
    }
    hashed.end();
}

/// The same for what nearly all flows are, put together as one number.
#[inline(always)]
fn put_v4(hashed: &mut Block, tuple: &Tuple, [source_port, destination_port]: [u16; 2], one_way: bool) {
    let endpoint = |[a, b, c, d, ..]: [u8; 16], port| (u32::from_be_bytes([a, b, c, d]), port);
    let (here, there) = (endpoint(tuple.src, source_port), endpoint(tuple.dst, destination_port));
    let (first, second) = if one_way || here <= there { (here, there) } else { (there, here) };
    let addresses = u128::from(u64::from(first.0) << 32 | u64::from(second.0)) << 48;
    let ports = u64::from(tuple.protocol) << 40 | u64::from(first.1) << 16 | u64::from(second.1);
    hashed.put((addresses | u128::from(ports)).to_be_bytes());
    hashed.end();
}

/// The two characters for each twelve bits, the first one in the lower byte.
#[expect(clippy::indexing_slicing, reason = "done by the compiler, which refuses what is out of bounds")]
static PAIRS: [u16; 4096] = {
    const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut pairs = [0; 4096];
    let mut bits = 0;
    while bits < pairs.len() {
        pairs[bits] = u16::from_le_bytes([ALPHABET[bits >> 6], ALPHABET[bits & 63]]);
        bits += 1;
    }
    pairs
};

/// Four characters for three bytes (RFC 4648, section 4).
#[inline(always)]
fn base64([a, b, c]: [u8; 3]) -> [u8; 4] {
    let bits = u32::from_be_bytes([0, a, b, c]);
    let [high, low] =
        [bits >> 12, bits & 0xFFF].map(|twelve| PAIRS.get(twelve as usize).copied().unwrap_or_default());
    (u32::from(high) | u32::from(low) << 16).to_le_bytes()
}

impl std::fmt::Display for CommunityId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(std::str::from_utf8(&self.0).map_err(|_| std::fmt::Error)?)
    }
}

fn put_addresses(hashed: &mut Block, family: Family, first: [u8; 16], second: [u8; 16]) {
    match (family, first, second) {
        (Family::V4, [a, b, c, d, ..], [e, f, g, h, ..]) => hashed.put([a, b, c, d, e, f, g, h]),
        (Family::V6, first, second) => {
            hashed.put(first);
            hashed.put(second);
        }
    }
}

/// Whether version 1 hashes ports or what stands for them; UDP-Lite and DCCP are "other protocols" to it.
const fn has_endpoints(tuple: &Tuple) -> bool {
    matches!(tuple.protocol, protocol::TCP | protocol::UDP | protocol::SCTP) || tuple.is_icmp()
}

/// Ports, or the ICMP type and its counterpart, or type and code of a message without one (then one-way).
fn endpoints(tuple: &Tuple) -> (u16, u16, bool) {
    if !has_endpoints(tuple) {
        return (0, 0, false);
    }
    if !tuple.is_icmp() {
        return (tuple.src_port, tuple.dst_port, false);
    }
    let [kind, code] = tuple.dst_port.to_be_bytes();
    let counterpart = if tuple.protocol == protocol::ICMP { icmp_reply(kind) } else { icmpv6_reply(kind) };
    counterpart.map_or((kind.into(), code.into(), true), |reply| (kind.into(), reply.into(), false))
}

/// The message that answers, by RFC 792, 950 and 1256.
const fn icmp_reply(kind: u8) -> Option<u8> {
    Some(match kind {
        8 => 0,
        0 => 8,
        13 => 14,
        14 => 13,
        15 => 16,
        16 => 15,
        10 => 9,
        9 => 10,
        17 => 18,
        18 => 17,
        _ => return None,
    })
}

/// The message that answers, by RFC 4443, 4861, 2710, 4620 and 6275.
const fn icmpv6_reply(kind: u8) -> Option<u8> {
    Some(match kind {
        128 => 129,
        129 => 128,
        133 => 134,
        134 => 133,
        135 => 136,
        136 => 135,
        130 => 131,
        131 => 130,
        139 => 140,
        140 => 139,
        144 => 145,
        145 => 144,
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use std::net::IpAddr;

    use super::*;

    fn tuple(
        protocol: u8,
        source: &str,
        destination: &str,
        source_port: u16,
        destination_port: u16,
    ) -> Tuple {
        let bytes = |text: &str| match text.parse().unwrap() {
            IpAddr::V4(ip) => {
                let mut padded = [0; 16];
                padded[..4].copy_from_slice(&ip.octets());
                (Family::V4, padded)
            }
            IpAddr::V6(ip) => (Family::V6, ip.octets()),
        };
        let (family, src) = bytes(source);
        let (_, dst) = bytes(destination);
        Tuple { family, protocol, src, dst, src_port: source_port, dst_port: destination_port }
    }

    fn icmp(protocol: u8, source: &str, destination: &str, kind: u8, code: u8) -> Tuple {
        tuple(protocol, source, destination, 4711, u16::from_be_bytes([kind, code]))
    }

    /// The specification's own baseline.
    #[test]
    fn the_published_vectors_come_out() {
        let vectors = [
            (tuple(6, "128.232.110.120", "66.35.250.204", 34855, 80), "1:LQU9qZlK+B5F3KDmev6m5PMibrg="),
            (tuple(6, "66.35.250.204", "128.232.110.120", 80, 34855), "1:LQU9qZlK+B5F3KDmev6m5PMibrg="),
            (tuple(17, "192.168.1.52", "8.8.8.8", 54585, 53), "1:d/FP5EW3wiY1vCndhwleRRKHowQ="),
            (tuple(17, "8.8.8.8", "192.168.1.52", 53, 54585), "1:d/FP5EW3wiY1vCndhwleRRKHowQ="),
            (tuple(132, "192.168.170.8", "192.168.170.56", 7, 7), "1:MP2EtRCAUIZvTw6MxJHLV7N7JDs="),
            (tuple(132, "192.168.170.56", "192.168.170.8", 7, 7), "1:MP2EtRCAUIZvTw6MxJHLV7N7JDs="),
            (tuple(46, "10.1.12.1", "10.1.12.2", 0, 0), "1:KHlLkgoJW7ifUTyTSgyVfkFHzKw="),
            (tuple(46, "10.1.12.2", "10.1.12.1", 0, 0), "1:KHlLkgoJW7ifUTyTSgyVfkFHzKw="),
            (
                tuple(6, "2001:470:e5bf:dead:4957:2174:e82c:4887", "2607:f8b0:400c:c03::1a", 63943, 25),
                "1:/qFaeAR+gFe1KYjMzVDsMv+wgU4=",
            ),
            (icmp(1, "192.168.0.89", "192.168.0.1", 8, 0), "1:X0snYXpgwiv9TZtqg64sgzUn6Dk="),
            (icmp(1, "192.168.0.1", "192.168.0.89", 0, 0), "1:X0snYXpgwiv9TZtqg64sgzUn6Dk="),
            (icmp(1, "10.0.0.1", "10.0.0.2", 11, 0), "1:YHxtAirCG//0OzkcVAukqKQN9xM="),
            (
                icmp(58, "3ffe:507:0:1:200:86ff:fe05:80da", "3ffe:501:0:1001::2", 128, 0),
                "1:+TW+HtLHvV1xnGhV1lv7XoJrqQg=",
            ),
            (
                icmp(58, "fe80::200:86ff:fe05:80da", "fe80::260:97ff:fe07:69ea", 135, 0),
                "1:dGHyGvjMfljg6Bppwm3bg0LO8TY=",
            ),
            (icmp(58, "fe80::260:97ff:fe07:69ea", "ff02::1", 134, 0), "1:pkvHqCL88/tg1k4cPigmZXUtL00="),
            (icmp(58, "fe80::200:86ff:fe05:80da", "ff02::2", 133, 0), "1:hO+sN4H+MG5MY/8hIrXPqc4ZQz0="),
            (
                icmp(58, "3ffe:501:1800:2345::2", "3ffe:507:0:1:200:86ff:fe05:80da", 3, 0),
                "1:2ObVBgIn28oZvibYZhZMBgh7WdQ=",
            ),
            (
                icmp(58, "3ffe:501:410:0:2c0:dfff:fe47:33e", "3ffe:507:0:1:200:86ff:fe05:80da", 1, 4),
                "1:hLZd0XGWojozrvxqE0dWB1iM6R0=",
            ),
        ];
        for (tuple, expected) in vectors {
            assert_eq!(CommunityId::of(&tuple).to_string(), expected, "{tuple:?}");
        }
    }

    #[test]
    fn keys_and_ports_of_other_protocols_do_not_count() {
        let with_keys = tuple(47, "10.0.0.1", "10.0.0.2", 1, 2);
        assert_eq!(CommunityId::of(&with_keys), CommunityId::of(&tuple(47, "10.0.0.1", "10.0.0.2", 0, 0)));
    }
}
