//! Line protocol, piece by piece: tags with their escapes, whole numbers, timestamps.
//!
//! <https://docs.influxdata.com/influxdb/v2/reference/syntax/line-protocol/>

use std::cell::Cell;

use super::super::draft::{Draft, Line};

thread_local! {
    /// Where lines are put together, one at a time: too much memory to be cleared for each of them.
    static DRAFT: Cell<Option<Box<Draft>>> = const { Cell::new(None) };
}

/// Appends the line that is written there.
#[inline(always)]
pub(super) fn append(out: &mut Vec<u8>, write: impl FnOnce(&mut Line<'_>)) {
    let mut draft = DRAFT.take().unwrap_or_default();
    let mut line = Line::new(&mut draft, out);
    write(&mut line);
    line.finish();
    DRAFT.set(Some(draft));
}

impl Line<'_> {
    /// A tag. `before` is its comma, its key and `=`; a tag without a value is none.
    #[inline(always)]
    pub(super) fn tag(&mut self, before: Key, value: &str) {
        if value.is_empty() {
            return;
        }
        self.front(&before.text, before.length);
        if needs_escapes(value.as_bytes()) {
            self.text(escape(value).as_bytes());
        } else {
            self.text(value.as_bytes());
        }
    }

    /// An integer field. `before` is what separates it, its key and `=`. Beyond 2^63 - 1, which is as much as the
    /// database can hold, it is that: eight exbibytes in one interval.
    #[inline(always)]
    pub(super) fn field(&mut self, before: &'static str, value: u64) {
        self.number(before, value.min(i64::MAX.unsigned_abs()));
        self.ascii(b"i");
    }

    /// The timestamp in nanoseconds since the Unix epoch, and the line's end.
    #[inline(always)]
    pub(super) fn timestamp(&mut self, unix_ns: i64) {
        // Each by itself, so that its length is known.
        if unix_ns < 0 {
            self.number(" -", unix_ns.unsigned_abs());
        } else {
            self.number(" ", unix_ns.unsigned_abs());
        }
        self.ascii(b"\n");
    }
}

/// A tag's comma, its key and `=`, to be copied whole.
#[derive(Clone, Copy)]
pub(super) struct Key {
    text: [u8; 16],
    length: usize,
}

impl Key {
    /// At most 16 characters, as the compiler finds out.
    pub(super) const fn new(text: &str) -> Self {
        assert!(text.len() <= 16, "too long a key");
        let mut key = Self { text: [0; 16], length: text.len() };
        if let Some((place, _)) = key.text.split_at_mut_checked(text.len()) {
            place.copy_from_slice(text.as_bytes());
        }
        key
    }
}

/// Looks at eight bytes at a time.
#[inline(always)]
fn needs_escapes(text: &[u8]) -> bool {
    let (words, rest) = text.as_chunks::<8>();
    // The last eight may hold some that are looked at twice.
    match text.last_chunk::<8>() {
        Some(last) => words.iter().chain([last]).any(|word| has_special(u64::from_ne_bytes(*word))),
        None => rest.iter().any(|&byte| is_special(byte)),
    }
}

/// Whether one of eight bytes is special.
const fn has_special(word: u64) -> bool {
    const ONES: u64 = u64::from_ne_bytes([1; 8]);
    /// The highest bit of a byte that is this one, unless it was set before.
    const fn is(word: u64, byte: u8) -> u64 {
        (word ^ (ONES * byte as u64)).wrapping_sub(ONES)
    }
    let below_comma = word.wrapping_sub(ONES * (b' ' as u64 + 1));
    let one = is(word, b',') | is(word, b'=') | is(word, b'\\') | is(word, 0x7F);
    (below_comma | one) & !word & (ONES << 7) != 0
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
    fn what_needs_an_escape_is_found_wherever_it_stands() {
        for byte in 0..=255 {
            for length in 1..20 {
                for position in 0..length {
                    let mut text = vec![b'a'; length];
                    text[position] = byte;
                    assert_eq!(needs_escapes(&text), is_special(byte), "{byte} at {position} of {length}");
                }
            }
        }
    }

    #[test]
    fn a_tag_without_a_value_is_left_out() {
        let mut out = Vec::new();
        append(&mut out, |line| {
            line.raw("m");
            line.tag(Key::new(",a="), "");
            line.tag(Key::new(",b="), "x y");
            line.field(" n=", u64::MAX);
            line.timestamp(-5);
        });
        assert_eq!(String::from_utf8(out).unwrap(), "m,b=x\\ y n=9223372036854775807i -5\n");
    }

    #[test]
    fn a_line_that_is_longer_than_its_room_is_written_in_full() {
        let (mut out, long) = (b"before\n".to_vec(), "y".repeat(10_000));
        for _ in 0..3 {
            append(&mut out, |line| {
                line.raw("m");
                line.tag(Key::new(",long="), &long);
                line.raw(",id=");
                line.hex(7);
                line.field(" n=", 1_234_567_890);
                line.timestamp(1_795_168_800_000_000_001);
            });
        }
        let expected = format!("m,long={long},id={:032x} n=1234567890i 1795168800000000001\n", 7);
        assert_eq!(String::from_utf8(out).unwrap(), format!("before\n{}", expected.repeat(3)));
    }
}
