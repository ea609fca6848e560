//! Records as items of a bulk request: a line that says which document to create, a line that is the document.

use memchr::memmem::Finder;

use super::super::digits;
use super::super::json::{EncodeContext, Encoder};
use super::super::names::event_type;
use super::stream::DataStream;
use crate::model::{Record, RecordKind};

/// Which figures stand in `source.*`, `destination.*` and `network.*`, which readers sum.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Counters {
    /// Totals since the flow's birth; what is new stands under `conntally.delta`. For ends.
    #[default]
    Total,
    /// What is new since the flow's previous record; totals stand under `conntally.total`. For updates.
    Delta,
}

/// What stands before the id of an item.
const BEFORE_ID: &[u8; 18] = br#"{"create":{"_id":""#;
const AFTER_ID: &[u8; 4] = b"\"}}\n";

/// Where a document says what is new. Quotes in names are escaped, so that it is found nowhere else.
const DELTA: &[u8] = br#"},"conntally":{"delta":{"#;
const TOTAL: &[u8] = br#"},"conntally":{"total":{"#;

/// Writes records as items.
pub struct BulkEncoder {
    json: Encoder,
    counters: Counters,
    /// What stands before the schema's first field in each document.
    beginning: Vec<u8>,
    /// Lines whose ids are not written yet.
    lines: Vec<u8>,
    /// Records with their figures exchanged.
    exchanged: Vec<Record>,
    delta: Finder<'static>,
}

/// Records whose lines are made at once.
const TOGETHER: usize = 64;

impl BulkEncoder {
    /// Writes by this context.
    #[must_use]
    pub fn new(context: EncodeContext, counters: Counters, stream: &DataStream) -> Self {
        Self {
            json: Encoder::new(context),
            counters,
            beginning: stream.beginning().into_bytes(),
            lines: Vec::new(),
            exchanged: Vec::new(),
            delta: Finder::new(DELTA),
        }
    }

    /// Appends each record as one item, and to `ends` where it ends. Many at once are cheaper than each alone.
    pub fn encode(&mut self, records: &[Record], out: &mut Vec<u8>, ends: &mut Vec<u32>) {
        for together in records.chunks(TOGETHER) {
            self.lines.clear();
            self.write_lines(together);
            let mut rest = self.lines.as_slice();
            for record in together {
                let length = memchr::memchr(b'\n', rest).map_or(rest.len(), |at| at + 1);
                let (line, after) = rest.split_at(length);
                put_action(record, out);
                out.extend_from_slice(&self.beginning);
                out.extend_from_slice(line.strip_prefix(b"{").unwrap_or(line));
                ends.push(u32::try_from(out.len()).unwrap_or(u32::MAX));
                rest = after;
            }
        }
    }

    fn write_lines(&mut self, records: &[Record]) {
        match self.counters {
            Counters::Total => self.json.encode(records, &mut self.lines),
            Counters::Delta => {
                self.exchanged.clear();
                self.exchanged.extend(records.iter().map(exchanged));
                self.json.encode(&self.exchanged, &mut self.lines);
                name_totals(&self.delta, &mut self.lines);
            }
        }
    }
}

fn exchanged(record: &Record) -> Record {
    Record { totals: record.delta, delta: record.totals, ..*record }
}

/// What stands as delta in the lines becomes the total that it is.
fn name_totals(delta: &Finder<'_>, lines: &mut [u8]) {
    let mut from = 0;
    while let Some(at) = lines.get(from..).and_then(|rest| delta.find(rest)) {
        let end = from + at + TOTAL.len();
        if let Some(place) = lines.get_mut(from + at..end) {
            place.copy_from_slice(TOTAL);
        }
        from = end;
    }
}

/// The id is the record's: flow, kind, moment by the boot clock. Sent again, it is the same.
fn put_action(record: &Record, out: &mut Vec<u8>) {
    out.extend_from_slice(BEFORE_ID);
    out.extend_from_slice(digits::hex(record.flow_id.0).as_flattened());
    let kind: &[u8] = match record.kind {
        RecordKind::New => b"-start-",
        RecordKind::Update => b"-info-",
        RecordKind::End => b"-end-",
    };
    debug_assert_eq!(kind.trim_ascii(), format!("-{}-", event_type(record.kind)).as_bytes());
    out.extend_from_slice(kind);
    put_decimal(record.observed_boot_ns, out);
    out.extend_from_slice(AFTER_ID);
}

fn put_decimal(value: u64, out: &mut Vec<u8>) {
    const MILLION: u64 = 1_000_000;
    let (high, low) = (value / MILLION, (value % MILLION) as u32);
    if high == 0 {
        let (text, length) = digits::short(low);
        out.extend_from_slice(text.get(..length).unwrap_or_default());
    } else {
        put_decimal(high, out);
        out.extend(digits::six(low).into_iter().take(6));
    }
}

/// The id of an encoded item.
pub(super) fn id_of(item: &[u8]) -> Option<&str> {
    let rest = item.strip_prefix(BEFORE_ID)?;
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

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use proptest::prelude::*;
    use serde_json::Value;

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

        #[test]
        fn any_moment_is_written_as_the_standard_library_does(value: u64, shift in 0u32..64) {
            let mut out = Vec::new();
            put_decimal(value >> shift, &mut out);
            prop_assert_eq!(String::from_utf8(out).unwrap(), (value >> shift).to_string());
        }
    }
}
