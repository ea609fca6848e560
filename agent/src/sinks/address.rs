//! Addresses as text, IPv6 by RFC 5952, without the standard library's formatter.

use std::net::{Ipv4Addr, Ipv6Addr};

use super::digits::hex;

/// The text of each octet, its dot behind it, and how long that is.
#[expect(clippy::indexing_slicing, reason = "done by the compiler, which refuses what is out of bounds")]
const OCTETS: [([u8; 4], u8); 256] = {
    let mut table = [([b'.'; 4], 0); 256];
    let mut octet = 0;
    while octet < 256 {
        let (hundreds, tens, ones) = (octet / 100, octet / 10 % 10, octet % 10);
        let [h, t, o] = [b'0' + hundreds as u8, b'0' + tens as u8, b'0' + ones as u8];
        table[octet] = match octet {
            0..=9 => ([o, b'.', b'.', b'.'], 2),
            10..=99 => ([t, o, b'.', b'.'], 3),
            _ => ([h, t, o, b'.'], 4),
        };
        octet += 1;
    }
    table
};

/// The longest text of an address is 39 characters; it is copied in whole registers.
pub(super) const LENGTH: usize = 48;

/// The text, and how long it is.
#[inline(always)]
pub(super) fn v4(ip: Ipv4Addr) -> ([u8; 16], usize) {
    let (mut text, mut length) = ([0; 16], 0);
    for octet in ip.octets() {
        let (digits, more) = OCTETS.get(usize::from(octet)).copied().unwrap_or_default();
        if let Some(place) = text.get_mut(length..length + 4) {
            place.copy_from_slice(&digits);
        }
        length += usize::from(more);
    }
    (text, length - 1)
}

/// The text, and how long it is.
pub(super) fn v6(ip: Ipv6Addr) -> ([u8; LENGTH], usize) {
    let mut out = Text { bytes: [0; LENGTH], length: 0 };
    if let Some(ip) = ip.to_ipv4_mapped() {
        let (text, length) = v4(ip);
        out.put(*b"::ffff:", 7);
        out.put(text, length);
        return (out.bytes, out.length);
    }
    let groups = ip.segments();
    let digits = hex(u128::from_be_bytes(ip.octets()));
    let left_out = longest_zeros(groups);
    // A group that was written has its colon behind it.
    let digits = digits.as_flattened().as_chunks().0;
    out.put_groups(digits.get(..left_out.start).unwrap_or(digits));
    if left_out.end <= groups.len() {
        out.put(*b"::", if left_out.start == 0 { 2 } else { 1 });
    }
    if left_out.end != groups.len() {
        out.put_groups(digits.get(left_out.end..).unwrap_or_default());
        out.length -= 1;
    }
    (out.bytes, out.length)
}

/// An address that is being written.
struct Text {
    bytes: [u8; LENGTH],
    length: usize,
}

impl Text {
    /// Puts all of a piece, of which the first characters count.
    #[inline(always)]
    fn put<const N: usize>(&mut self, piece: [u8; N], length: usize) {
        if let Some(place) = self.bytes.get_mut(self.length..).and_then(<[u8]>::first_chunk_mut) {
            *place = piece;
        }
        self.length += length;
    }

    /// Groups, each of four digits, without the zeros before them.
    #[inline(always)]
    fn put_groups(&mut self, groups: &[[u8; 4]]) {
        for group in groups {
            let digits = u32::from_le_bytes(*group);
            // The last digit is said even if it is zero.
            let zeros = (digits ^ u32::from_le_bytes(*b"0000") | 1 << 24).trailing_zeros() / 8;
            let text = (u64::from(digits) | u64::from(b':') << 32) >> (8 * zeros);
            self.put(text.to_le_bytes(), 5 - zeros as usize);
        }
    }
}

/// The first of the longest rows of two or more groups that are zero; behind all if there is none.
fn longest_zeros(groups: [u16; 8]) -> std::ops::Range<usize> {
    let zero = groups.iter().rev().fold(0u8, |mask, &group| mask << 1 | u8::from(group == 0));
    let (mut row, mut starts, mut length) = (zero, 0u8, 0);
    while row != 0 {
        starts = row;
        row &= row >> 1;
        length += 1;
    }
    let start = starts.trailing_zeros() as usize;
    if length < 2 { 9..9 } else { start..start + length }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn text(ip: Ipv6Addr) -> String {
        let (text, length) = v6(ip);
        String::from_utf8(text[..length].to_vec()).unwrap()
    }

    #[test]
    fn every_octet_is_written() {
        for octet in 0..=255 {
            let ip = Ipv4Addr::from([octet, 0, 255, octet]);
            let (text, length) = v4(ip);
            assert_eq!(String::from_utf8(text[..length].to_vec()).unwrap(), ip.to_string());
        }
    }

    #[test]
    fn every_pattern_of_zero_groups_is_written_as_the_standard_library_does() {
        for pattern in 0..256u16 {
            let ip = Ipv6Addr::from(std::array::from_fn(|at| u16::from(pattern >> at & 1 == 1) * 0xab));
            assert_eq!(text(ip), ip.to_string());
        }
    }

    proptest! {
        #[test]
        fn any_address_is_written_as_the_standard_library_does(groups: [u16; 8], shifts in any::<[u8; 8]>()) {
            let ip = Ipv6Addr::from(std::array::from_fn(|at| groups[at] >> (shifts[at] % 20).min(15)));
            prop_assert_eq!(text(ip), ip.to_string());
            let mapped = Ipv4Addr::from([groups[0] as u8, 1, 2, groups[1] as u8]).to_ipv6_mapped();
            prop_assert_eq!(text(mapped), mapped.to_string());
        }
    }
}
