//! Line protocol, piece by piece: tags with their escapes, whole numbers, timestamps.
//!
//! <https://docs.influxdata.com/influxdb/v2/reference/syntax/line-protocol/>

use std::net::IpAddr;

use super::super::{address, digits};

/// Room that is made for a line at once; more than nearly all take.
const ROOM: usize = 640;

/// One line that is being appended to a buffer. What is copied has a fixed size wherever it can, which is cheaper than
/// to copy exactly: what is too much is overwritten by what follows.
pub(super) struct Line<'a> {
    out: &'a mut Vec<u8>,
    /// Where the line ends so far; behind it are zeros.
    at: usize,
}

impl<'a> Line<'a> {
    /// Begins one.
    pub(super) fn new(out: &'a mut Vec<u8>) -> Self {
        let at = out.len();
        out.resize(at + ROOM, 0);
        Self { out, at }
    }

    /// Ends it, with its timestamp in nanoseconds since the Unix epoch.
    pub(super) fn finish(mut self, unix_ns: i64) {
        self.raw(if unix_ns < 0 { b" -" } else { b" " });
        self.decimal(unix_ns.unsigned_abs());
        self.raw(b"\n");
        self.out.truncate(self.at);
    }

    /// Text that needs no escapes.
    #[inline(always)]
    pub(super) fn raw(&mut self, text: &[u8]) {
        match self.out.get_mut(self.at..self.at + text.len()) {
            Some(place) => place.copy_from_slice(text),
            None => self.overflow(text),
        }
        self.at += text.len();
    }

    /// The first characters of a text.
    #[inline(always)]
    fn front<const N: usize>(&mut self, text: &[u8; N], length: usize) {
        match self.out.get_mut(self.at..).and_then(<[u8]>::first_chunk_mut) {
            Some(place) => *place = *text,
            None => self.overflow(text),
        }
        self.at += length;
    }

    /// Makes more room, and puts the text there.
    #[cold]
    #[inline(never)]
    fn overflow(&mut self, text: &[u8]) {
        self.out.truncate(self.at);
        self.out.extend_from_slice(text);
        self.out.resize(self.at + text.len() + ROOM, 0);
    }

    /// A tag. `before` is its comma, its key and `=`; a tag without a value is none.
    pub(super) fn tag(&mut self, before: &[u8], value: &str) {
        if value.is_empty() {
            return;
        }
        self.raw(before);
        if value.bytes().any(is_special) { self.escaped(value) } else { self.raw(value.as_bytes()) }
    }

    /// A tag of which the value is a number.
    #[inline(always)]
    pub(super) fn number_tag(&mut self, before: &[u8], value: u32) {
        self.raw(before);
        self.decimal(u64::from(value));
    }

    /// A tag of which the value is an address.
    #[inline]
    pub(super) fn address_tag(&mut self, before: &[u8], ip: IpAddr) {
        self.raw(before);
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
    }

    /// A tag of which the value is 16 bytes in hexadecimal.
    #[inline]
    pub(super) fn hex_tag(&mut self, before: &[u8], value: u128) {
        self.raw(before);
        self.raw(digits::hex(value).as_flattened());
    }

    /// An integer field. `before` is what separates it, its key and `=`. Beyond 2^63 - 1, which is as much as the
    /// database can hold, it is that: eight exbibytes in one interval.
    #[inline(always)]
    pub(super) fn field(&mut self, before: &[u8], value: u64) {
        self.raw(before);
        self.decimal(value.min(i64::MAX.unsigned_abs()));
        self.front(b"i", 1);
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
        self.decimal(high);
        self.front(&digits::six(low), 6);
    }

    #[cold]
    fn escaped(&mut self, text: &str) {
        self.raw(escape(text).as_bytes());
    }
}

/// Whether a character of a tag cannot stand as it is everywhere.
const fn is_special(byte: u8) -> bool {
    matches!(byte, b',' | b'=' | b' ' | b'\\' | 0..=0x1F | 0x7F)
}

/// A name or a value with its escapes.
///
/// Commas, equal signs and spaces have a backslash before them. Line protocol has no way to say a line's end, nor a
/// backslash that does not stand before a plain character: servers read it as the escape of what follows, and do not
/// agree on two in a row. A line's end becomes `\n`, as in InfluxData's own clients, such a backslash U+FF3C, and the
/// other control characters become their pictures from U+2400 on.
pub(super) fn escape(text: &str) -> String {
    let mut escaped = String::with_capacity(2 * text.len());
    let mut rest = text.chars();
    while let Some(c) = rest.next() {
        match c {
            ',' | '=' | ' ' => escaped.extend(['\\', c]),
            '\n' => escaped.push_str("\\n"),
            '\r' => escaped.push_str("\\r"),
            '\t' => escaped.push_str("\\t"),
            '\\' => {
                let is_alone = rest.as_str().bytes().next().is_some_and(|next| !is_special(next));
                escaped.push(if is_alone { '\\' } else { '\u{FF3C}' });
            }
            '\0'..='\u{1F}' => escaped.extend(char::from_u32(0x2400 + u32::from(c))),
            '\u{7F}' => escaped.push('\u{2421}'),
            _ => escaped.push(c),
        }
    }
    escaped
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_escape_is_as_line_protocol_wants_it() {
        for (text, expected) in [
            ("plain-ü.7/24", "plain-ü.7/24"),
            ("a b,c=d", "a\\ b\\,c\\=d"),
            ("two\nlines\r\n\tx", "two\\nlines\\r\\n\\tx"),
            ("in\\side", "in\\side"),
            ("end\\", "end＼"),
            ("before\\,", "before＼\\,"),
            ("two\\\\", "two＼＼"),
            ("line\\\n", "line＼\\n"),
            ("nul\0del\x7f", "nul␀del␡"),
        ] {
            assert_eq!(escape(text), expected, "{text:?}");
        }
    }

    #[test]
    fn a_tag_without_a_value_is_left_out() {
        let mut out = Vec::new();
        let mut line = Line::new(&mut out);
        line.raw(b"m");
        line.tag(b",a=", "");
        line.tag(b",b=", "x y");
        line.field(b" n=", u64::MAX);
        line.finish(-5);
        assert_eq!(String::from_utf8(out).unwrap(), "m,b=x\\ y n=9223372036854775807i -5\n");
    }

    #[test]
    fn a_line_that_is_longer_than_its_room_is_written_in_full() {
        let (mut out, long) = (b"before\n".to_vec(), "y".repeat(10 * ROOM));
        for _ in 0..3 {
            let mut line = Line::new(&mut out);
            line.raw(b"m");
            line.tag(b",long=", &long);
            line.hex_tag(b",id=", 7);
            line.field(b" n=", 1_234_567_890);
            line.finish(1_795_168_800_000_000_001);
        }
        let expected = format!("m,long={long},id={:032x} n=1234567890i 1795168800000000001\n", 7);
        assert_eq!(String::from_utf8(out).unwrap(), format!("before\n{}", expected.repeat(3)));
    }
}
