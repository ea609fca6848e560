//! The index template: what fields documents have and of what types.

use serde_json::{Map, Value, json};

use super::super::DataStream;

/// Counts changes of the fields or of their types. A server that has an older one gets the template anew, its data
/// stream the new fields, and a new index.
pub(super) const VERSION: u64 = 1;

/// The built-in template for `logs-*-*` has 100, those of Elastic's integrations have 200. A person's own for all data
/// streams of this agent may have 300: one of the same priority would be refused, as patterns overlap.
pub(super) const PRIORITY: u64 = 400;

/// What a field holds, in ECS 8 or, below `conntally`, in this project.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Type {
    Boolean,
    /// The same in all documents of an index.
    Constant,
    DateNanos,
    Double,
    Ip,
    Keyword,
    Long,
}

impl Type {
    /// The server's name for it. Not every server knows constants.
    fn name(self, has_constants: bool) -> &'static str {
        match self {
            Self::Boolean => "boolean",
            Self::Constant if has_constants => "constant_keyword",
            Self::Constant | Self::Keyword => "keyword",
            Self::DateNanos => "date_nanos",
            Self::Double => "double",
            Self::Ip => "ip",
            Self::Long => "long",
        }
    }
}

/// Every field that a document may have.
pub(super) const FIELDS: &[(&str, Type)] = &[
    ("@timestamp", Type::DateNanos),
    ("data_stream.type", Type::Constant),
    ("data_stream.dataset", Type::Constant),
    ("data_stream.namespace", Type::Constant),
    ("ecs.version", Type::Keyword),
    ("event.kind", Type::Keyword),
    ("event.category", Type::Keyword),
    ("event.type", Type::Keyword),
    ("event.action", Type::Keyword),
    ("event.dataset", Type::Keyword),
    ("event.start", Type::DateNanos),
    ("event.end", Type::DateNanos),
    ("event.duration", Type::Long),
    ("flow.id", Type::Keyword),
    ("flow.final", Type::Boolean),
    ("network.type", Type::Keyword),
    ("network.transport", Type::Keyword),
    ("network.iana_number", Type::Keyword),
    ("network.direction", Type::Keyword),
    ("network.community_id", Type::Keyword),
    ("network.bytes", Type::Long),
    ("network.packets", Type::Long),
    ("source.ip", Type::Ip),
    ("source.port", Type::Long),
    ("source.bytes", Type::Long),
    ("source.packets", Type::Long),
    ("source.nat.ip", Type::Ip),
    ("source.nat.port", Type::Long),
    ("destination.ip", Type::Ip),
    ("destination.port", Type::Long),
    ("destination.bytes", Type::Long),
    ("destination.packets", Type::Long),
    ("destination.nat.ip", Type::Ip),
    ("destination.nat.port", Type::Long),
    ("related.ip", Type::Ip),
    ("host.name", Type::Keyword),
    ("conntally.delta.source.bytes", Type::Long),
    ("conntally.delta.source.packets", Type::Long),
    ("conntally.delta.destination.bytes", Type::Long),
    ("conntally.delta.destination.packets", Type::Long),
    ("conntally.total.source.bytes", Type::Long),
    ("conntally.total.source.packets", Type::Long),
    ("conntally.total.destination.bytes", Type::Long),
    ("conntally.total.destination.packets", Type::Long),
    ("conntally.last", Type::DateNanos),
    ("conntally.status", Type::Keyword),
    ("conntally.tcp_state", Type::Keyword),
    ("conntally.sctp_state", Type::Keyword),
    ("conntally.dccp_state", Type::Keyword),
    ("conntally.icmp.type", Type::Long),
    ("conntally.icmp.code", Type::Long),
    ("conntally.icmp.id", Type::Long),
    ("conntally.end_reason", Type::Keyword),
    ("conntally.nat", Type::Keyword),
    ("conntally.mark", Type::Long),
    ("conntally.labels", Type::Keyword),
    ("conntally.zone", Type::Long),
    ("conntally.netns.inode", Type::Long),
    ("conntally.netns.name", Type::Keyword),
    ("conntally.network.source", Type::Keyword),
    ("conntally.network.destination", Type::Keyword),
    ("conntally.flags", Type::Keyword),
];

/// How a server deletes what is old, as far as the template says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Lifecycle {
    /// Not by the template.
    None,
    /// The data stream's own, with the time that documents are kept.
    DataStream(String),
    /// By the policy of that name.
    Policy(String),
}

impl Lifecycle {
    /// That of an installed template, from the answer to a question for it.
    pub(super) fn installed(answer: &Value) -> Self {
        let content = answer.pointer("/index_templates/0/index_template/template");
        let text = |path| Some(content?.pointer(path)?.as_str()?.to_owned());
        let policy = || text("/settings/index/lifecycle/name").map(Self::Policy);
        text("/lifecycle/data_retention").map(Self::DataStream).or_else(policy).unwrap_or(Self::None)
    }
}

