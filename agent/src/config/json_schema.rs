//! `conntally config schema`: the configuration as a JSON Schema, for editors.
//!
//! It is made of what the reader asks for when it reads [`PROBE`], and of what the annotated file says: there is no
//! list of keys beside those two. Relations among keys are left to `conntally config validate`.

use super::annotations::Annotations;
use super::shape::{Shape, TableShape};
use super::{ANNOTATED, Document, validate};
use serde_json::{Map, Value, json};
use std::path::Path;

/// Has the reader go through everything that it may ask for: one sink of each form, a network, a step of the curve.
const PROBE: &str = r#"
[source]
rate_curve = [{}]
[networks]
any = {}
[sinks]
a = { type = "stdout" }
b = { type = "stderr" }
c = { type = "null" }
d = { type = "influxdb" }
e = { type = "influxdb", version = 1 }
f = { type = "influxdb", version = 1, url = "udp://influx.example:8089" }
g = { type = "elasticsearch" }
"#;

const DURATION: &str = r"^(\d+ *d)?(\d+ *h)?(\d+ *m)?(\d+ *s)?(\d+ *ms)?$";
const SIZE: &str = r"^\d+ *([KMGT]i)?B$";
const SINK_NAME: &str = "^[a-z0-9_-]{1,32}$";

/// The schema, by draft 2020-12.
#[must_use]
pub fn json_schema() -> Value {
    // The probe is a part of this program; one that is no TOML would be an empty schema, which tests notice.
    let probe = Document::parse(PROBE, Path::new("probe")).unwrap_or_default();
    let annotations = Annotations::read(ANNOTATED);
    let mut schema = json!({
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "conntally.toml",
        "description": "The configuration of conntally. `conntally config validate` tells more than a schema can.",
    });
    let root = Renderer { annotations: &annotations }.table("", &validate::shape_of(&probe));
    if let (Value::Object(schema), Value::Object(root)) = (&mut schema, root) {
        schema.extend(root);
    }
    schema
}

struct Renderer<'a> {
    annotations: &'a Annotations,
}

impl Renderer<'_> {
    /// What may stand in a table, of which the annotated file speaks under that name.
    fn table(&self, name: &str, shape: &TableShape) -> Value {
        let key = |(key, value): &(&str, Shape)| ((*key).to_owned(), self.key(name, key, value));
        let properties: Map<_, _> = shape.keys().iter().map(key).collect();
        let mut table = json!({ "type": "object", "properties": properties, "additionalProperties": false });
        let required: Vec<_> = shape.required().collect();
        if !required.is_empty() {
            set(&mut table, "required", json!(required));
        }
        if let Some((short, value)) = shape.free() {
            let alone = value.get(short).map_or(Value::Null, |shape| self.shape("", short, shape));
            set(&mut table, "additionalProperties", json!({ "anyOf": [alone, self.table("", value)] }));
        }
        table
    }

    /// What may stand under a key, and what is said of it.
    fn key(&self, table: &str, key: &str, shape: &Shape) -> Value {
        let mut schema = self.shape(table, key, shape);
        if let Some(text) = self.description(table, key) {
            set(&mut schema, "description", json!(text));
        }
        if let Some(default) = self.annotations.default(table, key) {
            set(&mut schema, "default", json!(default));
        }
        let examples: Vec<_> = self.annotations.examples(table, key).collect();
        let is_secret = *shape == Shape::Secret;
        if !examples.is_empty() && !is_secret {
            set(&mut schema, "examples", json!(examples));
        }
        schema
    }

    /// An option that nothing is said of by itself is explained with its table.
    fn description(&self, table: &str, key: &str) -> Option<&str> {
        match self.annotations.text(table, key) {
            Some("") => self.annotations.table(table),
            None if table.is_empty() => self.annotations.table(key),
            said => said,
        }
    }

    fn shape(&self, table: &str, key: &str, shape: &Shape) -> Value {
        let text = || json!({ "type": "string", "minLength": 1 });
        match shape {
            Shape::Text | Shape::Path | Shape::Secret => text(),
            Shape::Texts => json!({ "type": "array", "items": text() }),
            Shape::TextOrTexts => json!({ "type": ["string", "array"], "items": { "type": "string" } }),
            Shape::Boolean => json!({ "type": "boolean" }),
            Shape::Duration => json!({ "type": "string", "minLength": 1, "pattern": DURATION }),
            Shape::Size => json!({ "type": "string", "pattern": SIZE }),
            Shape::Number(range) => {
                json!({ "type": "integer", "minimum": range.start(), "maximum": range.end() })
            }
            Shape::AutoOrNumber(range) => {
                let number = json!({ "type": "integer", "minimum": range.start(), "maximum": range.end() });
                json!({ "anyOf": [{ "const": "auto" }, number] })
            }
            Shape::Name(names) => json!({ "type": "string", "enum": names }),
            Shape::Names(names) => {
                json!({ "type": "array", "items": { "type": "string", "enum": names }, "uniqueItems": true })
            }
            Shape::Table(shape) if table.is_empty() => self.table(key, shape),
            Shape::Table(shape) => self.table(&format!("{table}.{key}"), shape),
            Shape::Tables(shape) => json!({ "type": "array", "items": self.table("step", shape) }),
            Shape::Named(shapes) => self.named(key, shapes),
        }
    }

    /// Tables of which each is of a type: what is asked for in those of the same type belongs together.
    fn named(&self, key: &str, shapes: &[TableShape]) -> Value {
        let mut types: Vec<(&str, TableShape)> = Vec::new();
        for shape in shapes {
            let Some(Shape::Name(names)) = shape.get("type") else { continue };
            let Some(name) = names.first() else { continue };
            match types.iter_mut().find(|(known, _)| known == name) {
                Some((_, known)) => *known = known.or(shape),
                None => types.push((name, shape.clone())),
            }
        }
        let schemas: Vec<_> =
            types.iter().map(|(name, shape)| self.table(&format!("{key}.{name}"), shape)).collect();
        json!({
            "type": "object",
            "propertyNames": { "pattern": SINK_NAME },
            "additionalProperties": { "oneOf": schemas },
        })
    }
}

