//! A request to a server on loopback, answered or not within its time.

use std::fmt::Write as _;
use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use anyhow::{Context as _, Result, bail};

const LIMIT: Duration = Duration::from_secs(30);

/// A request. The connection is its own, and closed after the answer.
#[derive(Clone, Debug)]
pub struct Request {
    method: &'static str,
    path: String,
    headers: String,
    body: Vec<u8>,
    limit: Duration,
}

/// What came back.
#[derive(Clone, Debug)]
pub struct Answer {
    /// Status code.
    pub status: u16,
    /// Header lines, without the status line.
    pub head: String,
    /// Body, with any transfer encoding taken off.
    pub body: Vec<u8>,
}

impl Request {
    /// A request without a body; the path begins with `/`.
    pub fn new(method: &'static str, path: impl Into<String>) -> Self {
        Self { method, path: path.into(), headers: String::new(), body: Vec::new(), limit: LIMIT }
    }

    /// Adds a header.
    #[must_use]
    pub fn header(mut self, name: &str, value: &str) -> Self {
        // Writing to a string cannot fail.
        let _ = write!(self.headers, "{name}: {value}\r\n");
        self
    }

    /// Adds a body and its type.
    #[must_use]
    pub fn body(mut self, kind: &str, body: impl Into<Vec<u8>>) -> Self {
        self.body = body.into();
        self.header("Content-Type", kind)
    }

    /// Adds a JSON body.
    #[must_use]
    pub fn json(self, value: &serde_json::Value) -> Self {
        self.body("application/json", value.to_string())
    }

    /// Adds a user's name and password.
    #[must_use]
    pub fn login(self, user: &str, password: &str) -> Self {
        let credentials = base64(format!("{user}:{password}").as_bytes());
        self.header("Authorization", &format!("Basic {credentials}"))
    }

    /// How long each step may take instead of 30 seconds.
    #[must_use]
    pub fn within(mut self, limit: Duration) -> Self {
        self.limit = limit;
        self
    }

    /// Sends it and reads the whole answer.
    ///
    /// # Errors
    /// When there is no connection or the answer is not HTTP.
    pub fn send(&self, to: SocketAddr) -> Result<Answer> {
        let mut stream =
            TcpStream::connect_timeout(&to, self.limit).with_context(|| format!("cannot reach {to}"))?;
        stream.set_read_timeout(Some(self.limit))?;
        stream.set_write_timeout(Some(self.limit))?;
        let head = format!(
            "{} {} HTTP/1.1\r\nHost: {to}\r\nConnection: close\r\nContent-Length: {}\r\n{}\r\n",
            self.method,
            self.path,
            self.body.len(),
            self.headers
        );
        stream.write_all(head.as_bytes())?;
        stream.write_all(&self.body)?;
        let mut bytes = Vec::new();
        stream.read_to_end(&mut bytes).with_context(|| format!("{to} broke off its answer"))?;
        Answer::parse(&bytes).with_context(|| format!("{to} does not answer in HTTP"))
    }

    /// Sends it; an answer other than 2xx is an error that tells its body.
    ///
    /// # Errors
    /// See there.
    pub fn expect_success(&self, to: SocketAddr) -> Result<Answer> {
        let answer = self.send(to)?;
        if !answer.is_success() {
            bail!("{} {} at {to} was answered {}: {}", self.method, self.path, answer.status, answer.text());
        }
        Ok(answer)
    }
}

impl Answer {
    /// Whether the status is 2xx.
    #[must_use]
    pub const fn is_success(&self) -> bool {
        matches!(self.status, 200..=299)
    }

    /// The body as text.
    #[must_use]
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    /// The body as JSON.
    ///
    /// # Errors
    /// When it is not.
    pub fn json(&self) -> Result<serde_json::Value> {
        serde_json::from_slice(&self.body).with_context(|| format!("this is not JSON: {}", self.text()))
    }

    fn parse(bytes: &[u8]) -> Option<Self> {
        let end = bytes.windows(4).position(|four| four == b"\r\n\r\n")?;
        let (head, body) = (str::from_utf8(bytes.get(..end)?).ok()?, bytes.get(end + 4..)?);
        let (line, head) = head.split_once("\r\n").unwrap_or((head, ""));
        let status = line.strip_prefix("HTTP/1.")?.split(' ').nth(1)?.parse().ok()?;
        let chunked = head.lines().any(|line| line.eq_ignore_ascii_case("transfer-encoding: chunked"));
        let body = if chunked { unchunked(body)? } else { body.to_vec() };
        Some(Self { status, head: head.to_owned(), body })
    }
}

fn unchunked(mut rest: &[u8]) -> Option<Vec<u8>> {
    let mut body = Vec::new();
    loop {
        let line = rest.windows(2).position(|two| two == b"\r\n")?;
        let size = str::from_utf8(rest.get(..line)?).ok()?.split(';').next()?;
        let size = usize::from_str_radix(size.trim(), 16).ok()?;
        if size == 0 {
            return Some(body);
        }
        let begin = line + 2;
        body.extend_from_slice(rest.get(begin..begin.checked_add(size)?)?);
        rest = rest.get(begin + size + 2..)?;
    }
}

/// RFC 4648, section 4.
fn base64(bytes: &[u8]) -> String {
    const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = String::new();
    for three in bytes.chunks(3) {
        let byte = |at: usize| u32::from(three.get(at).copied().unwrap_or(0));
        let bits = byte(0) << 16 | byte(1) << 8 | byte(2);
        for place in 0..4 {
            let six = (bits >> (18 - 6 * place) & 63) as usize;
            let letter = ALPHABET.get(six).map_or('=', |&letter| char::from(letter));
            text.push(if place <= three.len() { letter } else { '=' });
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn credentials_are_encoded_as_the_standard_says() {
        for (plain, coded) in [("", ""), ("f", "Zg=="), ("fo", "Zm8="), ("foo", "Zm9v"), ("foob", "Zm9vYg==")]
        {
            assert_eq!(base64(plain.as_bytes()), coded);
        }
    }

    #[test]
    fn an_answer_in_chunks_is_put_together() {
        let text =
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n2;x=y\r\nde\r\n0\r\n\r\n";
        let answer = Answer::parse(text).unwrap();
        assert_eq!((answer.status, answer.text().as_str()), (200, "abcde"));
    }

    #[test]
    fn what_is_broken_off_is_no_answer() {
        for text in [
            "",
            "HTTP/1.1 200",
            "garbage\r\n\r\n",
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n9\r\nab",
        ] {
            assert!(Answer::parse(text.as_bytes()).is_none(), "{text}");
        }
    }
}
