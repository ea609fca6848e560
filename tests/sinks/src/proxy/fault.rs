//! What a proxy can do to a request that servers will not do when asked.

use std::borrow::Cow;
use std::time::Duration;

/// The body of answers that only their status tells apart.
pub(super) const SAID: &str = "{\"error\":\"said by the proxy of the test\"}";

/// What happens to one request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fault {
    /// Nothing: it is forwarded, and so is the answer.
    Pass,
    /// The proxy answers; the server never sees it.
    Answer {
        /// Status code.
        status: u16,
        /// Value of `Retry-After`.
        retry_after: Option<Cow<'static, str>>,
        /// Body.
        body: &'static str,
    },
    /// The server has taken it; the proxy answers as if it had not.
    AnswerLate {
        /// Status code.
        status: u16,
        /// Value of `Retry-After`.
        retry_after: Option<Cow<'static, str>>,
    },
    /// The connection is reset while the request is being sent; the server never sees it.
    ResetRequest,
    /// The server has taken it, but the connection is reset before the answer.
    ResetAnswer,
    /// The server has taken it; the connection closes half-way through the answer.
    Truncate,
    /// The server has taken it; the answer comes byte by byte, with a pause after each.
    Trickle(Duration),
    /// The server never sees it; the proxy stops sending at once, but leaves the connection open.
    HalfClose,
    /// The server never sees it; nothing is ever answered.
    Silence,
    /// The server never sees it; what is answered is not HTTP.
    Garbage,
    /// The server has taken it; the answer has another body of the same length.
    ScrambleBody,
}

impl Fault {
    /// An answer of that status, with a body that tells it.
    #[must_use]
    pub const fn status(status: u16) -> Self {
        Self::Answer { status, retry_after: None, body: SAID }
    }

    /// The same, asking for a pause.
    #[must_use]
    pub fn busy(status: u16, retry_after: impl Into<Cow<'static, str>>) -> Self {
        Self::Answer { status, retry_after: Some(retry_after.into()), body: SAID }
    }

    /// Whether the server may have stored what the client cannot know to be stored.
    #[must_use]
    pub const fn leaves_doubt(&self) -> bool {
        matches!(
            self,
            Self::ResetAnswer
                | Self::Truncate
                | Self::Trickle(_)
                | Self::ScrambleBody
                | Self::AnswerLate { .. }
        )
    }
}
