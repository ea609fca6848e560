//! Pieces of a line appended to a byte buffer: text, escapes, numbers, timestamps, addresses.
//!
//! Whoever writes says commas, quotes and keys as text that is known when the agent is built; what they go with is
//! appended without them.

use std::net::IpAddr;

use super::super::{digits, time::Calendar};
use super::address;

/// Appends to one line.
pub(super) struct Writer<'a> {
    out: &'a mut Vec<u8>,
    calendar: Calendar,
}

impl<'a> Writer<'a> {
    pub(super) const fn new(out: &'a mut Vec<u8>) -> Self {
        Self { out, calendar: Calendar::new() }
    }

    /// Text as it is.
    #[inline(always)]
    pub(super) fn raw(&mut self, text: &str) {
        self.out.extend_from_slice(text.as_bytes());
    }

    /// ASCII as it is.
    #[inline(always)]
    pub(super) fn ascii<const N: usize>(&mut self, text: &[u8; N]) {
        self.out.extend_from_slice(text);
    }

    /// One of the agent's own words, which are short: without a call for a few bytes.
    #[inline(always)]
    pub(super) fn word(&mut self, word: &str) {
        let bytes = word.as_bytes();
        match (bytes.first_chunk::<8>(), bytes.last_chunk::<8>()) {
            (Some(first), Some(last)) if bytes.len() <= 16 => {
                let end = self.out.len() + bytes.len();
                self.out.extend_from_slice(first);
                self.out.truncate(end - 8);
                self.out.extend_from_slice(last);
            }
            _ => match (bytes.first_chunk::<4>(), bytes.last_chunk::<4>()) {
                (Some(first), Some(last)) if bytes.len() <= 8 => {
                    let end = self.out.len() + bytes.len();
                    self.out.extend_from_slice(first);
                    self.out.truncate(end - 4);
                    self.out.extend_from_slice(last);
                }
                _ => self.raw(word),
            },
        }
    }

    /// Text that may hold anything.
    pub(super) fn escaped(&mut self, text: &str) {
        if needs_escapes(text.as_bytes()) {
            text.bytes().for_each(|byte| self.escape(byte));
        } else {
            self.raw(text);
        }
    }

    /// A number with what stands before it.
    #[inline(always)]
    pub(super) fn number(&mut self, before: &str, value: u64) {
        self.raw(before);
        digits::decimal(value, self.out);
    }

    /// 16 bytes in hexadecimal, the first one first.
    pub(super) fn hex(&mut self, bytes: u128) {
        self.ascii(&digits::hex(bytes));
    }

    /// Nanoseconds since the Unix epoch, as RFC 3339 in UTC. Returns the text.
    pub(super) fn timestamp(&mut self, unix_ns: i64) -> [u8; 30] {
        let text = self.calendar.rfc3339(unix_ns);
        self.ascii(&text);
        text
    }

    /// An address; returns where it stands, to be said again.
    #[inline]
    pub(super) fn address(&mut self, ip: IpAddr) -> Mention {
        let start = self.out.len();
        match ip {
            IpAddr::V4(ip) => address::v4(ip, self.out),
            IpAddr::V6(ip) => address::v6(ip, self.out),
        }
        Mention { start, length: self.out.len() - start }
    }

    /// Says again what was said before.
    pub(super) fn again(&mut self, mention: Mention) {
        let Mention { start, length } = mention;
        if let Some(&text) = self.out.get(start..).and_then(|from| from.first_chunk()) {
            // Mostly at hand in one piece; what is too much of it is overwritten by what follows.
            let text: [u8; 16] = text;
            if length <= text.len() {
                return digits::front(&text, length, self.out);
            }
        }
        let end = (start + length).min(self.out.len());
        self.out.extend_from_within(start.min(end)..end);
    }

    /// The items, in quotes.
    pub(super) fn quoted(&mut self, names: impl Iterator<Item = &'static str>) {
        let mut before = "\"";
        for name in names {
            self.raw(before);
            self.word(name);
            self.raw("\"");
            before = ",\"";
        }
    }

    fn escape(&mut self, byte: u8) {
        match byte {
            b'"' | b'\\' => self.ascii(&[b'\\', byte]),
            0..=0x1F => {
                self.raw("\\u00");
                self.ascii(&[digits::hex_digit(byte >> 4), digits::hex_digit(byte & 15)]);
            }
            _ => self.ascii(&[byte]),
        }
    }
}

/// Where something stands in the buffer.
#[derive(Clone, Copy)]
pub(super) struct Mention {
    start: usize,
    length: usize,
}

/// Looks at eight bytes at a time.
fn needs_escapes(text: &[u8]) -> bool {
    let (words, rest) = text.as_chunks::<8>();
    let in_words = words.iter().fold(0, |all, word| all | escapes(u64::from_ne_bytes(*word))) != 0;
    // The last eight may hold some that were looked at before.
    match text.last_chunk::<8>() {
        Some(last) => in_words || escapes(u64::from_ne_bytes(*last)) != 0,
        None => rest.iter().any(|&byte| byte < 0x20 || byte == b'"' || byte == b'\\'),
    }
}

/// Not 0 if one of eight bytes is a control character, a quote or a backslash. A byte from 0x80 on is none.
const fn escapes(word: u64) -> u64 {
    const ONES: u64 = u64::from_ne_bytes([1; 8]);
    const HIGHS: u64 = u64::from_ne_bytes([0x80; 8]);
    /// The highest bit of bytes that are below `limit`, and perhaps of some above such a one, unless it was set.
    const fn below(word: u64, limit: u64) -> u64 {
        word.wrapping_sub(ONES * limit) & !word
    }
    let quote = word ^ (ONES * b'"' as u64);
    let backslash = word ^ (ONES * b'\\' as u64);
    (below(word, 0x20) | below(quote, 1) | below(backslash, 1)) & HIGHS
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_needs_an_escape_is_found_wherever_it_stands() {
        for byte in 0..=255 {
            let needs_one = byte < 0x20 || byte == b'"' || byte == b'\\';
            for length in 1..20 {
                for position in 0..length {
                    let mut text = vec![b'a'; length];
                    text[position] = byte;
                    assert_eq!(needs_escapes(&text), needs_one, "{byte} at {position} of {length}");
                }
            }
        }
    }
}
