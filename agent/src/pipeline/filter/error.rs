//! What is wrong with a filter, and where.

use std::fmt;

/// What is wrong, with the line and a caret under the place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FilterError {
    /// Line of the filter, from 1.
    pub line: usize,
    /// Column in that line, in characters, from 1.
    pub column: usize,
    /// What is wrong and what to do.
    pub message: String,
    /// That line.
    text: String,
}

impl FilterError {
    /// At a position in bytes; past the end where the text ends too early.
    pub(super) fn new(text: &str, position: usize, message: impl Into<String>) -> Self {
        let before = text.get(..position).unwrap_or(text);
        let begin = before.rfind('\n').map_or(0, |newline| newline + 1);
        let line = text.get(begin..).and_then(|rest| rest.lines().next()).unwrap_or_default();
        Self {
            line: 1 + before.matches('\n').count(),
            column: 1 + before.get(begin..).unwrap_or_default().chars().count(),
            message: message.into(),
            text: line.chars().map(|c| if c.is_control() { ' ' } else { c }).collect(),
        }
    }
}

impl fmt::Display for FilterError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.line > 1 {
            write!(f, "line {}, ", self.line)?;
        }
        write!(
            f,
            "column {}: {}\n    {}\n    {:>width$}",
            self.column,
            self.message,
            self.text,
            '^',
            width = self.column
        )
    }
}

impl std::error::Error for FilterError {}

/// `; did you mean …?` when there is a likely one.
pub(super) fn hint<'a>(word: &str, known: impl IntoIterator<Item = &'a str>) -> String {
    known
        .into_iter()
        .map(|name| (strsim::damerau_levenshtein(&word.to_lowercase(), &name.to_lowercase()), name))
        .filter(|(distance, name)| *distance <= 1 + name.len() / 4)
        .min()
        .map_or_else(String::new, |(_, name)| format!("; did you mean {name:?}?"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_caret_stands_under_the_fault_in_its_line() {
        let error = FilterError::new("ä = 1\n\tor bb = 2", 11, "what is bb");
        assert_eq!(error.to_string(), "line 2, column 5: what is bb\n     or bb = 2\n        ^");
        let error = FilterError::new("port", 4, "what of it");
        assert_eq!(error.to_string(), "column 5: what of it\n    port\n        ^");
    }

    #[test]
    fn a_likely_name_is_suggested_and_an_unlikely_one_is_not() {
        assert_eq!(hint("scr", ["dst", "src"]), "; did you mean \"src\"?");
        assert_eq!(hint("something", ["dst", "src"]), "");
    }
}
