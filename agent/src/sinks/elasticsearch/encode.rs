//! Records as items of a bulk request: a line that says which document to create, a line that is the document.

use super::super::draft::{Line, Said};
use super::super::json::{Counters, EncodeContext, Encoder};
use super::stream::DataStream;
use crate::model::{Record, RecordKind};
use crate::pipeline::Request;

/// What stands before the id of an item.
const BEFORE_ID: &str = r#"{"create":{"_id":""#;

/// What stands behind the parts of a data stream's name.
const END_OF_STREAM: &[u8] = b"\"},";

/// Writes records as items.
pub struct BulkEncoder {
    json: Encoder,
    counters: Counters,
    /// What stands before the schema's first field in each document.
    beginning: Said,
}

impl BulkEncoder {
    /// Writes by this context.
    #[must_use]
    pub fn new(context: EncodeContext, counters: Counters, stream: &DataStream) -> Self {
        let beginning = Said::new(stream.beginning().as_bytes());
        Self { json: Encoder::new(context), counters, beginning }
    }

    /// Appends each record as one item, and to `ends` where it ends. Many at once are cheaper than each alone.
    pub fn encode(&mut self, records: &[Record], out: &mut Vec<u8>, ends: &mut Vec<u32>) {
        let Self { json, counters, beginning } = self;
        let begin = |item: &mut Line<'_>, record: &Record| {
            put_action(item, record);
            item.said(beginning);
        };
        let ended = |length| ends.push(u32::try_from(length).unwrap_or(u32::MAX));
        json.encode_documents(records, *counters, out, begin, ended);
    }
}

/// The id is the record's: flow, kind, moment by the boot clock. Sent again, it is the same.
#[inline(always)]
fn put_action(item: &mut Line<'_>, record: &Record) {
    item.raw(BEFORE_ID);
    item.hex(record.flow_id.0);
    // By the type of event; each by itself, so that its length is known.
    match record.kind {
        RecordKind::New => item.raw("-start-"),
        RecordKind::Update => item.raw("-info-"),
        RecordKind::End => item.raw("-end-"),
    }
    item.number("", record.observed_boot_ns);
    item.raw("\"}}\n");
}

/// The id of an encoded item.
pub(super) fn id_of(item: &[u8]) -> Option<&str> {
    let rest = item.strip_prefix(BEFORE_ID.as_bytes())?;
    let end = memchr::memchr(b'"', rest)?;
    std::str::from_utf8(rest.get(..end)?).ok()
}

/// The moment in an id, in nanoseconds since the boot.
pub(super) fn moment_of(id: &str) -> Option<u64> {
    id.rsplit_once('-')?.1.parse().ok()
}

/// The document of an encoded item, without its newline.
pub(super) fn document_of(item: &[u8]) -> &[u8] {
    let document = memchr::memchr(b'\n', item).and_then(|at| item.get(at + 1..)).unwrap_or_default();
    document.strip_suffix(b"\n").unwrap_or(document)
}

