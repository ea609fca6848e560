//! JSON tokens appended to a byte buffer: commas, escapes, numbers, addresses, timestamps.

use std::io::Write as _;
use std::net::IpAddr;

use super::super::time::rfc3339;

/// Writes one JSON value. Keys are the program's own words and need no escapes.
pub(super) struct Writer<'a> {
    out: &'a mut Vec<u8>,
}

impl<'a> Writer<'a> {
    pub(super) const fn new(out: &'a mut Vec<u8>) -> Self {
        Self { out }
    }

    /// Text as it is.
    pub(super) fn raw(&mut self, text: &str) {
        self.out.extend_from_slice(text.as_bytes());
    }

    pub(super) fn open(&mut self, bracket: char) {
        self.separate();
        self.out.push(bracket as u8);
    }

    pub(super) fn close(&mut self, bracket: char) {
        self.out.push(bracket as u8);
    }

    pub(super) fn object(&mut self, key: &str) {
        self.key(key);
        self.out.push(b'{');
    }

    pub(super) fn array(&mut self, key: &str) {
        self.key(key);
        self.out.push(b'[');
    }

    pub(super) fn string(&mut self, key: &str, value: &str) {
        self.key(key);
        self.out.push(b'"');
        for &byte in value.as_bytes() {
            self.escape(byte);
        }
        self.out.push(b'"');
    }

    /// Text that is known to need no escapes.
    pub(super) fn ascii(&mut self, key: &str, value: &[u8]) {
        self.key(key);
        self.out.push(b'"');
        self.out.extend_from_slice(value);
        self.out.push(b'"');
    }

    pub(super) fn number(&mut self, key: &str, value: u64) {
        self.key(key);
        self.raw(itoa::Buffer::new().format(value));
    }

    pub(super) fn quoted_number(&mut self, key: &str, value: u8) {
        self.ascii(key, itoa::Buffer::new().format(value).as_bytes());
    }

    pub(super) fn boolean(&mut self, key: &str, value: bool) {
        self.key(key);
        self.raw(if value { "true" } else { "false" });
    }

    pub(super) fn hex(&mut self, key: &str, bytes: &[u8]) {
        self.key(key);
        self.out.push(b'"');
        for &byte in bytes {
            self.out.extend([hex_digit(byte >> 4), hex_digit(byte & 15)]);
        }
        self.out.push(b'"');
    }

    /// Nanoseconds since the Unix epoch, as RFC 3339 in UTC.
    pub(super) fn timestamp(&mut self, key: &str, unix_ns: i64) {
        self.ascii(key, &rfc3339(unix_ns));
    }

    pub(super) fn address(&mut self, key: &str, ip: IpAddr) {
        self.key(key);
        self.quote_address(ip);
    }

    pub(super) fn address_item(&mut self, ip: IpAddr) {
        self.separate();
        self.quote_address(ip);
    }

    pub(super) fn names(&mut self, key: &str, names: impl Iterator<Item = &'static str>) {
        self.array(key);
        for name in names {
            self.separate();
            self.out.push(b'"');
            self.raw(name);
            self.out.push(b'"');
        }
        self.close(']');
    }

    fn key(&mut self, key: &str) {
        self.separate();
        self.out.push(b'"');
        self.raw(key);
        self.raw("\":");
    }

    /// A comma, unless the value is the first of its array or object.
    fn separate(&mut self) {
        if !matches!(self.out.last(), None | Some(b'{' | b'[' | b'\n' | b':')) {
            self.out.push(b',');
        }
    }

    fn escape(&mut self, byte: u8) {
        match byte {
            b'"' | b'\\' => self.out.extend([b'\\', byte]),
            0..=0x1F => {
                self.raw("\\u00");
                self.out.extend([hex_digit(byte >> 4), hex_digit(byte & 15)]);
            }
            _ => self.out.push(byte),
        }
    }

    fn quote_address(&mut self, ip: IpAddr) {
        self.out.push(b'"');
        // Writing to memory cannot fail.
        let _ = write!(self.out, "{ip}");
        self.out.push(b'"');
    }
}

const fn hex_digit(nibble: u8) -> u8 {
    if nibble < 10 { b'0' + nibble } else { b'a' + nibble - 10 }
}
