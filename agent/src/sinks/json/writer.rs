//! Pieces of a line appended to a byte buffer: text, escapes, numbers, timestamps, addresses.
//!
//! Whoever writes says commas, quotes and keys as text that is known when the agent is built; what they go with is
//! appended without them.

use std::net::IpAddr;

use super::super::{address, digits, time::Calendar};

/// Room for a line; more than all but the strangest take.
const ROOM: usize = 4_096;

/// What a line has of characters while it is put together.
pub(super) struct Draft([u8; ROOM]);

impl Draft {
    pub(super) const fn new() -> Self {
        Self([0; ROOM])
    }
}

/// Appends to one line. It is put together in memory of a fixed size, so that a piece costs one comparison and its
/// copy; what does not fit there goes out as it is.
pub(super) struct Writer<'a> {
    draft: &'a mut [u8; ROOM],
    /// Characters in the draft; narrow, so that a sum with it is known not to wrap around.
    at: u32,
    calendar: &'a mut Calendar,
    out: &'a mut Vec<u8>,
}

impl<'a> Writer<'a> {
    pub(super) const fn new(draft: &'a mut Draft, calendar: &'a mut Calendar, out: &'a mut Vec<u8>) -> Self {
        Self { draft: &mut draft.0, at: 0, calendar, out }
    }

    /// Hands out what was written.
    pub(super) fn finish(&mut self) {
        let written = self.draft.get(..self.at as usize).unwrap_or_default();
        self.out.extend_from_slice(written);
        self.at = 0;
    }

    /// Text as it is.
    #[inline(always)]
    pub(super) fn raw(&mut self, text: &str) {
        self.bytes(text.as_bytes());
    }

    /// ASCII as it is.
    #[inline(always)]
    pub(super) fn ascii<const N: usize>(&mut self, text: &[u8; N]) {
        self.front(text, N);
    }

    /// UTF-8 as it is.
    #[inline(always)]
    pub(super) fn bytes(&mut self, text: &[u8]) {
        let start = self.at as usize;
        match self.draft.get_mut(start..start + text.len()) {
            Some(place) => {
                place.copy_from_slice(text);
                self.at += text.len() as u32;
            }
            None => self.overflow(text),
        }
    }

    /// The first characters of a text. To copy a fixed size is cheaper than to copy exactly; what is too much of it
    /// is overwritten by what follows.
    #[inline(always)]
    fn front<const N: usize>(&mut self, text: &[u8; N], length: usize) {
        let start = self.at as usize;
        match self.draft.get_mut(start..start + N) {
            Some(place) => {
                place.copy_from_slice(text);
                self.at += length as u32;
            }
            None => self.overflow(text.get(..length).unwrap_or_default()),
        }
    }

    #[cold]
    #[inline(never)]
    fn overflow(&mut self, text: &[u8]) {
        self.finish();
        self.out.extend_from_slice(text);
    }

    /// One of the agent's own words, which are short: without a call for a few bytes.
    #[inline(always)]
    pub(super) fn word(&mut self, word: &str) {
        let bytes = word.as_bytes();
        match (bytes.first_chunk::<8>(), bytes.last_chunk::<8>()) {
            (Some(first), Some(last)) if bytes.len() <= 16 => {
                self.front(first, bytes.len() - 8);
                self.ascii(last);
            }
            _ => match (bytes.first_chunk::<4>(), bytes.last_chunk::<4>()) {
                (Some(first), Some(last)) if bytes.len() <= 8 => {
                    self.front(first, bytes.len() - 4);
                    self.ascii(last);
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
        self.decimal(value);
    }

    #[inline(always)]
    fn decimal(&mut self, value: u64) {
        if value >= 1_000_000 {
            return self.long_decimal(value);
        }
        let (text, length) = digits::short(value as u32);
        self.front(&text, length);
    }

    /// A number of which the last six digits are not all.
    #[inline(never)]
    fn long_decimal(&mut self, value: u64) {
        let (high, low) = (value / 1_000_000, (value % 1_000_000) as u32);
        if high >= 1_000_000 {
            self.long_decimal(high);
        } else {
            let (text, length) = digits::short(high as u32);
            self.front(&text, length);
        }
        self.ascii(&digits::six(low));
    }

    /// 16 bytes in hexadecimal, the first one first.
    pub(super) fn hex(&mut self, bytes: u128) {
        self.ascii(&digits::hex(bytes));
    }

    /// Nanoseconds since the Unix epoch, as RFC 3339 in UTC. Returns the text.
    #[inline]
    pub(super) fn timestamp(&mut self, unix_ns: i64) -> [u8; 30] {
        let text = self.calendar.rfc3339(unix_ns);
        self.ascii(&text);
        text
    }

    /// An address; returns where it stands, to be said again.
    #[inline]
    pub(super) fn address(&mut self, ip: IpAddr) -> Mention {
        let start = self.at;
        match ip {
            IpAddr::V4(ip) => {
                let (text, length) = address::v4(ip);
                self.front(&text, length);
            }
            IpAddr::V6(ip) => {
                let (text, length) = address::v6(ip);
                self.front(&text, length);
            }
        }
        Mention { start, length: self.at.wrapping_sub(start) }
    }

    /// Says again what was said before in this line, of which only text of the agent's own stands before it.
    #[inline]
    pub(super) fn again(&mut self, mention: Mention) {
        let (start, length) = (mention.start as usize, mention.length as usize);
        let said = self.draft.get(start..).and_then(<[u8]>::first_chunk::<{ address::LENGTH }>);
        let Some(&said) = said else { return };
        match said.first_chunk::<16>() {
            Some(text) if length <= text.len() => self.front(text, length),
            _ => self.front(&said, length),
        }
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

/// Where something stands in the draft.
#[derive(Clone, Copy)]
pub(super) struct Mention {
    start: u32,
    length: u32,
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
    use proptest::prelude::*;

    use super::*;

    fn written(write: impl FnOnce(&mut Writer<'_>)) -> String {
        let (mut draft, mut calendar, mut out) = (Draft::new(), Calendar::new(), Vec::new());
        let writer = &mut Writer::new(&mut draft, &mut calendar, &mut out);
        write(writer);
        writer.finish();
        String::from_utf8(out).unwrap()
    }

    proptest! {
        #[test]
        fn any_number_is_written_as_the_standard_library_does(value: u64, shift in 0u32..64) {
            let value = value >> shift;
            prop_assert_eq!(written(|writer| writer.number("", value)), value.to_string());
        }

        #[test]
        fn what_does_not_fit_into_the_draft_comes_out_in_its_order(pieces in prop::collection::vec("[a-z]{0,900}", 0..16)) {
            let all = written(|writer| pieces.iter().for_each(|piece| {
                writer.number("", 7);
                writer.escaped(piece);
            }));
            let expected: String = pieces.iter().map(|piece| format!("7{piece}")).collect();
            prop_assert_eq!(all, expected);
        }
    }

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
