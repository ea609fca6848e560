//! What a server answered.

use std::time::{Duration, SystemTime};

use reqwest::header::{HeaderMap, LOCATION, RETRY_AFTER};

use super::{Failure, retry_after};

/// How much of an answer is worth saying.
const SAID: usize = 400;

/// An answer, whatever its status.
#[derive(Clone, Debug, Default)]
pub struct Answer {
    /// The HTTP status.
    pub status: u16,
    /// The headers.
    pub headers: HeaderMap,
    /// The body as far as it came and was wanted.
    pub body: Vec<u8>,
    /// Why there is no more of the body, if there should be.
    pub cut: Option<Failure>,
}

impl Answer {
    /// Reads at most `most` bytes of the body.
    pub(super) async fn read(mut response: reqwest::Response, most: usize) -> Self {
        let headers = std::mem::take(response.headers_mut());
        let mut answer = Self { status: response.status().as_u16(), headers, ..Self::default() };
        while answer.body.len() < most {
            match response.chunk().await {
                Ok(Some(chunk)) => answer.body.extend_from_slice(&chunk),
                Ok(None) => break,
                Err(error) => {
                    answer.cut = Some(error.into());
                    break;
                }
            }
        }
        answer.body.truncate(most);
        answer
    }

    /// Whether it is a 2xx.
    #[must_use]
    pub const fn is_success(&self) -> bool {
        matches!(self.status, 200..=299)
    }

    /// A header, if it is there and text.
    #[must_use]
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name)?.to_str().ok()
    }

    /// How long the server wants to be left alone, if it says.
    #[must_use]
    pub fn retry_after(&self) -> Option<Duration> {
        retry_after(self.header(RETRY_AFTER.as_str())?, SystemTime::now())
    }

    /// The body as text.
    #[must_use]
    pub fn text(&self) -> std::borrow::Cow<'_, str> {
        String::from_utf8_lossy(&self.body)
    }

    /// Status and `told` (what the server said) in one line for a person, not long and without control characters.
    #[must_use]
    pub fn said(&self, told: &str) -> String {
        let told = if told.is_empty() { self.header(LOCATION.as_str()).unwrap_or_default() } else { told };
        let mut line: String =
            told.trim().chars().map(|c| if c.is_control() { ' ' } else { c }).take(SAID).collect();
        if told.trim().chars().nth(SAID).is_some() {
            line.push('…');
        }
        format!("status {}{}{line}", self.status, if line.is_empty() { "" } else { ": " })
    }
}
