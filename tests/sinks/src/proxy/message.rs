//! One HTTP/1.1 message as it goes over the wire.

use std::io::{self, BufRead, Read as _};

/// More than any request of the agent has.
const MOST_BYTES: u64 = 256 << 20;

/// A request.
#[derive(Clone, Debug, Default)]
pub(super) struct Message {
    /// The first line, without its end.
    pub(super) line: String,
    /// The header lines, without their ends.
    pub(super) headers: Vec<String>,
    /// The body, with any transfer encoding taken off.
    pub(super) body: Vec<u8>,
}

impl Message {
    /// Reads the head; `None` when the client has closed instead.
    pub(super) fn read_head(from: &mut impl BufRead) -> io::Result<Option<Self>> {
        let mut message = Self::default();
        if !read_line(from, &mut message.line)? {
            return Ok(None);
        }
        loop {
            let mut header = String::new();
            if !read_line(from, &mut header)? {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            if header.is_empty() {
                return Ok(Some(message));
            }
            message.headers.push(header);
        }
    }

    /// Reads the body that the head announces.
    pub(super) fn read_body(&mut self, from: &mut impl BufRead) -> io::Result<()> {
        if self.header("transfer-encoding").is_some_and(|value| value.eq_ignore_ascii_case("chunked")) {
            return read_chunks(from, &mut self.body);
        }
        let length = self.header("content-length").and_then(|value| value.parse().ok()).unwrap_or(0);
        from.take(u64::min(length, MOST_BYTES)).read_to_end(&mut self.body)?;
        if (self.body.len() as u64) < length { Err(io::ErrorKind::UnexpectedEof.into()) } else { Ok(()) }
    }

    /// The value of a header.
    pub(super) fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find_map(|line| {
            let (found, value) = line.split_once(':')?;
            found.eq_ignore_ascii_case(name).then_some(value.trim())
        })
    }

    /// Method and path.
    pub(super) fn method_and_path(&self) -> (&str, &str) {
        let mut words = self.line.split(' ');
        (words.next().unwrap_or_default(), words.next().unwrap_or_default())
    }

    /// The message with its length told, for a connection that closes after it.
    pub(super) fn to_bytes(&self) -> Vec<u8> {
        let ours = ["connection", "content-length", "transfer-encoding", "expect"];
        let mut bytes = format!("{}\r\n", self.line).into_bytes();
        for header in &self.headers {
            let name = header.split(':').next().unwrap_or_default();
            if !ours.iter().any(|own| name.eq_ignore_ascii_case(own)) {
                bytes.extend_from_slice(format!("{header}\r\n").as_bytes());
            }
        }
        let rest = format!("Connection: close\r\nContent-Length: {}\r\n\r\n", self.body.len());
        bytes.extend_from_slice(rest.as_bytes());
        bytes.extend_from_slice(&self.body);
        bytes
    }
}

fn read_chunks(from: &mut impl BufRead, body: &mut Vec<u8>) -> io::Result<()> {
    loop {
        let mut line = String::new();
        read_line(from, &mut line)?;
        let size = line.split(';').next().unwrap_or_default().trim();
        let size = u64::from_str_radix(size, 16).map_err(|_| io::ErrorKind::InvalidData)?;
        from.take(size.min(MOST_BYTES)).read_to_end(body)?;
        read_line(from, &mut line)?;
        if size == 0 {
            return Ok(());
        }
    }
}

/// Reads one line without its end; `false` at the end of the stream.
fn read_line(from: &mut impl BufRead, line: &mut String) -> io::Result<bool> {
    line.clear();
    let read = from.take(64 << 10).read_line(line)?;
    line.truncate(line.trim_end_matches(['\r', '\n']).len());
    Ok(read > 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Message {
        let mut from = text.as_bytes();
        let mut message = Message::read_head(&mut from).unwrap().unwrap();
        message.read_body(&mut from).unwrap();
        message
    }

    #[test]
    fn a_body_in_chunks_is_forwarded_with_its_length() {
        let text = "POST /x HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\nExpect: 100-continue\r\n\r\n\
            3\r\nabc\r\n2\r\nde\r\n0\r\n\r\n";
        let bytes = String::from_utf8(read(text).to_bytes()).unwrap();
        assert_eq!(
            bytes,
            "POST /x HTTP/1.1\r\nHost: a\r\nConnection: close\r\nContent-Length: 5\r\n\r\nabcde"
        );
    }

    #[test]
    fn a_body_that_is_cut_off_is_an_error() {
        let mut from = &b"POST / HTTP/1.1\r\nContent-Length: 9\r\n\r\nabc"[..];
        let mut message = Message::read_head(&mut from).unwrap().unwrap();
        assert!(message.read_body(&mut from).is_err());
    }

    #[test]
    fn a_client_that_closes_has_no_request() {
        assert!(Message::read_head(&mut &b""[..]).unwrap().is_none());
    }
}
