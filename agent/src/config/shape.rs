//! What may stand in the tables of a configuration, as the reader of each key asked for it.

use std::ops::RangeInclusive;

/// What may stand under a key.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Shape {
    /// A text that is not empty.
    Text,
    /// A list of such.
    Texts,
    /// One or a list.
    TextOrTexts,
    /// A path.
    Path,
    /// A secret itself.
    Secret,
    /// `true` or `false`.
    Boolean,
    /// As in `1h30m`.
    Duration,
    /// As in `16MiB`.
    Size,
    /// A whole number.
    Number(RangeInclusive<u32>),
    /// A whole number, or `auto`.
    AutoOrNumber(RangeInclusive<u32>),
    /// One of these words.
    Name(Vec<&'static str>),
    /// A list of these words, each at most once.
    Names(Vec<&'static str>),
    /// A table.
    Table(TableShape),
    /// A list of tables.
    Tables(TableShape),
    /// A table of tables with names of the user's; what was asked for in each.
    Named(Vec<TableShape>),
}

/// What may stand in a table.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct TableShape {
    /// Keys in the order in which they were asked for.
    keys: Vec<(&'static str, Shape)>,
    /// Those that were missed.
    required: Vec<&'static str>,
    /// Where the user names the keys: what a value is; one that is no table stands for one with this key.
    free: Option<(&'static str, Box<Self>)>,
}

impl TableShape {
    /// A key was asked for. What is said of it last holds.
    pub(super) fn ask(&mut self, key: &'static str, shape: Shape) {
        match self.keys.iter_mut().find(|(known, _)| *known == key) {
            Some((_, known)) => *known = shape,
            None => self.keys.push((key, shape)),
        }
    }

    /// A key was missed.
    pub(super) fn require(&mut self, key: &'static str) {
        if !self.required.contains(&key) {
            self.required.push(key);
        }
    }

    /// The user names the keys.
    pub(super) fn named_freely(&mut self, short: &'static str, value: Self) {
        self.free = Some((short, Box::new(value)));
    }

    /// Whether the user names the keys.
    pub(super) const fn is_free(&self) -> bool {
        self.free.is_some()
    }

    /// What the values are where the user names the keys, and the key that one stands for which is no table.
    pub(super) fn free(&self) -> Option<(&'static str, &Self)> {
        self.free.as_ref().map(|(short, value)| (*short, &**value))
    }

    /// The keys.
    pub(super) fn names(&self) -> impl Iterator<Item = &'static str> {
        self.keys.iter().map(|(key, _)| *key)
    }

    /// The keys and what may be there.
    pub(super) fn keys(&self) -> &[(&'static str, Shape)] {
        &self.keys
    }

    /// What may be under a key.
    pub(super) fn get(&self, key: &str) -> Option<&Shape> {
        self.keys.iter().find(|(known, _)| *known == key).map(|(_, shape)| shape)
    }

    /// The keys that a table cannot do without. One that can be replaced by a secret's other key is none.
    pub(super) fn required(&self) -> impl Iterator<Item = &'static str> {
        let is_secret = |key: &str| {
            let inline = key.strip_suffix("_file").unwrap_or(key);
            self.get(inline) == Some(&Shape::Secret)
        };
        self.required.iter().copied().filter(move |key| !is_secret(key))
    }

    /// What may stand in a table that may be of either shape.
    pub(super) fn or(&self, other: &Self) -> Self {
        let mut both = self.clone();
        for (key, shape) in &other.keys {
            if both.get(key).is_none() {
                both.keys.push((key, shape.clone()));
            }
        }
        both.required.retain(|key| other.required.contains(key));
        both
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn either_of_two_shapes_has_the_keys_of_both_and_needs_only_what_both_need() {
        let (mut one, mut other) = (TableShape::default(), TableShape::default());
        one.ask("a", Shape::Text);
        one.require("a");
        one.require("b");
        other.ask("c", Shape::Path);
        other.require("b");
        let both = one.or(&other);
        assert_eq!(both.names().collect::<Vec<_>>(), ["a", "c"]);
        assert_eq!(both.required().collect::<Vec<_>>(), ["b"]);
    }

    #[test]
    fn a_secret_that_may_stand_in_a_file_is_not_required() {
        let mut shape = TableShape::default();
        shape.ask("token", Shape::Secret);
        shape.require("token_file");
        assert_eq!(shape.required().count(), 0);
    }
}
