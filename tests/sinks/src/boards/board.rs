//! A board as it is committed: panels, queries, variables, and how these are filled in.

use std::fs;
use std::path::Path;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::{Context as _, Result};
use serde_json::Value;

/// Longer ago than any recording begins.
const FROM: Duration = Duration::from_secs(9_000);

/// Intervals that browsers of some widths would ask for: one that sees each moment of the recording alone, and one that
/// sees several together.
pub(super) const INTERVALS_MS: [u64; 2] = [20_000, 60_000];

/// One board.
#[derive(Debug)]
pub(super) struct Board {
    uid: String,
    panels: Vec<Panel>,
    variables: Vec<Variable>,
}

/// One panel.
#[derive(Debug)]
pub(super) struct Panel {
    json: Value,
    title: String,
    targets: Vec<Target>,
}

/// What a panel asks.
#[derive(Debug)]
pub(super) struct Target(pub(super) Value);

/// What a person may choose.
#[derive(Debug)]
pub(super) struct Variable(Value);

/// Values of variables, as they stand in queries.
#[derive(Clone, Debug)]
pub(super) struct Fill {
    values: Vec<(String, String)>,
    /// The interval of queries over time, milliseconds.
    pub(super) interval_ms: u64,
    /// Milliseconds since the Unix epoch.
    pub(super) from: u128,
    pub(super) to: u128,
}

impl Board {
    pub(super) fn read(file: &Path) -> Result<Self> {
        let text = fs::read_to_string(file).with_context(|| format!("cannot read {}", file.display()))?;
        let board: Value = serde_json::from_str(&text)?;
        let panels = board.get("panels").and_then(Value::as_array).context("it has no panels")?;
        let panels = panels.iter().filter(|panel| text_of(panel, "type") != "row");
        let list =
            board.pointer("/templating/list").and_then(Value::as_array).context("it has no variables")?;
        Ok(Self {
            uid: text_of(&board, "uid"),
            panels: panels.map(Panel::of).collect(),
            variables: list.iter().cloned().map(Variable).collect(),
        })
    }

    pub(super) fn uid(&self) -> &str {
        &self.uid
    }

    pub(super) fn panels(&self) -> impl Iterator<Item = &Panel> {
        self.panels.iter()
    }

    /// Those that offer values.
    pub(super) fn variables(&self) -> impl Iterator<Item = &Variable> {
        self.queried().filter(|variable| !variable.is_hidden())
    }

    /// Those that nobody chooses: all that their queries return is in the queries of panels.
    pub(super) fn found(&self) -> impl Iterator<Item = &Variable> {
        self.queried().filter(|variable| variable.is_hidden())
    }

    fn queried(&self) -> impl Iterator<Item = &Variable> {
        self.variables.iter().filter(|variable| text_of(&variable.0, "type") == "query")
    }

    /// Everything chosen, as when the board is opened.
    pub(super) fn everything(&self, interval_ms: u64) -> Fill {
        let value = |variable: &Variable| match text_of(&variable.0, "type").as_str() {
            "query" => text_of(&variable.0, "allValue"),
            "textbox" => lucene(&text_of(&variable.0, "query")),
            "custom" => {
                variable.0.get("current").map(|current| text_of(current, "value")).unwrap_or_default()
            }
            _ => text_of(&variable.0, "query"),
        };
        let values = self.variables.iter().map(|variable| (variable.name().to_owned(), value(variable)));
        // As a person wrote it, where a query wants that.
        let raw =
            self.variables.iter().map(|variable| (format!("{}:raw", variable.name()), variable.query()));
        let values = values.chain(raw);
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        // Whole intervals.
        let from = now.saturating_sub(FROM).as_millis() / u128::from(interval_ms) * u128::from(interval_ms);
        Fill { values: values.collect(), interval_ms, from, to: now.as_millis() }
    }
}

impl Panel {
    fn of(json: &Value) -> Self {
        let targets = json.get("targets").and_then(Value::as_array).cloned().unwrap_or_default();
        Self {
            json: json.clone(),
            title: text_of(json, "title"),
            targets: targets.into_iter().map(Target).collect(),
        }
    }

    pub(super) fn id(&self) -> u64 {
        self.json.get("id").and_then(Value::as_u64).unwrap_or(0)
    }

    pub(super) fn title(&self) -> &str {
        &self.title
    }

