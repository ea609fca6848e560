//! Records as logfmt: one line a record, pairs of the JSON schema's dotted names and their values.
//!
//! A line is made of the record's line of JSON, so that there is no second list of names that could come apart from the
//! first. Lists are joined by commas. A value is quoted where it is a list, where it is empty, and where it has a character
//! that is no plain one of ASCII, a space, `=`, `"` or `\`; in quotes stand the escapes of JSON. That is what
//! `github.com/go-logfmt/logfmt` writes and reads, but that it leaves letters beyond ASCII unquoted.

/// Writes lines.
#[derive(Debug, Default)]
pub(super) struct Encoder {
    /// The name of the value that comes next, with those of the objects that it is in.
    name: Vec<u8>,
    /// How much of the name is that of each object that is open.
    objects: Vec<usize>,
}

impl Encoder {
    /// Appends for each line of JSON, as this agent writes it, one of logfmt.
    pub(super) fn encode(&mut self, json: &[u8], out: &mut Vec<u8>) {
        for line in json.split_inclusive(|byte| *byte == b'\n') {
            self.line(line, out);
            out.push(b'\n');
        }
    }

    fn line(&mut self, json: &[u8], out: &mut Vec<u8>) {
        self.name.clear();
        self.objects.clear();
        let (mut rest, start) = (json, out.len());
        while let Some((byte, behind)) = rest.split_first() {
            rest = behind;
            match byte {
                b'{' => self.objects.push(self.name.len()),
                b'}' => drop(self.objects.pop()),
                b'"' => {
                    let (key, behind) = text(behind);
                    self.turn_to(key);
                    rest = self.pair(behind, out.len() == start, out);
                }
                _ => {}
            }
        }
    }

    /// Writes the pair of which the name is known, unless the value is an object; returns what follows it.
    fn pair<'a>(&self, json: &'a [u8], is_first: bool, out: &mut Vec<u8>) -> &'a [u8] {
        let value = match json.split_first() {
            Some((b':', value)) if value.first() != Some(&b'{') => value,
            _ => return json,
        };
        if !is_first {
            out.push(b' ');
        }
        out.extend_from_slice(&self.name);
        out.push(b'=');
        put_value(value, out)
    }

    /// The name of what comes next in the object that is open.
    fn turn_to(&mut self, key: &[u8]) {
        self.name.truncate(self.objects.last().copied().unwrap_or(0));
        if !self.name.is_empty() {
            self.name.push(b'.');
        }
        self.name.extend_from_slice(key);
    }
}

/// Writes the value that JSON begins with; returns what follows it.
fn put_value<'a>(json: &'a [u8], out: &mut Vec<u8>) -> &'a [u8] {
    match json.split_first() {
        Some((b'"', behind)) => {
            let (value, behind) = text(behind);
            put_text(value, out);
            behind
        }
        Some((b'[', behind)) => put_list(behind, out),
        _ => {
            let (value, behind) = before(json, |byte| matches!(byte, b',' | b'}'));
            out.extend_from_slice(value);
            behind
        }
    }
}

/// The texts of a list, of which the bracket is behind us.
fn put_list<'a>(json: &'a [u8], out: &mut Vec<u8>) -> &'a [u8] {
    let mut rest = json;
    out.push(b'"');
    while let Some((byte, behind)) = rest.split_first() {
        rest = behind;
        match byte {
            b']' => break,
            b'"' => {
                let (item, behind) = text(behind);
                out.extend_from_slice(item);
                rest = behind;
            }
            separator => out.push(*separator),
        }
    }
    out.push(b'"');
    rest
}

/// A text that has the escapes of JSON already.
fn put_text(text: &[u8], out: &mut Vec<u8>) {
    let is_plain = |byte: &u8| byte.is_ascii_graphic() && !matches!(byte, b'=' | b'"' | b'\\');
    let needs_quotes = text.is_empty() || !text.iter().all(is_plain);
    if needs_quotes {
        out.push(b'"');
    }
    out.extend_from_slice(text);
    if needs_quotes {
        out.push(b'"');
    }
}

/// What stands in quotes, of which the first is behind us; and what follows the second.
fn text(json: &[u8]) -> (&[u8], &[u8]) {
    let mut is_escaped = false;
    let (text, behind) = before(json, |byte| {
        let is_end = byte == b'"' && !is_escaped;
        is_escaped = byte == b'\\' && !is_escaped;
        is_end
    });
    (text, behind.split_first().map_or(behind, |(_, behind)| behind))
}

