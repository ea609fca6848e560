//! Addresses as text, IPv6 by RFC 5952, without the standard library's formatter.

use std::net::{Ipv4Addr, Ipv6Addr};
use std::ops::Range;

use super::digits::{short_hex, two_hex};

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

/// A place for the text of an IPv6 address, which is written in pieces of fixed size: a piece may begin at any of the
/// first 64 characters.
pub(super) type Place = [u8; 64 + 16];

/// Puts the text there and tells how long it is; what follows it there is nothing.
#[inline(always)]
pub(super) fn v6(octets: &[u8; 16], place: &mut Place) -> usize {
    if has_zero_group(octets) { v6_short(octets, place) } else { v6_full(octets, place) }
}

/// One of which no group is zero.
#[inline(never)]
fn v6_full(octets: &[u8; 16], place: &mut Place) -> usize {
    let mut text = Text { place, length: 0 };
    text.put_groups(octets.as_chunks().0);
    // A group that was written has its colon behind it.
    text.length - 1
}

/// Any other one.
#[inline(never)]
fn v6_short(octets: &[u8; 16], place: &mut Place) -> usize {
    let mut text = Text { place, length: 0 };
    if let Some(ip) = Ipv6Addr::from(*octets).to_ipv4_mapped() {
        let (digits, length) = v4(ip);
        text.put(*b"::ffff:\0", 7);
        text.put(digits, length);
        return text.length;
    }
    let groups = octets.as_chunks().0;
    let left_out = longest_zeros(groups);
    text.put_groups(groups.get(..left_out.start).unwrap_or(groups));
    if left_out.end <= groups.len() {
        text.put(*b"::", if left_out.start == 0 { 2 } else { 1 });
    }
    if left_out.end == groups.len() {
        return text.length;
    }
    text.put_groups(groups.get(left_out.end..).unwrap_or_default());
    text.length - 1
}

/// Looks at four groups at a time.
#[inline(always)]
fn has_zero_group(octets: &[u8; 16]) -> bool {
    const ONES: u64 = 0x0001_0001_0001_0001;
    let zeros = octets.as_chunks::<8>().0.iter().map(|four| {
        let groups = u64::from_ne_bytes(*four);
        groups.wrapping_sub(ONES) & !groups
    });
    zeros.fold(0, |all, zeros| all | zeros) & ONES << 15 != 0
}

/// An address that is being written.
struct Text<'a> {
    place: &'a mut Place,
    length: usize,
}

impl Text<'_> {
    /// Puts all of a piece, of which the first characters count.
    #[inline(always)]
    fn put<const N: usize>(&mut self, piece: [u8; N], length: usize) {
        let start = self.length & 63;
        if let Some(place) = self.place.get_mut(start..start + N) {
            place.copy_from_slice(&piece);
        }
        self.length += length;
    }

    /// Groups, without the zeros before them.
    #[inline(always)]
    fn put_groups(&mut self, groups: &[[u8; 2]]) {
        for &[high, low] in groups {
            if high == 0 {
                let (digits, length) = short_hex(low);
                self.put(digits, length + 1);
            } else {
                let (digits, length) = short_hex(high);
                self.put(digits, length);
                self.put(two_hex(low), 3);
            }
        }
    }
}

/// The first of the longest rows of two or more groups that are zero; behind all if there is none.
fn longest_zeros(groups: &[[u8; 2]]) -> Range<usize> {
    let zero = groups.iter().rev().fold(0u8, |mask, &group| mask << 1 | u8::from(group == [0; 2]));
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
        let mut place = [0; _];
        let length = v6(&ip.octets(), &mut place);
        String::from_utf8(place[..length].to_vec()).unwrap()
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
