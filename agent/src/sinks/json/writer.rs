//! Pieces of a line appended to a byte buffer: text, escapes, numbers, timestamps, addresses.
//!
//! Whoever writes says commas, quotes and keys as text that is known when the agent is built; what they go with is
//! appended without them.

use std::net::IpAddr;

use super::super::time::{Calendar, Pieces};
use super::super::{address, digits};

/// Room for a line but for [`Said`] and escaped text, which go out by themselves where they do not fit. All else that a
/// line has is less than half of it.
const ROOM: usize = 4_096;

/// The longest piece of fixed size.
const PIECE: usize = 256;

/// What a line has of characters while it is put together.
pub(super) struct Draft([u8; ROOM + PIECE]);

impl Draft {
    pub(super) const fn new() -> Self {
        Self([0; ROOM + PIECE])
    }
}

/// Appends to one line. It is put together in memory of a fixed size, so that a piece costs its copy and nothing else:
/// nothing is compared, and nothing that is called changes where the line has got to, so that stays in a register.
pub(super) struct Writer<'a> {
    draft: &'a mut [u8; ROOM + PIECE],
    /// Characters in the draft.
    at: usize,
    calendars: &'a mut Calendars,
    out: &'a mut Vec<u8>,
}

/// One for the moments of records, which follow each other, and one for the moments before them.
pub(super) struct Calendars {
    now: Calendar,
    before: Calendar,
}

impl Calendars {
    pub(super) const fn new() -> Self {
        Self { now: Calendar::new(), before: Calendar::new() }
    }
}

/// Text that stands in many lines, in pieces that are copied whole.
#[derive(Default)]
pub(super) struct Said {
    pieces: Vec<[u8; 32]>,
    length: usize,
}

impl Said {
    pub(super) fn new(text: &[u8]) -> Self {
        let mut said = Self::default();
        said.set(text);
        said
    }

    /// Another text, in the same memory.
    pub(super) fn set(&mut self, text: &[u8]) {
        let pieces = text.chunks(32).map(|part| {
            let mut piece = [0; 32];
            piece.iter_mut().zip(part).for_each(|(place, byte)| *place = *byte);
            piece
        });
        self.pieces.clear();
        self.pieces.extend(pieces);
        self.length = text.len();
    }

    pub(super) const fn is_empty(&self) -> bool {
        self.length == 0
    }

    fn text(&self) -> &[u8] {
        self.pieces.as_flattened().get(..self.length).unwrap_or_default()
    }
}

impl<'a> Writer<'a> {
    pub(super) const fn new(
        draft: &'a mut Draft,
        calendars: &'a mut Calendars,
        out: &'a mut Vec<u8>,
    ) -> Self {
        Self { draft: &mut draft.0, at: 0, calendars, out }
    }

    /// Hands out what was written.
    #[inline(always)]
    pub(super) fn finish(&mut self) {
        self.out.extend_from_slice(self.draft.get(..self.at).unwrap_or_default());
        self.at = 0;
    }

    /// Text of the agent's own as it is.
    #[inline(always)]
    pub(super) fn raw(&mut self, text: &'static str) {
        let start = self.at & (ROOM - 1);
        match self.draft.get_mut(start..start + text.len()) {
            Some(place) => place.copy_from_slice(text.as_bytes()),
            None => debug_assert!(false, "longer than a piece: {text}"),
        }
        self.at += text.len();
    }

    /// ASCII as it is.
    #[inline(always)]
    pub(super) fn ascii<const N: usize>(&mut self, text: &[u8; N]) {
        self.front(text, N);
    }

    /// The first characters of a text. To copy a fixed size is cheaper than to copy exactly; what is too much of it
    /// is overwritten by what follows.
    #[inline(always)]
    fn front<const N: usize>(&mut self, text: &[u8; N], length: usize) {
        put(self.draft, &mut self.at, text, length);
    }

    /// What was prepared.
    #[inline(always)]
    pub(super) fn said(&mut self, said: &Said) {
        if self.at + said.length > ROOM / 2 {
            return self.long(said.text());
        }
        let start = self.at;
        for piece in &said.pieces {
            self.ascii(piece);
        }
        self.at = start + said.length;
    }

    /// UTF-8 as it is.
    fn bytes(&mut self, text: &[u8]) {
        let end = self.at + text.len();
        match self.draft.get_mut(self.at..end) {
            Some(place) if end <= ROOM / 2 => {
                place.copy_from_slice(text);
                self.at = end;
            }
            _ => self.long(text),
        }
    }