    pub(super) fn targets(&self) -> &[Target] {
        &self.targets
    }

    /// A property of a column that has its own.
    pub(super) fn property(&self, column: &str, id: &str) -> Option<&Value> {
        let overrides = self.json.pointer("/fieldConfig/overrides").and_then(Value::as_array);
        let own = overrides.into_iter().flatten().filter_map(|one| {
            (one.pointer("/matcher/options")? == column).then(|| one.get("properties")?.as_array())?
        });
        own.flatten().find(|property| text_of(property, "id") == id)?.get("value")
    }

    /// The unit of all columns, or of one that has its own.
    pub(super) fn unit(&self, column: &str) -> String {
        let default = self.json.pointer("/fieldConfig/defaults/unit");
        self.property(column, "unit").or(default).and_then(Value::as_str).unwrap_or_default().to_owned()
    }

    /// What a column is called on the board.
    pub(super) fn shown(&self, column: &str) -> String {
        self.renames()
            .and_then(|names| names.get(column))
            .and_then(Value::as_str)
            .unwrap_or(column)
            .to_owned()
    }

    /// Fields that a table of documents shows.
    pub(super) fn columns(&self) -> Vec<String> {
        self.renames().into_iter().flatten().map(|(name, _)| name.clone()).collect()
    }

    fn renames(&self) -> Option<&serde_json::Map<String, Value>> {
        let all = self.json.get("transformations")?.as_array()?;
        all.iter().find_map(|one| one.pointer("/options/renameByName")?.as_object())
    }
}

impl Variable {
    pub(super) fn name(&self) -> &str {
        self.0.get("name").and_then(Value::as_str).unwrap_or_default()
    }

    pub(super) fn query(&self) -> String {
        text_of(&self.0, "query")
    }

    fn is_hidden(&self) -> bool {
        self.0.get("hide").and_then(Value::as_u64) == Some(2)
    }
}

impl Fill {
    /// The time shown ends then, milliseconds since the Unix epoch.
    pub(super) fn until(mut self, ms: i64) -> Self {
        self.to = u128::try_from(ms).unwrap_or(0);
        self
    }

    /// The time shown begins then, milliseconds since the Unix epoch, or at most an interval before.
    pub(super) fn since(mut self, ms: i64) -> Self {
        let interval_ms = u128::from(self.interval_ms.max(1));
        self.from = u128::try_from(ms).unwrap_or(0) / interval_ms * interval_ms;
        self
    }

    /// Whether there is such a variable.
    pub(super) fn has(&self, name: &str) -> bool {
        self.values.iter().any(|(known, _)| known == name)
    }

    /// With another value of one.
    pub(super) fn with(mut self, name: &str, value: &str) -> Self {
        for (known, old) in &mut self.values {
            if known == name {
                value.clone_into(old);
            }
        }
        self
    }

    /// A query with all variables filled in; longer names first, as one may begin like another.
    pub(super) fn fill(&self, query: &str) -> String {
        let mut values: Vec<_> = self.values.iter().collect();
        values.sort_by_key(|(name, _)| std::cmp::Reverse(name.len()));
        let query = query.replace("${__to}", &self.to.to_string());
        values.into_iter().fold(query, |text, (name, value)| {
            text.replace(&format!("${{{name}}}"), value).replace(&format!("${name}"), value)
        })
    }
}

pub(super) fn text_of(value: &Value, key: &str) -> String {
    value.get(key).and_then(Value::as_str).unwrap_or_default().to_owned()
}

/// As Grafana escapes what stands in a query of Elasticsearch.
pub(super) fn lucene(value: &str) -> String {
    value
        .chars()
        .flat_map(|c| ["!*+-=<>&|()[]{}^~?:\\/\" ".contains(c).then_some('\\'), Some(c)])
        .flatten()
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn variables_are_filled_in_whole() {
        let values = vec![("port".to_owned(), "a".to_owned()), ("port_name".to_owned(), "b".to_owned())];
        let fill = Fill { values, interval_ms: 1, from: 0, to: 0 };
        assert_eq!(fill.with("port", "c").fill("$port $port_name ${port}"), "c b c");
    }

    #[test]
    fn special_characters_of_lucene_are_escaped() {
        assert_eq!(lucene("::/0"), "\\:\\:\\/0");
    }
}
