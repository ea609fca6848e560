//! The raw configuration: a tree of values of which each remembers where it stands.

use super::{ANNOTATED, Place, Problems};
use std::collections::BTreeMap;
use std::ops::Range;
use std::path::Path;
use std::sync::Arc;
use toml::de::{DeArray, DeTable, DeValue};

/// A file that is no TOML at all has one error for each of its bytes; nobody reads them all.
const MAX_ERRORS: usize = 1000;

/// What the reader of TOML says of a key that stands twice; a test notices when it has other words.
const DUPLICATE: &str = "duplicate key";

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
    /// Keys that stand twice in the file. They hide nothing else, so they are told with what is wrong with the values.
    pub(super) twice: Problems,
}

impl Document {
    /// Reads a TOML text; `path` is where it is said to stand.
    ///
    /// # Errors
    /// Every line that is no TOML, with the first fault in it: those after it mostly follow from it. A key that
    /// stands twice is none of them: [`validate`](super::validate) reports it.
    pub fn parse(text: &str, path: &Path) -> Result<Self, Problems> {
        let source = Source { text, path: Arc::new(path.to_path_buf()) };
        let (table, errors) = DeTable::parse_recoverable(text);
        let (mut problems, mut twice) = (Problems::default(), Problems::default());
        for error in errors.iter().take(MAX_ERRORS) {
            let span = error.span().unwrap_or(0..0);
            let (start, place) = (span.start, source.place(&span));
            if error.message() == DUPLICATE {
                let key = text.get(span).unwrap_or_default();
                twice.add(&place, key, "stands twice in its table; remove one of the two");
            } else if !problems.0.iter().any(|problem| problem.place == place) {
                problems.add(&place, source.key(start), syntax(&error.message().replace('\n', "; ")));
            }
        }
        if let Some(last) = problems.0.last_mut() {
            last.message.push_str("; all else in the file is checked when its syntax is right");
            problems.0.append(&mut twice.0);
        }
        problems.into_result(Self { root: source.table(table.get_ref()), twice })
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

/// What is wrong, in words for somebody who does not know the grammar of TOML.
fn syntax(message: &str) -> String {
    /// Beginnings of what the parser says, and what it means.
    const MEANINGS: [(&str, &str); 6] = [
        ("string values must be quoted", "a text has to stand in quotes"),
        // It takes a word for the name of a number or a truth.
        ("invalid float", "is neither a number nor a text in quotes"),
        ("invalid boolean", "is neither true or false nor a text in quotes"),
        ("key with no value", "has no value; an option is written KEY = VALUE"),
        ("invalid basic string", "the text has no quote at its end"),
        ("missing escaped value", "a backslash in a text is written twice"),
    ];
    let meaning = MEANINGS.iter().find(|(beginning, _)| message.starts_with(beginning));
    let told = meaning.map_or(message.trim_end_matches(", expected nothing"), |(_, meaning)| meaning);
    format!("no TOML: {told}")
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

    /// The option that is set in the line of this byte. Only a name that is known: where the syntax is wrong, what looks
    /// like a name may be a piece of a secret.
    fn key(&self, at: usize) -> &str {
        let (before, behind) = self.text.split_at_checked(at).unwrap_or((self.text, ""));
        let start = before.rfind('\n').map_or(0, |end| end + 1);
        let length = before.len() - start + behind.find('\n').unwrap_or(behind.len());
        let line = self.text.get(start..).and_then(|rest| rest.get(..length)).unwrap_or_default();
        let word = line.trim_start().split([' ', '=', ':', '\t']).next().unwrap_or_default();
        let is_known = |annotated: &str| {
            let option = annotated.trim_start_matches(['#', ' ']);
            option.strip_prefix(word).is_some_and(|rest| rest.starts_with(" = "))
        };
        if !word.is_empty() && ANNOTATED.lines().any(is_known) { word } else { "" }
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
    fn a_syntax_error_says_what_is_wrong_and_of_which_option_but_repeats_no_value() {
        let rest = "; all else in the file is checked when its syntax is right";
        for (text, told) in [
            ("url = https://x", "url: no TOML: a text has to stand in quotes"),
            ("  org=noc", "org: no TOML: is neither a number nor a text in quotes"),
            ("setup = truee", "setup: no TOML: is neither true or false nor a text in quotes"),
            ("token = \"hunter2", "token: no TOML: the text has no quote at its end"),
            ("hunter2 = \"hunter2", "no TOML: the text has no quote at its end"),
            ("hunter2", "no TOML: has no value; an option is written KEY = VALUE"),
            ("kind: auto", "kind: no TOML: has no value; an option is written KEY = VALUE"),
            ("org = \"a\\qb\"", "org: no TOML: a backslash in a text is written twice"),
            ("slots = = 2", "slots: no TOML: extra `=`"),
            ("[sinks.live", "no TOML: unclosed table, expected `]`"),
        ] {
            let problems = Document::parse(&format!("\n{text}\n"), Path::new("x.toml")).unwrap_err();
            assert_eq!(problems.to_string().trim_end(), format!("x.toml:2: {told}{rest}"));
        }
    }

    #[test]
    fn one_fault_is_one_problem() {
        for text in ["a=[[[[[[[[\n", "a={b={c={\n", "a = 1\nb = [[1, 2\n"] {
            let problems = Document::parse(text, Path::new("x.toml")).unwrap_err();
            assert_eq!(problems.0.len(), 1, "{problems}");
        }
    }

    #[test]
    fn a_key_that_stands_twice_is_named_and_hides_nothing() {
        let text = "[log]\nlevel = 3\n[source]\nhook = \"kprobe\"\nhook = \"fentry\"\n[log]\n";
        let document = Document::parse(text, Path::new("x.toml")).unwrap();
        let problems = super::super::validate(&document).unwrap_err().to_string();
        let lines: Vec<_> = problems.lines().collect();
        assert_eq!(lines.len(), 3, "{problems}");
        assert!(lines[0].starts_with("x.toml:2: log.level: must be one of"), "{problems}");
        assert_eq!(lines[1], "x.toml:5: hook: stands twice in its table; remove one of the two");
        assert!(lines[2].starts_with("x.toml:6: log: stands twice"), "{problems}");
    }

    #[test]
    fn a_key_that_stands_twice_is_named_beside_what_is_no_toml() {
        let problems = Document::parse("a = 1\na = 2\nb = = 2\n", Path::new("x.toml")).unwrap_err();
        assert_eq!(problems.0.len(), 2, "{problems}");
        assert!(problems.to_string().starts_with("x.toml:2: a: stands twice"), "{problems}");
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