/// The same items for the data stream whose documents begin so, where they were spooled for another one. `None` if they
/// are no items.
pub(super) fn moved(request: &Request, beginning: &[u8]) -> Option<Request> {
    let mut body = Vec::with_capacity(request.body.len() + request.items.len() * beginning.len());
    let mut items = Vec::with_capacity(request.items.len());
    for (at, (_, weight)) in request.items.iter().enumerate() {
        let item = request.piece(at)?;
        let (action, document) = item.split_at_checked(memchr::memchr(b'\n', item)? + 1)?;
        // No part of a stream's name has a quotation mark.
        let rest = document.strip_prefix(b"{\"data_stream\":{")?;
        let rest = rest.get(memchr::memmem::find(rest, END_OF_STREAM)? + END_OF_STREAM.len()..)?;
        [action, beginning, rest].iter().for_each(|part| body.extend_from_slice(part));
        items.push((u32::try_from(body.len()).ok()?, *weight));
    }
    Some(Request { body, items, ..*request })
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use proptest::prelude::*;
    use serde_json::Value;

    use super::super::super::names::event_type;
    use super::super::super::samples::{any_record, end_of_tcp, ping};
    use super::*;

    fn context(host: &str) -> EncodeContext {
        EncodeContext {
            host: host.to_owned(),
            netns_name: Box::new(|_| Some(Arc::from("init"))),
            networks: Arc::default(),
        }
    }

    fn encoded(records: &[Record], host: &str, counters: Counters) -> (Vec<u8>, Vec<u32>) {
        let (mut out, mut ends) = (Vec::new(), Vec::new());
        BulkEncoder::new(context(host), counters, &DataStream::of("default"))
            .encode(records, &mut out, &mut ends);
        (out, ends)
    }

    fn document(record: &Record, host: &str, counters: Counters) -> Value {
        let (out, _) = encoded(std::slice::from_ref(record), host, counters);
        serde_json::from_slice(document_of(&out)).unwrap()
    }

    #[test]
    fn an_item_is_an_action_with_the_id_of_the_record_and_the_document_of_the_schema() {
        let (out, ends) = encoded(&[end_of_tcp()], "gw1", Counters::Total);
        let (action, line) = std::str::from_utf8(&out).unwrap().split_once('\n').unwrap();
        let id = "00000000000000000000000000000f3c-end-105100000000";
        assert_eq!(action, format!(r#"{{"create":{{"_id":"{id}"}}}}"#));
        assert_eq!(id_of(&out), Some(id));
        assert_eq!(moment_of(id), Some(end_of_tcp().observed_boot_ns));
        assert_eq!(ends, [u32::try_from(out.len()).unwrap()]);
        let mut json = Vec::new();
        Encoder::new(context("gw1")).encode(&[end_of_tcp()], &mut json);
        let mut expected = DataStream::of("default").beginning();
        expected.push_str(std::str::from_utf8(&json[1..]).unwrap());
        assert_eq!(line, expected);
    }

    #[test]
    fn with_deltas_readers_sum_what_is_new_and_find_totals_under_their_own_name() {
        let (record, host) = (end_of_tcp(), r#"},"conntally":{"delta":{"#);
        let value = document(&record, host, Counters::Delta);
        assert_eq!(value["host"]["name"], host);
        assert_eq!(value["source"]["bytes"], record.delta.original.bytes);
        assert_eq!(value["network"]["packets"], 1);
        assert_eq!(value["conntally"]["total"]["destination"]["bytes"], record.totals.reply.bytes);
        assert_eq!(value["conntally"].get("delta"), None);
    }

    #[test]
    fn what_is_not_counted_has_neither_deltas_nor_totals() {
        let mut record = ping();
        record.flags.no_counters = true;
        let value = document(&record, "gw1", Counters::Delta);
        assert_eq!(value["conntally"].get("delta").or(value["conntally"].get("total")), None);
    }

    proptest! {
        #[test]
        fn many_records_are_the_items_that_each_makes_alone(
            records in prop::collection::vec(any_record(), 0..150),
            host: String,
            of_deltas: bool,
        ) {
            let counters = if of_deltas { Counters::Delta } else { Counters::Total };
            let (out, ends) = encoded(&records, &host, counters);
            prop_assert_eq!(ends.len(), records.len());
            let mut begin = 0;
            for (record, end) in records.iter().zip(ends) {
                let (alone, _) = encoded(std::slice::from_ref(record), &host, counters);
                prop_assert_eq!(&out[begin..end as usize], alone.as_slice());
                let id = format!("{}-{}-{}", record.flow_id, event_type(record.kind), record.observed_boot_ns);
                prop_assert_eq!(id_of(&alone), Some(id.as_str()));
                begin = end as usize;
            }
            prop_assert_eq!(begin, out.len());
        }
    }
}
