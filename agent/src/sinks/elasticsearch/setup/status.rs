//! The index template of the documents that tell how complete the accounting is.

use serde_json::{Map, Value, json};

use super::super::DataStream;
use super::template::{Lifecycle, Type, properties_of, template_of};

/// Counts changes of the fields or of their types.
pub(super) const VERSION: u64 = 2;

/// Every field that such a document may have. Figures count from the agent's start on, but for what waits.
pub(super) const FIELDS: &[(&str, Type)] = &[
    ("@timestamp", Type::DateNanos),
    ("data_stream.type", Type::Constant),
    ("data_stream.dataset", Type::Constant),
    ("data_stream.namespace", Type::Constant),
    ("ecs.version", Type::Keyword),
    ("event.kind", Type::Keyword),
    ("event.dataset", Type::Keyword),
    ("host.name", Type::Keyword),
    ("conntally.audit.counted.bytes", Type::Long),
    ("conntally.audit.counted.packets", Type::Long),
    ("conntally.audit.counted.flows", Type::Long),
    ("conntally.audit.delivered.bytes", Type::Long),
    ("conntally.audit.delivered.packets", Type::Long),
    ("conntally.audit.delivered.flows", Type::Long),
    ("conntally.audit.not_yet_due.bytes", Type::Long),
    ("conntally.audit.not_yet_due.packets", Type::Long),
    ("conntally.audit.not_yet_due.flows", Type::Long),
    ("conntally.audit.filtered.bytes", Type::Long),
    ("conntally.audit.filtered.packets", Type::Long),
    ("conntally.audit.filtered.flows", Type::Long),
    ("conntally.audit.lost.bytes", Type::Long),
    ("conntally.audit.lost.packets", Type::Long),
    ("conntally.audit.lost.flows", Type::Long),
    ("conntally.audit.completeness.bytes", Type::Double),
    ("conntally.audit.completeness.packets", Type::Double),
    ("conntally.audit.completeness.flows", Type::Double),
    ("conntally.audit.doubts", Type::Long),
    ("conntally.audit.live_flows", Type::Long),
    ("conntally.loss.reason", Type::Keyword),
    ("conntally.loss.lost.bytes", Type::Long),
    ("conntally.loss.lost.packets", Type::Long),
    ("conntally.loss.lost.flows", Type::Long),
    ("conntally.loss.unknown", Type::Long),
    ("conntally.waiting.sink", Type::Keyword),
    ("conntally.waiting.records", Type::Long),
    ("conntally.waiting.bytes", Type::Long),
    ("conntally.waiting.packets", Type::Long),
    ("conntally.waiting.flows", Type::Long),
    ("conntally.waiting.oldest_ms", Type::Long),
];

/// All fields as a mapping has them, but for those that are constants there.
pub(super) fn properties() -> Map<String, Value> {
    properties_of(FIELDS, false)
}

/// The template of such a data stream.
pub(super) fn template(stream: &DataStream, lifecycle: &Lifecycle, has_constants: bool) -> Value {
    let meta = json!({
        "description": "how complete conntally's accounting is",
        "managed_by": "conntally",
        "conntally": { "version": VERSION },
    });
    template_of(stream, FIELDS, &meta, lifecycle, has_constants)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::super::super::status::document;
    use super::*;
    use crate::model::{Sum, Waiting};
    use crate::pipeline::{Stated, Status, Whole};
    use crate::sinks::samples::TEN_O_CLOCK;

    fn leaves(value: &Value, path: &str, into: &mut BTreeSet<String>) {
        match value {
            Value::Object(fields) => {
                for (name, value) in fields {
                    let path = if path.is_empty() { name.clone() } else { format!("{path}.{name}") };
                    leaves(value, &path, into);
                }
            }
            _ => drop(into.insert(path.to_owned())),
        }
    }

    #[test]
    fn documents_have_the_fields_of_the_template_and_the_template_has_no_others() {
        let stream = DataStream::of("default").of_status();
        let mut found = BTreeSet::new();
        let loss = Stated::Loss { reason: "end_lost", lost: Sum::default(), unknown: 0 };
        let waiting = Stated::Waiting { sink: "archive", waiting: Waiting::default() };
        for stated in [Stated::Whole(Whole::default()), loss, waiting] {
            leaves(&document(&Status { real_ns: TEN_O_CLOCK, stated }, &stream, "gw1"), "", &mut found);
        }
        assert_eq!(found, FIELDS.iter().map(|(name, _)| (*name).to_owned()).collect());
    }

    #[test]
    fn completeness_is_what_is_not_lost() {
        let sum = |bytes| Sum { flows: 0, packets: 0, bytes };
        let whole = Whole { counted: sum(1_000), lost: sum(1), ..Whole::default() };
        let status = Status { real_ns: TEN_O_CLOCK, stated: Stated::Whole(whole) };
        let document = document(&status, &DataStream::of("noc").of_status(), "gw1");
        assert_eq!(document["conntally"]["audit"]["completeness"]["bytes"], 0.999);
        assert_eq!(
            document["conntally"]["audit"]["completeness"]["flows"], 1.0,
            "nothing is lost of nothing"
        );
        assert_eq!(document["event"]["dataset"], "conntally.status");
        assert_eq!(document["data_stream"]["namespace"], "noc");
    }
}
