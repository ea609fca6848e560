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
        self.items.iter().fold(Weight::default(), |mut sum, (_, weight)| {
            sum += *weight;
            sum
        })
    }
}