    /// Text that may be too long for the draft.
    #[inline(always)]
    fn long(&mut self, text: &[u8]) {
        hand_out(self.draft.get(..self.at).unwrap_or_default(), text, self.out);
        self.at = 0;
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
                _ => self.bytes(bytes),
            },
        }
    }

    /// Text that may hold anything.
    pub(super) fn escaped(&mut self, text: &str) {
        if needs_escapes(text.as_bytes()) {
            text.bytes().for_each(|byte| self.escape(byte));
        } else {
            self.bytes(text.as_bytes());
        }
    }

    /// A number with what stands before it.
    #[inline(always)]
    pub(super) fn number(&mut self, before: &'static str, value: u64) {
        self.raw(before);
        if value < 1_000_000 {
            let (text, length) = digits::short(value as u32);
            self.front(&text, length);
        } else {
            self.long_decimal(value);
        }
    }

    /// A number of which the last six digits are not all.
    #[inline(always)]
    fn long_decimal(&mut self, value: u64) {
        let (high, low) = (value / 1_000_000, (value % 1_000_000) as u32);
        if high >= 1_000_000 {
            let (higher, middle) = (high / 1_000_000, (high % 1_000_000) as u32);
            if higher >= 1_000_000 {
                let (text, length) = digits::short((higher / 1_000_000) as u32);
                self.front(&text, length);
                self.front(&digits::six((higher % 1_000_000) as u32), 6);
            } else {
                let (text, length) = digits::short(higher as u32);
                self.front(&text, length);
            }
            self.front(&digits::six(middle), 6);
        } else {
            let (text, length) = digits::short(high as u32);
            self.front(&text, length);
        }
        self.front(&digits::six(low), 6);
    }

    /// 16 bytes in hexadecimal, the first one first.
    pub(super) fn hex(&mut self, bytes: u128) {
        for digits in digits::hex(bytes) {
            self.ascii(&digits);
        }
    }

    /// The moment of a record in nanoseconds since the Unix epoch, as RFC 3339 in UTC; returns where it stands.
    #[inline(always)]
    pub(super) fn moment(&mut self, unix_ns: i64) -> Mention {
        let start = self.at;
        let moment = self.calendars.now.rfc3339(unix_ns);
        put_moment(self.draft, &mut self.at, moment);
        Mention { start, length: self.at - start }
    }

    /// The same of a moment before that.
    #[inline(always)]
    pub(super) fn moment_before(&mut self, unix_ns: i64) {
        let moment = self.calendars.before.rfc3339(unix_ns);
        put_moment(self.draft, &mut self.at, moment);
    }

    /// An address; returns where it stands, to be said again.
    #[inline(always)]
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
    #[inline(always)]
    pub(super) fn again(&mut self, mention: Mention) {
        let Mention { start, length } = mention;
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
            b'"' | b'\\' => self.bytes(&[b'\\', byte]),
            0..=0x1F => {
                self.bytes(b"\\u00");
                self.bytes(&[digits::hex_digit(byte >> 4), digits::hex_digit(byte & 15)]);
            }
            _ => self.bytes(&[byte]),
        }
    }
}

/// See [`Writer::front`].
#[inline(always)]
fn put<const N: usize>(draft: &mut [u8; ROOM + PIECE], at: &mut usize, text: &[u8; N], length: usize) {
    const { assert!(N <= PIECE) };
    let start = *at & (ROOM - 1);
    if let Some(place) = draft.get_mut(start..start + N) {
        place.copy_from_slice(text);
    }
    *at += length;
}

#[inline(always)]
fn put_moment(draft: &mut [u8; ROOM + PIECE], at: &mut usize, (seconds, eight, two): Pieces<'_>) {
    put(draft, at, seconds, seconds.len());
    put(draft, at, &eight, eight.len());
    put(draft, at, &two, two.len());
}

/// Where something stands in the draft.
#[derive(Clone, Copy)]
pub(super) struct Mention {
    start: usize,
    length: usize,
}

/// Text in its order.
#[cold]
#[inline(never)]
fn hand_out(first: &[u8], second: &[u8], out: &mut Vec<u8>) {
    out.extend_from_slice(first);
    out.extend_from_slice(second);
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
        let (mut draft, mut calendars, mut out) = (Draft::new(), Calendars::new(), Vec::new());
        let writer = &mut Writer::new(&mut draft, &mut calendars, &mut out);
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