fn set(schema: &mut Value, key: &str, value: Value) {
    if let Value::Object(schema) = schema {
        schema.insert(key.to_owned(), value);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::units;
    use proptest::prelude::*;

    #[test]
    fn what_the_annotated_file_says_is_at_hand() {
        let schema = json_schema();
        let hook = schema.pointer("/properties/source/properties/hook").unwrap();
        assert_eq!(hook["default"], "auto");
        assert_eq!(hook["enum"], json!(["auto", "fentry", "kprobe"]));
        assert!(hook["description"].as_str().unwrap().starts_with("How the kernel programs are attached."));
    }

    /// Every option, with its place.
    fn options(schema: &Value, place: &str, all: &mut Vec<(String, Value)>) {
        for (key, inner) in schema["properties"].as_object().into_iter().flatten() {
            all.push((format!("{place}/{key}"), inner.clone()));
            options(inner, &format!("{place}/{key}"), all);
        }
        for kind in schema["additionalProperties"]["oneOf"].as_array().into_iter().flatten() {
            options(kind, &format!("{place}/{}", kind["properties"]["type"]["enum"][0]), all);
        }
    }

    #[test]
    fn every_option_is_described() {
        let mut all = Vec::new();
        options(&json_schema(), "", &mut all);
        assert!(all.len() > 60, "{}", all.len());
        for (place, option) in all {
            let is_described = option["description"].is_string() || place.contains("/group_by/");
            assert!(is_described, "{place} is explained nowhere in configs/conntally.toml");
        }
    }

    #[test]
    fn each_sort_of_sink_is_there_and_told_by_its_type() {
        let schema = json_schema();
        let kinds = schema.pointer("/properties/sinks/additionalProperties/oneOf").unwrap();
        let names: Vec<_> =
            kinds.as_array().unwrap().iter().map(|kind| &kind["properties"]["type"]["enum"]).collect();
        assert_eq!(json!(names), json!([["stdout"], ["stderr"], ["null"], ["influxdb"], ["elasticsearch"]]));
    }

    proptest! {
        #[test]
        fn durations_and_sizes_of_the_schema_are_those_of_the_agent(text in "[0-9]{0,2} ?(|[dhmsB]|ms|[KMGT]iB)([0-9]{1,2}(s|ms|B))?") {
            let fits = |schema: Value| jsonschema::is_valid(&schema, &json!(text));
            let duration = json!({ "minLength": 1, "pattern": DURATION });
            prop_assert_eq!(units::duration(&text).is_ok(), fits(duration));
            prop_assert_eq!(units::size(&text).is_ok(), fits(json!({ "pattern": SIZE })));
        }
    }
}
