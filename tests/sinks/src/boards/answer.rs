//! What a query returned, in one shape for all databases.

use std::collections::BTreeMap;

/// What tells a series apart, by name.
pub(super) type Tags = BTreeMap<String, String>;

/// Milliseconds since the Unix epoch, and numbers by name.
pub(super) type Row = (i64, BTreeMap<String, f64>);

/// Series with their tags, or one for each row of a table.
#[derive(Clone, Debug, Default)]
pub(super) struct Answer(pub(super) Vec<Series>);

/// Rows of named numbers.
#[derive(Clone, Debug, Default)]
pub(super) struct Series {
    pub(super) tags: Tags,
    pub(super) rows: Vec<Row>,
}

impl Answer {
    /// How many rows there are.
    pub(super) fn rows(&self) -> usize {
        self.0.iter().map(|series| series.rows.len()).sum()
    }

    /// All numbers of a column, or of all columns.
    pub(super) fn numbers<'a>(&'a self, column: Option<&'a str>) -> impl Iterator<Item = f64> + 'a {
        let rows = self.0.iter().flat_map(|series| &series.rows);
        let chosen = move |name: &&String| column.is_none_or(|column| column == name.as_str());
        rows.flat_map(move |(_, row)| {
            row.iter().filter(move |(name, _)| chosen(name)).map(|(_, value)| *value)
        })
    }

    /// The sum of each moment over all series.
    pub(super) fn by_time(&self) -> BTreeMap<i64, f64> {
        let mut sums = BTreeMap::new();
        for (time, row) in self.0.iter().flat_map(|series| &series.rows) {
            *sums.entry(*time).or_default() += row.values().sum::<f64>();
        }
        sums
    }
}
