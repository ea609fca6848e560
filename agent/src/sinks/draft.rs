//! A line that is put together before it is appended to a buffer: text, numbers, addresses.
//!
//! Whoever writes says commas, quotes and keys as text that is known when the agent is built; what they go with is
//! appended without them. What only one format has, like its escapes, stands beside that format.

use std::net::IpAddr;

use super::{address, digits};

/// Room for a line but for [`Said`] and other text of any length, which go out by themselves where they do not fit. All
/// else that a line has is less than half of it.
const ROOM: usize = 4_096;

/// The longest piece of fixed size.
const PIECE: usize = 256;

/// What a line has of characters while it is put together.
pub(super) struct Draft([u8; ROOM + PIECE]);

impl Default for Draft {
    fn default() -> Self {
        Self([0; ROOM + PIECE])
    }
}

/// One line. It is put together in memory of a fixed size, so that a piece costs its copy and nothing else: nothing is
/// compared, and nothing that is called changes where the line has got to, so that stays in a register.
pub(super) struct Line<'a> {
    draft: &'a mut [u8; ROOM + PIECE],
    /// Characters in the draft.
    at: usize,
    out: &'a mut Vec<u8>,
}

/// Text that stands in many lines, in pieces that are copied whole.
#[derive(Clone, Debug, Default)]
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

/// Where something stands in the draft.
#[derive(Clone, Copy)]
pub(super) struct Mention {
    start: usize,
    length: usize,
}

impl<'a> Line<'a> {
    pub(super) const fn new(draft: &'a mut Draft, out: &'a mut Vec<u8>) -> Self {
        Self { draft: &mut draft.0, at: 0, out }
    }

    /// Appends it to the buffer.
    #[inline(always)]
    pub(super) fn finish(self) {
        self.out.extend_from_slice(self.draft.get(..self.at).unwrap_or_default());
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
    pub(super) fn front<const N: usize>(&mut self, text: &[u8; N], length: usize) {
        if let Some(place) = self.place() {
            *place = *text;
        }
        self.at += length;
    }

    /// Where the next piece goes.
    #[inline(always)]
    fn place<const N: usize>(&mut self) -> Option<&mut [u8; N]> {
        const { assert!(N <= PIECE) };
        let start = self.at & (ROOM - 1);
        self.draft.get_mut(start..start + N)?.as_mut_array()
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

    /// UTF-8 of any length as it is; up to 32 bytes, but a single one, without a call.
    #[inline(always)]
    pub(super) fn text(&mut self, text: &[u8]) {
        match text.len() {
            16..=32 => self.ends::<16>(text),
            8..16 => self.ends::<8>(text),
            4..8 => self.ends::<4>(text),
            2..4 => self.ends::<2>(text),
            _ => self.bytes(text),
        }
    }

    /// Text of `N` to twice as many bytes: its first ones and its last ones, some of them twice.
    #[inline(always)]
    fn ends<const N: usize>(&mut self, text: &[u8]) {
        if self.at + text.len() > ROOM / 2 {
            return self.long(text);
        }
        if let (Some(first), Some(last)) = (text.first_chunk::<N>(), text.last_chunk::<N>()) {
            self.front(first, text.len() - N);
            self.ascii(last);
        }
    }

    #[inline(always)]
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

    /// A number with what stands before it.
    #[inline(always)]
    pub(super) fn number(&mut self, before: &'static str, value: u64) {
        self.raw(before);
        if value < 1_000_000 {
            let (text, length) = digits::short(value as u32);
            self.front(&text, length);
        } else {
            self.long_number(value);
        }
    }

    /// A number of which the last six digits are not all.
    #[inline(always)]
    fn long_number(&mut self, value: u64) {
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
    #[inline(always)]
    pub(super) fn hex(&mut self, bytes: u128) {
        self.ascii(&digits::hex(bytes));
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
                if let Some(place) = self.place() {
                    self.at += address::v6(&ip.octets(), place);
                }
            }
        }
        self.since(start)
    }

    /// How far the line has got, for [`Line::since`].
    #[inline(always)]
    pub(super) const fn at(&self) -> usize {
        self.at
    }

    /// What was written since then.
    #[inline(always)]
    pub(super) const fn since(&self, start: usize) -> Mention {
        Mention { start, length: self.at.wrapping_sub(start) }
    }

    /// Says again what was said before in this line. Text of any length may not stand between the two: it may have gone
    /// out with what was before it.
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
}

/// Text in its order.
#[cold]
#[inline(never)]
fn hand_out(first: &[u8], second: &[u8], out: &mut Vec<u8>) {
    out.extend_from_slice(first);
    out.extend_from_slice(second);
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn written(write: impl FnOnce(&mut Line<'_>)) -> String {
        let (mut draft, mut out) = (Draft::default(), Vec::new());
        let mut line = Line::new(&mut draft, &mut out);
        write(&mut line);
        line.finish();
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn text_of_any_length_is_written_in_full() {
        let text: String = ('!'..='~').collect();
        for length in 0..text.len() {
            let text = &text[..length];
            let said = Said::new(text.as_bytes());
            let all = written(|line| {
                line.text(text.as_bytes());
                line.said(&said);
                line.raw(".");
            });
            assert_eq!(all, format!("{text}{text}."));
        }
    }

    proptest! {
        #[test]
        fn any_number_is_written_as_the_standard_library_does(value: u64, shift in 0u32..64) {
            let value = value >> shift;
            prop_assert_eq!(written(|line| line.number("", value)), value.to_string());
        }

        #[test]
        fn what_does_not_fit_into_the_draft_comes_out_in_its_order(pieces in prop::collection::vec("[a-z]{0,900}", 0..16)) {
            let all = written(|line| pieces.iter().for_each(|piece| {
                line.number("", 7);
                line.text(piece.as_bytes());
            }));
            let expected: String = pieces.iter().map(|piece| format!("7{piece}")).collect();
            prop_assert_eq!(all, expected);
        }
    }
}
