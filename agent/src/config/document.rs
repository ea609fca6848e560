//! The raw configuration: a tree of values of which each remembers where it stands.

use super::{Place, Problems};
use std::collections::BTreeMap;
use std::ops::Range;
use std::path::Path;
use std::sync::Arc;
use toml::de::{DeArray, DeTable, DeValue};

/// A file that is no TOML at all has one error for each of its bytes; nobody reads them all.
const MAX_ERRORS: usize = 1000;

/// Keys of one table.
pub(super) type Table = BTreeMap<String, Node>;

/// A value and where its key stands.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Node {
    pub(super) place: Place,
    pub(super) value: Value,
}

/// A value before anyone asked what it means.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Value {
    /// A TOML string.
    String(String),
    /// What stands in the environment or in a flag: it has no type until the key is known.
    Untyped(String),
    Integer(i64),
    Boolean(bool),
    Array(Vec<Node>),
    Table(Table),
    /// A float, a date, or a number beyond 64 bits, which no option takes; the name of its type.
    Other(&'static str),
}

impl Value {
    /// What a person calls this type.
    pub(super) const fn type_name(&self) -> &'static str {
        match self {
            Self::String(_) | Self::Untyped(_) => "a string",
            Self::Integer(_) => "a number",
            Self::Boolean(_) => "true or false",
            Self::Array(_) => "a list",
            Self::Table(_) => "a table",
            Self::Other(name) => name,
        }
    }
}

/// The layers of a configuration, merged; later layers win.
#[derive(Clone, Debug, Default)]
pub struct Document {
    pub(super) root: Table,
}

impl Document {
    /// Reads a TOML text; `path` is where it is said to stand.
    ///
    /// # Errors
    /// Every line that is no TOML, with the first fault in it: those after it mostly follow from it.
    pub fn parse(text: &str, path: &Path) -> Result<Self, Problems> {
        let source = Source { text, path: Arc::new(path.to_path_buf()) };
        let (table, errors) = DeTable::parse_recoverable(text);
        let mut problems = Problems::default();
        for error in errors.iter().take(MAX_ERRORS) {
            let place = source.place(&error.span().unwrap_or(0..0));
            if problems.0.iter().any(|problem| problem.place == place) {
                continue;
            }
            problems.add(&place, "", error.message().replace('\n', "; "));
        }
        problems.into_result(Self { root: source.table(table.get_ref()) })
    }

    /// Puts a text over what stands at a path, as in `["source", "hook"]`.
    pub fn set(&mut self, path: &[&str], place: Place, text: String) {
        let Some((last, tables)) = path.split_last() else { return };
        let mut table = &mut self.root;
        for name in tables {
            let node = table
                .entry((*name).to_owned())
                .or_insert_with(|| Node { place: place.clone(), value: Value::Table(Table::new()) });
            // Something else than a table stands there: it is reported when it is read.
            let Value::Table(inner) = &mut node.value else { return };
            table = inner;
        }
        table.insert((*last).to_owned(), Node { place, value: Value::Untyped(text) });
    }
}

/// Reads an untyped text as a TOML value; `None` when it is none.
pub(super) fn parse_value(text: &str, place: &Place) -> Option<Value> {
    let value = DeValue::parse(text).ok()?;
    Some(convert(value.get_ref(), &|_| place.clone()))
}

struct Source<'a> {
    text: &'a str,
    path: Arc<std::path::PathBuf>,
}

impl Source<'_> {
    fn place(&self, span: &Range<usize>) -> Place {
        let before = self.text.as_bytes().get(..span.start).unwrap_or(self.text.as_bytes());
        let line = 1 + before.iter().filter(|byte| **byte == b'\n').count();
        Place::File { path: Arc::clone(&self.path), line }
    }

    fn table(&self, table: &DeTable<'_>) -> Table {
        convert_table(table, &|span| self.place(&span))
    }
}

type Places<'a> = dyn Fn(Range<usize>) -> Place + 'a;

fn convert(value: &DeValue<'_>, places: &Places<'_>) -> Value {
    match value {
        DeValue::String(text) => Value::String(text.to_string()),
        DeValue::Integer(number) => i64::from_str_radix(number.as_str(), number.radix())
            .map_or(Value::Other("a number beyond 64 bits"), Value::Integer),
        DeValue::Boolean(flag) => Value::Boolean(*flag),
        DeValue::Float(_) => Value::Other("a fraction"),
        DeValue::Datetime(_) => Value::Other("a date"),
        DeValue::Array(items) => Value::Array(convert_array(items, places)),
        DeValue::Table(table) => Value::Table(convert_table(table, places)),
    }
}

fn convert_array(items: &DeArray<'_>, places: &Places<'_>) -> Vec<Node> {
    items
        .iter()
        .map(|item| Node { place: places(item.span()), value: convert(item.get_ref(), places) })
        .collect()
}

fn convert_table(table: &DeTable<'_>, places: &Places<'_>) -> Table {
    table
        .iter()
        .map(|(key, item)| {
            let node = Node { place: places(key.span()), value: convert(item.get_ref(), places) };
            (key.get_ref().to_string(), node)
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn every_syntax_error_is_reported_with_its_line() {
        let text = "a = 1\nb = = 2\n\nc = 3\nd = \"open\ne = 4\n";
        let problems = Document::parse(text, Path::new("x.toml")).unwrap_err();
        let lines: Vec<_> = problems.0.iter().map(|problem| problem.place.to_string()).collect();
        assert!(lines.contains(&"x.toml:2".to_owned()), "{problems}");
        assert!(lines.contains(&"x.toml:5".to_owned()), "{problems}");
    }

    #[test]
    fn one_fault_is_one_problem() {
        for text in ["a=[[[[[[[[\n", "a={b={c={\n", "a = 1\nb = [[1, 2\n"] {
            let problems = Document::parse(text, Path::new("x.toml")).unwrap_err();
            assert_eq!(problems.0.len(), 1, "{problems}");
        }
    }

    #[test]
    fn a_key_that_stands_twice_is_an_error() {
        let problems = Document::parse("a = 1\na = 2\n", Path::new("x.toml")).unwrap_err();
        assert_eq!(problems.0.len(), 1);
        assert!(problems.to_string().starts_with("x.toml:2: "), "{problems}");
    }

    #[test]
    fn a_later_layer_covers_an_earlier_one() {
        let mut document = Document::parse("[source]\nhook = \"kprobe\"\n", Path::new("x.toml")).unwrap();
        document.set(&["source", "hook"], Place::Flag("--hook"), "fentry".into());
        document.set(&["log", "level"], Place::Flag("-v"), "debug".into());
        let Some(Value::Table(source)) = document.root.get("source").map(|node| &node.value) else {
            panic!()
        };
        assert_eq!(source["hook"].value, Value::Untyped("fentry".into()));
        assert!(document.root.contains_key("log"));
    }

    proptest! {
        #[test]
        fn any_text_is_read_or_refused_without_a_panic(text in "[a-z=\\[\\]{}\"'#,.0-9\\n\\PC]{0,80}") {
            let _ = Document::parse(&text, Path::new("x.toml"));
        }
    }
}