/// The template of a data stream of flows.
pub(super) fn template(stream: &DataStream, lifecycle: &Lifecycle, has_constants: bool) -> Value {
    template_of(stream, FIELDS, &meta(), lifecycle, has_constants)
}

/// The template of one data stream, and of no other: each namespace has a retention of its own. `meta` tells its version.
pub(super) fn template_of(
    stream: &DataStream,
    fields: &[(&str, Type)],
    meta: &Value,
    lifecycle: &Lifecycle,
    has_constants: bool,
) -> Value {
    let mut content = json!({ "mappings": mappings(fields, meta, has_constants) });
    if let Some(content) = content.as_object_mut() {
        match lifecycle {
            Lifecycle::None => {}
            Lifecycle::DataStream(kept) => {
                content.insert("lifecycle".into(), json!({ "data_retention": kept }));
            }
            Lifecycle::Policy(name) => {
                content.insert("settings".into(), json!({ "index.lifecycle.name": name }));
            }
        }
    }
    json!({
        "index_patterns": [stream.name()],
        "data_stream": {},
        "priority": PRIORITY,
        "version": meta.pointer("/conntally/version"),
        "template": content,
        "_meta": meta,
    })
}

fn meta() -> Value {
    json!({
        "description": "flows accounted by conntally",
        "managed_by": "conntally",
        "conntally": { "version": VERSION },
    })
}

/// The version of an installed template, from the answer to a question for it; 0 for one that says none.
pub(super) fn installed_version(answer: &Value) -> Option<u64> {
    let template = answer.pointer("/index_templates/0/index_template")?;
    Some(template.pointer("/_meta/conntally/version").and_then(Value::as_u64).unwrap_or(0))
}

/// What is ours is checked: an unknown field there is a mistake. Elsewhere others may add fields, which are kept and
/// not indexed.
fn mappings(fields: &[(&str, Type)], meta: &Value, has_constants: bool) -> Value {
    let mut properties = properties_of(fields, has_constants);
    if let Some(Value::Object(own)) = properties.get_mut("conntally") {
        own.insert("dynamic".into(), "strict".into());
    }
    json!({ "dynamic": false, "_meta": meta, "properties": properties })
}

/// The fields as the server wants them: nested.
pub(super) fn properties(has_constants: bool) -> Map<String, Value> {
    properties_of(FIELDS, has_constants)
}

pub(super) fn properties_of(fields: &[(&str, Type)], has_constants: bool) -> Map<String, Value> {
    let mut root = Map::new();
    for (path, kind) in fields {
        insert(&mut root, path, json!({ "type": kind.name(has_constants) }));
    }
    root
}

