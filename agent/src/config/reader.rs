//! Typed access to one table of the raw configuration, which notes every problem and every key nobody asked for.

use super::document::{Node, Table, Value, parse_value};
use super::secret::{Secret, is_one_line};
use super::shape::{Shape, TableShape};
use super::{Choice, Place, Problems, units};
use std::fmt::Display;
use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::time::Duration;

/// A table that is being read. Each method takes one key; [`Section::finish`] reports those that are left.
pub(crate) struct Section<'a> {
    path: String,
    table: Option<&'a Table>,
    /// The keys that were asked for, and what may be there.
    shape: TableShape,
    /// Keys that have no place here, which was reported.
    refused: Vec<&'static str>,
    problems: &'a mut Problems,
}

impl<'a> Section<'a> {
    /// A table under the path of its keys; empty path for the root, no table where it is absent.
    pub(super) fn new(path: String, table: Option<&'a Table>, problems: &'a mut Problems) -> Self {
        Self { path, table, shape: TableShape::default(), refused: Vec::new(), problems }
    }

    /// Reads the table `key`, by `read`, whether it is there or not.
    pub(crate) fn section<T>(&mut self, key: &'static str, read: impl FnOnce(&mut Section<'_>) -> T) -> T {
        let node = self.table.and_then(|table| table.get(key));
        let table = match node.map(|node| (&node.value, node)) {
            Some((Value::Table(table), _)) => Some(table),
            Some((_, node)) => {
                self.wrong_type(key, node, "a table");
                None
            }
            None => None,
        };
        let mut inner = Section::new(self.path_of(key), table, self.problems);
        let value = read(&mut inner);
        let shape = inner.finish();
        self.shape.ask(key, Shape::Table(shape));
        value
    }

    /// Reads each table in the table `key`, by `read` and under the name it was given; `None` for none.
    pub(crate) fn named<T>(
        &mut self,
        key: &'static str,
        mut read: impl FnMut(&str, &Place, &mut Section<'_>) -> Option<T>,
    ) -> Vec<T> {
        let Some(node) = self.take(key, Shape::Named(Vec::new())) else { return Vec::new() };
        let Value::Table(tables) = &node.value else {
            self.wrong_type(key, node, "a table of tables");
            return Vec::new();
        };
        let (mut values, mut shapes) = (Vec::new(), Vec::new());
        for (name, node) in tables {
            let path = format!("{}.{name}", self.path_of(key));
            let Value::Table(table) = &node.value else {
                let message = format!("must be a table, but is {}", node.value.type_name());
                self.problems.add(&node.place, path, message);
                continue;
            };
            let mut inner = Section::new(path, Some(table), self.problems);
            values.extend(read(name, &node.place, &mut inner));
            shapes.push(inner.finish());
        }
        self.shape.ask(key, Shape::Named(shapes));
        values
    }

    /// A text that is not empty; `None` when it is absent or wrong.
    pub(crate) fn text(&mut self, key: &'static str) -> Option<String> {
        let node = self.take(key, Shape::Text)?;
        match &node.value {
            Value::String(text) | Value::Untyped(text) if text.is_empty() => {
                self.problem(key, &node.place, "is empty; leave the key out");
                None
            }
            Value::String(text) | Value::Untyped(text) => Some(text.clone()),
            _ => {
                self.wrong_type(key, node, "a text in quotes");
                None
            }
        }
    }

    /// A list of texts, none of them empty; `None` when it is absent or wrong.
    pub(crate) fn texts(&mut self, key: &'static str) -> Option<Vec<String>> {
        let node = self.take(key, Shape::Texts)?;
        let Some(Value::Array(items)) = typed(node) else {
            self.wrong_type(key, node, "a list of texts in quotes");
            return None;
        };
        let mut texts = Vec::new();
        for item in &items {
            match &item.value {
                Value::String(text) if !text.is_empty() => texts.push(text.clone()),
                _ => self.problem(key, &item.place, format!("{} is no text in quotes", text_of(item))),
            }
        }
        (texts.len() == items.len()).then_some(texts)
    }

    /// The text of `key`, if it is one. The key is still to be read.
    pub(crate) fn peek(&self, key: &str) -> Option<&'a str> {
        match &self.table?.get(key)?.value {
            Value::String(text) | Value::Untyped(text) => Some(text),
            _ => None,
        }
    }

    /// A secret: `key` holds it, or `file_key` names the file that does. Problems never tell what stands there.
    pub(crate) fn secret(&mut self, key: &'static str, file_key: &'static str) -> Option<Secret> {
        let inline = self.take(key, Shape::Secret);
        let file = self.path(file_key);
        if let (Some(_), Some(place)) = (inline, self.place(file_key)) {
            self.problem(file_key, &place, format!("{key} is set, too; keep one of them"));
        }
        if let (Some(file), Some(place)) = (file, self.place(file_key)) {
            return Some(Secret::in_file(file, place, self.path_of(file_key)));
        }
        let node = inline?;
        match &node.value {
            Value::String(text) | Value::Untyped(text) if !is_one_line(text) => {
                self.problem(key, &node.place, "must be one line, without tabs and the like");
                None
            }
            Value::String(text) | Value::Untyped(text) if !text.is_empty() => Some(Secret::of(text)),
            _ => {
                self.problem(key, &node.place, "must be a text in quotes that is not empty");
                None
            }
        }
    }

    /// Notes that a secret is missing, unless it is there and something is wrong with it, which was noted.
    pub(crate) fn missing_secret(
        &mut self,
        key: &'static str,
        file_key: &'static str,
        place: &Place,
        help: &str,
    ) {
        if self.place(key).is_none() && self.place(file_key).is_none() {
            self.missing(file_key, place, help);
        }
    }

    /// One of a closed list of names.
    pub(crate) fn choice<T: Choice>(&mut self, key: &'static str, default: T) -> T {
        self.optional_choice(key).unwrap_or(default)
    }

    /// The same; `None` when it is absent or wrong.
    pub(crate) fn optional_choice<T: Choice>(&mut self, key: &'static str) -> Option<T> {
        let node = self.take(key, Shape::Name(T::names().collect()))?;
        let names = || T::names().collect::<Vec<_>>();
        let (Value::String(text) | Value::Untyped(text)) = &node.value else {
            self.wrong_type(key, node, &format!("one of {}", names().join(", ")));
            return None;
        };
        let value = T::from_name(text);
        if value.is_none() {
            let hint =
                closest(text, &names()).map_or(String::new(), |name| format!("; did you mean {name:?}?"));
            self.problem(key, &node.place, format!("{text:?} is not one of {}{hint}", names().join(", ")));
        }
        value
    }

    /// A list of names of a closed list, each at most once; `None` when it is absent or wrong.
    pub(crate) fn choices<T: Choice>(&mut self, key: &'static str) -> Option<(Vec<T>, Place)> {
        let node = self.take(key, Shape::Names(T::names().collect()))?;
        let names = || T::names().collect::<Vec<_>>().join(", ");
        let Some(Value::Array(items)) = typed(node) else {
            self.wrong_type(key, node, &format!("a list of {}", names()));
            return None;
        };
        let mut values = Vec::new();
        for item in &items {
            let value = match &item.value {
                Value::String(text) => T::from_name(text).filter(|value| !values.contains(value)),
                _ => None,
            };
            match value {
                Some(value) => values.push(value),
                None => self.problem(
                    key,
                    &item.place,
                    format!("{} is not one of {}, each once", text_of(item), names()),
                ),
            }
        }
        (values.len() == items.len()).then(|| (values, node.place.clone()))
    }

    /// `true` or `false`.
    pub(crate) fn boolean(&mut self, key: &'static str, default: bool) -> bool {
        let Some(node) = self.take(key, Shape::Boolean) else { return default };
        match &node.value {
            Value::Boolean(flag) => *flag,
            Value::Untyped(text) if text == "true" => true,
            Value::Untyped(text) if text == "false" => false,
            _ => {
                self.wrong_type(key, node, "true or false");
                default
            }
        }
    }

    /// A whole number within a range.
    pub(crate) fn count(&mut self, key: &'static str, default: u32, range: RangeInclusive<u32>) -> u32 {
        let Some(node) = self.take(key, Shape::Number(range.clone())) else { return default };
        self.number(key, node, range).unwrap_or(default)
    }

    /// The word `auto` (`None`) or a whole number within a range.
    pub(crate) fn auto_or_count(&mut self, key: &'static str, range: RangeInclusive<u32>) -> Option<u32> {
        let node = self.take(key, Shape::AutoOrNumber(range.clone()))?;
        match &node.value {
            Value::String(text) | Value::Untyped(text) if text == "auto" => None,
            Value::Integer(_) | Value::Untyped(_) => self.number(key, node, range),
            _ => {
                self.wrong_type(key, node, "\"auto\" or a number");
                None
            }
        }
    }

    /// A duration within a range.
    pub(crate) fn duration(&mut self, key: &'static str, default: Duration, most: Duration) -> Duration {
        self.required_duration(key, most).unwrap_or(default)
    }

    /// A duration up to `most`; `None` when it is absent or wrong.
    pub(crate) fn required_duration(&mut self, key: &'static str, most: Duration) -> Option<Duration> {
        let node = self.take(key, Shape::Duration)?;
        let value = self.unit(key, node, "a duration in quotes like \"5s\"", units::duration)?;
        if value > most {
            let message = format!("{} is too long; the most is {}s", text_of(node), most.as_secs());
            self.problem(key, &node.place, message);
            return None;
        }
        Some(value)
    }

    /// A size in bytes within a range.
    pub(crate) fn size(&mut self, key: &'static str, default: u32, range: RangeInclusive<u32>) -> u32 {
        let Some(node) = self.take(key, Shape::Size) else { return default };
        let Some(value) = self.unit(key, node, "a size in quotes like \"16MiB\"", units::size) else {
            return default;
        };
        match u32::try_from(value) {
            Ok(value) if range.contains(&value) => value,
            _ => {
                let (least, most) = (size_text(*range.start()), size_text(*range.end()));
                let message = format!("{} is not within {least} and {most}", text_of(node));
                self.problem(key, &node.place, message);
                default
            }
        }
    }

    /// A size in bytes that may be large.
    pub(crate) fn large_size(&mut self, key: &'static str, default: u64, range: RangeInclusive<u64>) -> u64 {
        let Some(node) = self.take(key, Shape::Size) else { return default };
        let Some(value) = self.unit(key, node, "a size in quotes like \"1GiB\"", units::size) else {
            return default;
        };
        if !range.contains(&value) {
            let (least, most) = (size_text(*range.start()), size_text(*range.end()));
            let message = format!("{} is not within {least} and {most}", text_of(node));
            self.problem(key, &node.place, message);
            return default;
        }
        value
    }

    /// The path of a file or directory; `None` when it is absent, empty or wrong.
    pub(crate) fn path(&mut self, key: &'static str) -> Option<PathBuf> {
        let node = self.take(key, Shape::Path)?;
        match &node.value {
            Value::String(text) | Value::Untyped(text) if text.is_empty() => {
                self.problem(key, &node.place, "is empty; name a path or leave the key out");
                None
            }
            Value::String(text) | Value::Untyped(text) => Some(PathBuf::from(text)),
            _ => {
                self.wrong_type(key, node, "a path in quotes");
                None
            }
        }
    }

    /// A list of tables, each read by `read`; `None` when it is absent, no list, or an item is wrong.
    pub(crate) fn tables<T>(
        &mut self,
        key: &'static str,
        mut read: impl FnMut(&Place, &mut Section<'_>) -> Option<T>,
    ) -> Option<(Vec<T>, Place)> {
        let node = self.take(key, Shape::Tables(TableShape::default()))?;
        let Some(Value::Array(items)) = typed(node) else {
            self.wrong_type(key, node, "a list of tables");
            return None;
        };
        let (mut values, mut shape) = (Vec::new(), TableShape::default());
        for (index, item) in items.iter().enumerate() {
            let name = format!("{}[{index}]", self.path_of(key));
            let Value::Table(table) = &item.value else {
                let message = format!("must be a table, but is {}", item.value.type_name());
                self.problems.add(&item.place, name, message);
                continue;
            };
            let mut inner = Section::new(name, Some(table), self.problems);
            values.extend(read(&item.place, &mut inner));
            shape = inner.finish();
        }
        self.shape.ask(key, Shape::Tables(shape));
        (values.len() == items.len()).then(|| (values, node.place.clone()))
    }

    /// Texts and where each stands, one alone or a list of them; and whether all are texts.
    pub(crate) fn placed_texts(&mut self, key: &'static str, wanted: &str) -> (Vec<(String, Place)>, bool) {
        let Some(node) = self.take(key, Shape::TextOrTexts) else { return (Vec::new(), true) };
        let items = match typed(node) {
            Some(Value::Array(items)) => items,
            _ => vec![node.clone()],
        };
        let mut texts = Vec::new();
        for item in &items {
            match &item.value {
                Value::String(text) | Value::Untyped(text) => texts.push((text.clone(), item.place.clone())),
                _ => self.wrong_type(key, item, wanted),
            }
        }
        let all_good = texts.len() == items.len();
        (texts, all_good)
    }

    /// Reads each value of this table, whatever its key, as a table; one that is none stands for a table that has
    /// it under `short`.
    pub(crate) fn each<T>(
        &mut self,
        short: &'static str,
        mut read: impl FnMut(&str, &Place, &mut Section<'_>) -> T,
    ) -> Vec<T> {
        self.shape.named_freely(short, TableShape::default());
        let mut values = Vec::new();
        for (name, node) in self.table.into_iter().flatten() {
            let shorthand = Table::from([(short.to_owned(), node.clone())]);
            let table = if let Value::Table(table) = &node.value { table } else { &shorthand };
            let mut inner = Section::new(self.path_of(name), Some(table), self.problems);
            values.push(read(name, &node.place, &mut inner));
            let shape = inner.finish();
            self.shape.named_freely(short, shape);
        }
        values
    }

    /// `true` or `false`; `None` when it is absent or wrong.
    pub(crate) fn optional_boolean(&mut self, key: &'static str) -> Option<bool> {
        let is_there = self.place(key).is_some();
        let value = self.boolean(key, false);
        is_there.then_some(value)
    }

    /// Notes that something is wrong with a key that is there.
    pub(crate) fn problem_at(&mut self, key: &str, message: impl Into<String>) {
        if let Some(place) = self.place(key) {
            self.problem(key, &place, message);
        }
    }

    /// Notes that something is wrong with `key`, or with the table itself where that is empty.
    pub(crate) fn problem(&mut self, key: &str, place: &Place, message: impl Into<String>) {
        let path = self.path_of(key);
        self.problems.add(place, path, message);
    }

    /// Notes that something is wrong with the table itself.
    pub(crate) fn problem_here(&mut self, place: &Place, message: impl Into<String>) {
        self.problems.add(place, self.path.clone(), message);
    }

    /// Notes that `key` is missing, at `place`, where the table itself stands.
    pub(crate) fn missing(&mut self, key: &'static str, place: &Place, help: &str) {
        self.shape.require(key);
        self.problem(key, place, format!("is missing; {help}"));
    }

    /// Where `key` stands, if it does.
    pub(crate) fn place(&self, key: &str) -> Option<Place> {
        self.table?.get(key).map(|node| node.place.clone())
    }

    /// Where anything of this table stands, for a problem that concerns a key that is absent.
    pub(crate) fn any_place(&self) -> Option<Place> {
        self.table?.values().next().map(|node| node.place.clone())
    }

    /// The other keys that are asked for belong to this value of `key`, which the table cannot do without.
    pub(crate) fn told<T: Choice>(&mut self, key: &'static str, value: T) {
        self.shape.ask(key, Shape::Name(vec![value.name()]));
        self.shape.require(key);
    }

    /// Notes that `key`, which has its place in other tables of this type, has none in this one, if it stands there.
    pub(crate) fn refuse(&mut self, key: &'static str, why: &str) {
        if let Some(place) = self.place(key) {
            self.problem(key, &place, why);
            self.refused.push(key);
        }
    }

    /// Takes all keys that nobody asked for as they are: of a table whose keys cannot be known.
    pub(crate) const fn ignore_rest(&mut self) {
        self.table = None;
    }

    /// Reports every key that nobody asked for, and returns what was asked for.
    pub(crate) fn finish(self) -> TableShape {
        let asked: Vec<_> = self.shape.names().collect();
        for (key, node) in self.table.into_iter().flatten() {
            let is_refused = self.refused.contains(&key.as_str());
            if self.shape.is_free() || is_refused || asked.contains(&key.as_str()) {
                continue;
            }
            let help = closest(key, &asked).map_or_else(
                || format!("the keys here are {}", asked.join(", ")),
                |name| format!("did you mean {name:?}?"),
            );
            self.problems.add(&node.place, self.path_of(key), format!("unknown key; {help}"));
        }
        self.shape
    }

    fn take(&mut self, key: &'static str, shape: Shape) -> Option<&'a Node> {
        self.shape.ask(key, shape);
        self.table?.get(key)
    }

    fn number(&mut self, key: &str, node: &Node, range: RangeInclusive<u32>) -> Option<u32> {
        let Some(Value::Integer(number)) = typed(node) else {
            self.wrong_type(key, node, "a number without quotes");
            return None;
        };
        let value = u32::try_from(number).ok().filter(|value| range.contains(value));
        if value.is_none() {
            let message = format!("{number} is not within {} and {}", range.start(), range.end());
            self.problem(key, &node.place, message);
        }
        value
    }

    fn unit<T, E: Display>(
        &mut self,
        key: &str,
        node: &Node,
        wanted: &str,
        parse: impl FnOnce(&str) -> Result<T, E>,
    ) -> Option<T> {
        let (Value::String(text) | Value::Untyped(text)) = &node.value else {
            self.wrong_type(key, node, wanted);
            return None;
        };
        parse(text).map_err(|error| self.problem(key, &node.place, error.to_string())).ok()
    }

    fn wrong_type(&mut self, key: &str, node: &Node, wanted: &str) {
        self.problem(key, &node.place, format!("must be {wanted}, but is {}", text_of(node)));
    }

    fn path_of(&self, key: &str) -> String {
        match (self.path.as_str(), key) {
            ("", key) => key.to_owned(),
            (path, "") => path.to_owned(),
            (path, key) => format!("{path}.{key}"),
        }
    }
}

/// The value, after an untyped text was read as TOML.
fn typed(node: &Node) -> Option<Value> {
    match &node.value {
        Value::Untyped(text) => parse_value(text, &node.place),
        value => Some(value.clone()),
    }
}

fn text_of(node: &Node) -> String {
    match &node.value {
        Value::String(text) | Value::Untyped(text) => format!("{text:?}"),
        Value::Integer(number) => number.to_string(),
        Value::Boolean(flag) => flag.to_string(),
        other => other.type_name().to_owned(),
    }
}

/// A size as it is written in the configuration, in the largest unit of which it is a multiple.
fn size_text(bytes: impl Into<u64>) -> String {
    let bytes = bytes.into();
    let units = [(40, "TiB"), (30, "GiB"), (20, "MiB"), (10, "KiB")];
    let is_multiple = |shift: u32| bytes != 0 && bytes.trailing_zeros() >= shift;
    let unit = units.into_iter().find(|(shift, _)| is_multiple(*shift));
    unit.map_or_else(|| format!("{bytes}B"), |(shift, unit)| format!("{}{unit}", bytes >> shift))
}

/// The known name that a person most likely meant.
fn closest<'a>(typed: &str, known: &[&'a str]) -> Option<&'a str> {
    known
        .iter()
        .map(|name| (strsim::damerau_levenshtein(&typed.to_lowercase(), name), *name))
        .filter(|(distance, name)| *distance <= 1 + name.len() / 4)
        .min()
        .map(|(_, name)| name)
}
