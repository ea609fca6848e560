//! Items that travel together.

use super::Weight;

/// One request: encoded once, and cut when only some of its items have to be sent again.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Request {
    /// The encoded items, one after the other.
    pub body: Vec<u8>,
    /// Where in `body` each item ends, ascending, and what it weighs.
    pub items: Vec<(u32, Weight)>,
    /// Tries before this one.
    pub attempt: u32,
    /// A try of these items got no answer: the server may have stored them.
    pub in_doubt: bool,
}

impl Request {
    /// The encoded item at a position.
    #[must_use]
    pub fn piece(&self, position: usize) -> Option<&[u8]> {
        let begin = match position.checked_sub(1) {
            Some(before) => self.items.get(before)?.0 as usize,
            None => 0,
        };
        self.body.get(begin..self.items.get(position)?.0 as usize)
    }

    /// What all its items weigh.
    #[must_use]
    pub fn weight(&self) -> Weight {
        self.weight_where(|_| true)
    }

    /// The same with some of its items only; positions ascending.
    #[must_use]
    pub fn only(&self, positions: &[usize]) -> Self {
        let mut cut = Self { body: Vec::new(), items: Vec::with_capacity(positions.len()), ..*self };
        for position in positions {
            let (Some(piece), Some((_, weight))) = (self.piece(*position), self.items.get(*position)) else {
                continue;
            };
            cut.body.extend_from_slice(piece);
            // It is no longer than the body it comes from.
            cut.items.push((cut.body.len() as u32, *weight));
        }
        cut
    }

    /// Its two halves.
    #[must_use]
    pub fn halves(&self) -> [Self; 2] {
        let middle = self.items.len().div_ceil(2);
        let part = |range: std::ops::Range<usize>| self.only(&range.collect::<Vec<_>>());
        [part(0..middle), part(middle..self.items.len())]
    }

    /// What some of its items weigh.
    #[must_use]
    pub fn weight_where(&self, is_meant: impl Fn(usize) -> bool) -> Weight {
        let meant = self.items.iter().enumerate().filter(|(position, _)| is_meant(*position));
        meant.fold(Weight::default(), |mut sum, (_, (_, weight))| {
            sum += *weight;
            sum
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(pieces: &[&str]) -> Request {
        let mut request = Request { attempt: 3, in_doubt: true, ..Request::default() };
        for (index, piece) in pieces.iter().enumerate() {
            request.body.extend_from_slice(piece.as_bytes());
            let weight = Weight { records: 1 << index, ..Weight::default() };
            request.items.push((request.body.len() as u32, weight));
        }
        request
    }

    #[test]
    fn a_piece_is_what_was_encoded_of_one_item() {
        let request = request(&["a", "", "bcd"]);
        let pieces: Vec<_> = (0..4).map(|position| request.piece(position)).collect();
        assert_eq!(pieces, [Some(&b"a"[..]), Some(b""), Some(b"bcd"), None]);
        assert_eq!(request.weight().records, 7);
        assert_eq!(request.weight_where(|position| position != 1).records, 5);
    }

    #[test]
    fn a_cut_keeps_the_pieces_as_they_are_and_what_was_tried() {
        let cut = request(&["a", "bc", "def"]).only(&[0, 2, 9]);
        assert_eq!((cut.body.as_slice(), cut.items.len()), (&b"adef"[..], 2));
        assert_eq!((cut.piece(1), cut.weight().records), (Some(&b"def"[..]), 5));
        assert_eq!((cut.attempt, cut.in_doubt), (3, true));
    }

    #[test]
    fn halves_are_the_whole() {
        for count in 2..9 {
            let pieces: Vec<_> = (0..count).map(|n| n.to_string()).collect();
            let whole = request(&pieces.iter().map(String::as_str).collect::<Vec<_>>());
            let [first, second] = whole.halves();
            assert!(!first.items.is_empty() && !second.items.is_empty());
            assert_eq!([first.body, second.body].concat(), whole.body);
        }
    }
}