/// Divides at the first byte of that sort.
fn before(json: &[u8], is_end: impl FnMut(u8) -> bool) -> (&[u8], &[u8]) {
    let length = json.iter().copied().position(is_end).unwrap_or(json.len());
    json.split_at_checked(length).unwrap_or((json, &[]))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::sync::Arc;

    use proptest::prelude::*;
    use serde_json::Value;

    use super::super::json::{self, EncodeContext};
    use super::super::samples::{any_record, end_of_tcp, ping};
    use super::*;
    use crate::model::Record;
    use crate::pipeline::Networks;
    use crate::pipeline::networks::NetworkDefinition;

    fn json_of(records: &[Record], host: &str, networks: &[NetworkDefinition]) -> Vec<u8> {
        let mut out = Vec::new();
        let context = EncodeContext {
            host: host.to_owned(),
            netns_name: Box::new(|_| Some(Arc::from("a=b"))),
            networks: Arc::new(Networks::new(networks).unwrap()),
        };
        json::Encoder::new(context).encode(records, &mut out);
        out
    }

    fn logfmt(json: &[u8]) -> String {
        let mut out = Vec::new();
        Encoder::default().encode(json, &mut out);
        String::from_utf8(out).unwrap()
    }

    /// The names and values of JSON as they have to stand in logfmt.
    fn flattened(name: &str, value: &Value, pairs: &mut BTreeMap<String, String>) {
        let text = match value {
            Value::Object(object) => {
                for (key, value) in object {
                    let name = if name.is_empty() { key.clone() } else { format!("{name}.{key}") };
                    flattened(&name, value, pairs);
                }
                return;
            }
            Value::Array(items) => {
                items.iter().map(|item| item.as_str().unwrap()).collect::<Vec<_>>().join(",")
            }
            Value::String(text) => text.clone(),
            value => value.to_string(),
        };
        assert_eq!(pairs.insert(name.to_owned(), text), None, "{name} is there twice");
    }

    /// Reads a line by the rules of go-logfmt: a key ends at `=`, a value at a space, or at its second quote.
    fn read(line: &str) -> BTreeMap<String, String> {
        let (mut pairs, mut rest) = (BTreeMap::new(), line);
        while !rest.is_empty() {
            let (key, value) = rest.split_once('=').unwrap();
            assert!(key.chars().all(|c| c > ' ' && c != '"'), "{key:?}");
            let length = if value.starts_with('"') {
                let mut text = serde_json::Deserializer::from_str(value).into_iter::<String>();
                text.next().unwrap().unwrap();
                text.byte_offset()
            } else {
                value.find(' ').unwrap_or(value.len())
            };
            let (value, behind) = value.split_at(length);
            let text = if value.starts_with('"') {
                serde_json::from_str(value).unwrap()
            } else {
                assert!(
                    !value.is_empty() && value.chars().all(|c| c > ' ' && c != '=' && c != '"'),
                    "{value:?}"
                );
                value.to_owned()
            };
            assert_eq!(pairs.insert(key.to_owned(), text), None, "{key} is there twice");
            rest = behind.strip_prefix(' ').unwrap_or(behind);
            assert_eq!(behind.is_empty(), rest.is_empty(), "a space at the end: {line}");
        }
        pairs
    }

    #[test]
    fn the_end_of_a_connection_and_a_ping_come_out() {
        insta::assert_snapshot!(logfmt(&json_of(&[end_of_tcp(), ping()], "gw 1", &[])));
    }

    proptest! {
        #[test]
        fn any_record_has_the_names_and_values_that_it_has_as_json(
            records in prop::collection::vec(any_record(), 1..4),
            host: String,
            network in "\\PC{1,8}",
        ) {
            let network = NetworkDefinition {
                name: network,
                prefixes: vec!["0.0.0.0/0".parse().unwrap(), "::/1".parse().unwrap()],
                internal: Some(true),
            };
            let json = json_of(&records, &host, &[network]);
            let logfmt = logfmt(&json);
            prop_assert_eq!(logfmt.matches('\n').count(), records.len());
            for (json, logfmt) in json.split(|byte| *byte == b'\n').zip(logfmt.lines()) {
                let mut pairs = BTreeMap::new();
                flattened("", &serde_json::from_slice(json).unwrap(), &mut pairs);
                prop_assert_eq!(read(logfmt), pairs);
            }
        }
    }
}
