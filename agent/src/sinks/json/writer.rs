//! What a line of JSON has beside text and numbers: escapes, moments, lists of words.

use super::super::digits;
use super::super::draft::{Line, Mention};
use super::super::time::Calendar;

impl Line<'_> {
    /// Text that may hold anything.
    #[inline(always)]
    pub(super) fn escaped(&mut self, text: &str) {
        if needs_escapes(text.as_bytes()) {
            text.bytes().for_each(|byte| self.escape(byte));
        } else {
            self.text(text.as_bytes());
        }
    }

    #[inline(always)]
    fn escape(&mut self, byte: u8) {
        match byte {
            b'"' | b'\\' => self.text(&[b'\\', byte]),
            0..=0x1F => {
                self.text(b"\\u00");
                self.text(&[digits::hex_digit(byte >> 4), digits::hex_digit(byte & 15)]);
            }
            _ => self.text(&[byte]),
        }
    }

    /// A moment in nanoseconds since the Unix epoch, as RFC 3339 in UTC; returns where it stands.
    #[inline(always)]
    pub(super) fn moment(&mut self, calendar: &mut Calendar, unix_ns: i64) -> Mention {
        let start = self.at();
        let (seconds, eight, two) = calendar.rfc3339(unix_ns);
        self.ascii(seconds);
        self.ascii(&eight);
        self.ascii(&two);
        self.since(start)
    }

    /// The items, in quotes.
    #[inline(always)]
    pub(super) fn quoted(&mut self, names: impl Iterator<Item = &'static str>) {
        let mut before = "\"";
        for name in names {
            self.raw(before);
            self.text(name.as_bytes());
            self.raw("\"");
            before = ",\"";
        }
    }
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