fn insert(level: &mut Map<String, Value>, path: &str, field: Value) {
    let Some((name, rest)) = path.split_once('.') else {
        level.insert(path.to_owned(), field);
        return;
    };
    let inner = level.entry(name).or_insert_with(|| json!({ "properties": {} }));
    if let Some(Value::Object(next)) = inner.get_mut("properties") {
        insert(next, rest, field);
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::sync::Arc;

    use proptest::prelude::*;
    use proptest::strategy::ValueTree as _;

    use super::super::super::encode::document_of;
    use super::super::super::{BulkEncoder, Counters, DataStream};
    use super::*;
    use crate::model::Record;
    use crate::pipeline::Networks;
    use crate::pipeline::networks::NetworkDefinition;
    use crate::sinks::json::EncodeContext;
    use crate::sinks::samples::{any_record, end_of_tcp, ping};

    /// Every address is in one of them, and both are internal.
    fn networks() -> Arc<Networks> {
        let all = ["0.0.0.0/0", "::/0"].map(|prefix| prefix.parse().unwrap()).to_vec();
        let all = NetworkDefinition { name: "all".into(), prefixes: all, internal: Some(true) };
        Arc::new(Networks::new(&[all]).unwrap())
    }

    fn document(record: &Record, counters: Counters) -> Value {
        let context = EncodeContext {
            host: "gw1".into(),
            netns_name: Box::new(|_| Some(Arc::from("init"))),
            networks: networks(),
        };
        let (mut out, mut ends) = (Vec::new(), Vec::new());
        let mut encoder = BulkEncoder::new(context, counters, &DataStream::of("default"));
        encoder.encode(std::slice::from_ref(record), &mut out, &mut ends);
        serde_json::from_slice(document_of(&out)).unwrap()
    }

    fn leaves<'a>(value: &'a Value, path: &str, into: &mut Vec<(String, &'a Value)>) {
        match value {
            Value::Object(fields) => {
                for (name, value) in fields {
                    let path = if path.is_empty() { name.clone() } else { format!("{path}.{name}") };
                    leaves(value, &path, into);
                }
            }
            // A list is as its members.
            Value::Array(items) if items.is_empty() => into.push((path.to_owned(), &Value::Null)),
            Value::Array(items) => items.iter().for_each(|item| leaves(item, path, into)),
            leaf => into.push((path.to_owned(), leaf)),
        }
    }

    fn holds(kind: Type, value: &Value) -> bool {
        match (kind, value) {
            (_, Value::Null) => true,
            (Type::Boolean, Value::Bool(_)) | (Type::Long, Value::Number(_)) => true,
            (Type::Constant | Type::Keyword, Value::String(_)) => true,
            (Type::Ip, Value::String(text)) => text.parse::<std::net::IpAddr>().is_ok(),
            (Type::DateNanos, Value::String(text)) => text.len() == 30 && text.ends_with('Z'),
            _ => false,
        }
    }

    fn check(value: &Value) -> BTreeSet<String> {
        let mut found = Vec::new();
        leaves(value, "", &mut found);
        for (path, leaf) in &found {
            let field = FIELDS.iter().find(|(name, _)| name == path);
            assert!(field.is_some_and(|(_, kind)| holds(*kind, leaf)), "{path}: {leaf} as {field:?}");
        }
        found.into_iter().map(|(path, _)| path).collect()
    }

    #[test]
    fn every_field_of_the_template_is_written_for_some_record() {
        let mut runner = proptest::test_runner::TestRunner::deterministic();
        let mut seen = BTreeSet::new();
        for _ in 0..2_000 {
            let record = any_record().new_tree(&mut runner).unwrap().current();
            let protocol = [6, 132, 33, 1][seen.len() % 4];
            let original = crate::model::Tuple { protocol, ..record.original };
            let record = Record { original, protocol_state: Some(3), labels: [1; 16], ..record };
            seen.extend(check(&document(&record, Counters::Total)));
            seen.extend(check(&document(&record, Counters::Delta)));
        }
        for record in [end_of_tcp(), ping()] {
            seen.extend(check(&document(&record, Counters::Total)));
        }
        for protocol in [6, 132, 33] {
            let original = crate::model::Tuple { protocol, ..end_of_tcp().original };
            seen.extend(check(&document(&Record { original, ..end_of_tcp() }, Counters::Total)));
        }
        let missing: Vec<_> =
            FIELDS.iter().map(|(path, _)| *path).filter(|path| !seen.contains(*path)).collect();
        assert_eq!(missing, Vec::<&str>::new());
    }

    proptest! {
        #[test]
        fn every_field_of_any_record_is_in_the_template_with_its_type(record in any_record(), delta: bool) {
            let counters = if delta { Counters::Delta } else { Counters::Total };
            check(&document(&record, counters));
        }
    }

    #[test]
    fn ours_is_strict_and_the_data_stream_is_told() {
        let lifecycle = Lifecycle::DataStream("30d".into());
        let template = template(&DataStream::of("noc"), &lifecycle, true);
        assert_eq!(template["index_patterns"], json!(["logs-conntally.flow-noc"]));
        assert_eq!(template["template"]["mappings"]["properties"]["conntally"]["dynamic"], "strict");
        assert_eq!(template["template"]["lifecycle"]["data_retention"], "30d");
        let stream = &template["template"]["mappings"]["properties"]["data_stream"]["properties"];
        assert_eq!(stream["dataset"]["type"], "constant_keyword");
        assert!(template["priority"].as_u64() > Some(200));
        let answer = json!({ "index_templates": [{ "name": "x", "index_template": template }] });
        assert_eq!(installed_version(&answer), Some(VERSION));
        assert_eq!(Lifecycle::installed(&answer), lifecycle);
        assert_eq!(installed_version(&json!({ "index_templates": [] })), None);
        assert_eq!(Lifecycle::installed(&json!({ "index_templates": [] })), Lifecycle::None);
    }

    /// Servers nest settings that were sent with a dotted name.
    #[test]
    fn the_policy_of_an_installed_template_is_found() {
        let settings = json!({ "index": { "lifecycle": { "name": "logs-conntally.flow-noc" } } });
        let template = json!({ "template": { "settings": settings } });
        let answer = json!({ "index_templates": [{ "name": "x", "index_template": template }] });
        assert_eq!(Lifecycle::installed(&answer), Lifecycle::Policy("logs-conntally.flow-noc".into()));
    }

    /// Fails when fields change: then [`VERSION`] goes up, and the number here with it.
    #[test]
    fn the_version_counts_changes_of_the_fields() {
        let text: String = FIELDS.iter().map(|(path, kind)| format!("{path} {kind:?}\n")).collect();
        let digest = xxhash_rust::xxh3::xxh3_64(text.as_bytes());
        assert_eq!((VERSION, format!("{digest:016x}").as_str()), (1, "fba1dcd72a597d2d"));
    }
}
