//! What became of one try to deliver a request.

use std::time::Duration;

/// An item that the server will never take.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GivenUp {
    /// Its position in the request.
    pub position: usize,
    /// Why, in the server's words as far as they are known; free of secrets.
    pub reason: String,
}

/// What became of one try.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// All items are stored.
    Delivered,
    /// All are stored but these.
    Partly {
        /// Positions to send again.
        again: Vec<usize>,
        /// Why those are not stored, as a person can act on it; free of secrets. Not asked for if there are none.
        reason: String,
        /// Items that the server will never take.
        given_up: Vec<GivenUp>,
        /// How long the server wants to be left alone.
        retry_after: Option<Duration>,
    },
    /// None is stored, or none is known to be; all are to be sent again.
    NotNow {
        /// Why, as a person can act on it; free of secrets.
        reason: String,
        /// How long the server wants to be left alone.
        retry_after: Option<Duration>,
        /// The answer never came: the server may have stored them.
        in_doubt: bool,
    },
    /// No answer came in time: the server may have stored all items. Smaller requests may be answered sooner.
    NoAnswer {
        /// For how long it was waited.
        reason: String,
    },
    /// The request is too large for the server: smaller ones may pass.
    TooLarge {
        /// The server's words.
        reason: String,
    },
}

impl Outcome {
    /// How long the server wants to be left alone, if it said so.
    pub(super) const fn retry_after(&self) -> Option<Duration> {
        match self {
            Self::Partly { retry_after, .. } | Self::NotNow { retry_after, .. } => *retry_after,
            Self::Delivered | Self::NoAnswer { .. } | Self::TooLarge { .. } => None,
        }
    }
}
