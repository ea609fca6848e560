//! What the annotated configuration says of each option, for those who show it elsewhere.

use std::mem;

/// Where the annotated file has what all sinks share, and what only sinks of a type have.
const SINKS: &str = "sinks.NAME";
const ELASTICSEARCH: &str = "sinks.archive";
/// Standard streams as sinks have keys that are explained there.
const OUTPUT: &str = "output";

/// One option, as annotated.
#[derive(Debug)]
struct Entry {
    table: String,
    key: String,
    text: String,
    value: toml::Value,
    /// What is written is the default, no example.
    is_default: bool,
}

/// All of them.
#[derive(Debug, Default)]
pub(super) struct Annotations {
    entries: Vec<Entry>,
    tables: Vec<(String, String)>,
}

impl Annotations {
    /// Those of the annotated file. A block of lines `# …` belongs to the options below it.
    pub(super) fn read(annotated: &str) -> Self {
        let mut reader = Reader::default();
        annotated.lines().for_each(|line| reader.line(line));
        reader.found
    }

    /// What is said of a table, or of the first one in it.
    pub(super) fn table(&self, table: &str) -> Option<&str> {
        let table = if table == "sinks.elasticsearch" { ELASTICSEARCH } else { table };
        let is_it = |name: &str| {
            name.strip_prefix(table).is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
        };
        self.tables.iter().find(|(name, _)| is_it(name)).map(|(_, text)| text.as_str())
    }

    /// What is said of a key.
    pub(super) fn text(&self, table: &str, key: &str) -> Option<&str> {
        self.entries(table, key).next().map(|entry| entry.text.as_str())
    }

    /// Its default.
    pub(super) fn default(&self, table: &str, key: &str) -> Option<&toml::Value> {
        self.entries(table, key).find(|entry| entry.is_default).map(|entry| &entry.value)
    }

    /// Values for example.
    pub(super) fn examples(&self, table: &str, key: &str) -> impl Iterator<Item = &toml::Value> {
        self.entries(table, key).filter(|entry| !entry.is_default).map(|entry| &entry.value)
    }

    fn entries(&self, table: &str, key: &str) -> impl Iterator<Item = &Entry> {
        let found = |table: &str| {
            let is_it = |entry: &&Entry| entry.table == table && entry.key == key;
            self.entries.iter().filter(is_it).collect::<Vec<_>>()
        };
        let places = match table.strip_prefix("sinks.") {
            Some(sink) => {
                let (kind, inner) = sink.split_at(sink.find('.').unwrap_or(sink.len()));
                let tables = if kind == "elasticsearch" { [ELASTICSEARCH, SINKS] } else { [SINKS, OUTPUT] };
                tables.map(|table| format!("{table}{inner}"))
            }
            None => [table.to_owned(), table.to_owned()],
        };
        places.iter().map(|place| found(place)).find(|found| !found.is_empty()).into_iter().flatten()
    }
}

#[derive(Default)]
struct Reader {
    found: Annotations,
    table: String,
    text: String,
    /// An option followed the text: the next line of text begins another one.
    is_told: bool,
}

impl Reader {
    fn line(&mut self, line: &str) {
        let is_example = line.starts_with("## ");
        let bare = line.trim_start_matches("## ").trim_start_matches('#');
        if line.is_empty() {
            (self.text, self.is_told) = (String::new(), false);
        } else if let Some(name) = bare.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
            name.clone_into(&mut self.table);
            self.found.tables.push((self.table.clone(), mem::take(&mut self.text)));
        } else if let Some(prose) =
            line.strip_prefix("# ").or_else(|| line.strip_prefix("#").filter(|rest| rest.is_empty()))
        {
            self.prose(prose);
        } else if let Some((key, value)) = option(bare) {
            self.is_told = true;
            let table = self.table.clone();
            self.entry(table, key, value, !is_example);
        }
    }

    /// What is said of a table in a line is said of all that is in it.
    fn entry(&mut self, table: String, key: String, value: toml::Value, is_default: bool) {
        if let toml::Value::Table(inner) = &value {
            for (name, value) in inner {
                self.entry(format!("{table}.{key}"), name.clone(), value.clone(), is_default);
            }
        }
        self.found.entries.push(Entry { table, key, text: self.text.clone(), value, is_default });
    }

    fn prose(&mut self, prose: &str) {
        if mem::take(&mut self.is_told) {
            self.text.clear();
        }
        if !self.text.is_empty() {
            self.text.push('\n');
        }
        self.text.push_str(prose);
    }
}

/// `key = value`.
fn option(line: &str) -> Option<(String, toml::Value)> {
    let table: toml::Table = toml::from_str(line).ok()?;
    table.into_iter().next()
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "\
# The first line.

# What a is.
# And more.
#a = 5
## b = \"x\"
# What c is.
#c = true

# A table.
[t]

# What d is.
## d = [1]
#d = []
# Sinks.
## [sinks.NAME]
# Of all.
## user = \"u\"
## url = \"v\"
# Of a table.
## inner = { size = 1 }
# Of one.
## [sinks.archive]
# Its own.
## user = \"w\"
";

    #[test]
    fn a_block_of_text_belongs_to_the_options_below_it() {
        let all = Annotations::read(TEXT);
        assert_eq!(all.text("", "a"), Some("What a is.\nAnd more."));
        assert_eq!(all.text("", "b"), all.text("", "a"));
        assert_eq!(all.text("", "c"), Some("What c is."));
        assert_eq!(all.table("t"), Some("A table."));
        assert_eq!(all.text("t", "a"), None);
    }

    #[test]
    fn defaults_are_told_from_examples() {
        let all = Annotations::read(TEXT);
        assert_eq!(all.default("", "a"), Some(&toml::Value::Integer(5)));
        assert_eq!(all.default("", "b"), None);
        assert_eq!(all.examples("", "b").count(), 1);
        assert_eq!(all.default("t", "d"), Some(&toml::Value::Array(Vec::new())));
    }

    #[test]
    fn a_type_of_sink_has_what_is_said_of_it_alone_else_what_is_said_of_all() {
        let all = Annotations::read(TEXT);
        assert_eq!(all.text("sinks.elasticsearch", "user"), Some("Its own."));
        assert_eq!(all.text("sinks.influxdb", "user"), Some("Of all."));
        assert_eq!(all.text("sinks.elasticsearch", "url"), Some("Of all."));
        assert_eq!(all.text("sinks.null.inner", "size"), Some("Of a table."));
    }
}
