//! Which records are wanted: an expression language, compiled once, evaluated without taking memory.
//!
//! Text enters; a [`FilterSet`] that looks at one record leaves. The grammar stands in `docs/filters.md`.

mod addresses;
mod check;
mod compile;
mod error;
mod expr;
mod parse;
mod program;
mod token;
mod words;

use std::fmt;
use std::sync::Arc;

pub use check::NetnsName;
pub use error::FilterError;

use super::networks::Networks;
use crate::model::{Record, Sum};
use check::Surroundings;
use expr::Expr;
use program::{Builder, Next, Program};

/// One filter as it was written. Its printed form is a filter that says the same.
#[derive(Clone, Debug)]
pub struct Filter {
    expr: Expr,
    text: String,
}

impl Filter {
    /// Reads a filter.
    ///
    /// # Errors
    /// The first thing that is wrong, with its place. Names of networks are looked up later, by
    /// [`FilterSet::new`] or [`Filter::check`].
    pub fn parse(text: &str) -> Result<Self, FilterError> {
        Ok(Self { expr: parse::parse(text)?, text: text.to_owned() })
    }

    /// Whether everything that it names is there.
    ///
    /// # Errors
    /// A network that does not exist; a direction where no network is internal.
    pub fn check(&self, networks: &Networks) -> Result<(), FilterError> {
        let ends = (Next::Verdict(true), Next::Verdict(false));
        compile::emit(self, networks, &mut Builder::default(), ends.0, ends.1).map(drop)
    }
}

/// Filters that say the same are equal, however they are written.
impl PartialEq for Filter {
    fn eq(&self, other: &Self) -> bool {
        self.expr == other.expr
    }
}

impl Eq for Filter {}

impl fmt::Display for Filter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.expr.fmt(f)
    }
}

/// What is wanted, as it is configured.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FilterLists {
    /// A record must meet one of these, if there are any.
    pub include: Vec<Filter>,
    /// It must meet none of these.
    pub exclude: Vec<Filter>,
}

impl FilterLists {
    /// Whether every record is wanted.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.include.is_empty() && self.exclude.is_empty()
    }
}

/// What is wanted, ready to be asked. Cheap to clone.
#[derive(Clone)]
pub struct FilterSet {
    program: Arc<Program>,
    around: Surroundings,
}

impl fmt::Debug for FilterSet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("FilterSet").field(&self.program).finish()
    }
}

impl FilterSet {
    /// Compiles the filters to one program.
    ///
    /// # Errors
    /// The first name that does not exist, with its place; none after [`Filter::check`] with the same networks.
    pub fn new(
        lists: &FilterLists,
        networks: Arc<Networks>,
        netns_name: NetnsName,
    ) -> Result<Self, FilterError> {
        let mut builder = Builder::default();
        let (yes, no) = (Next::Verdict(true), Next::Verdict(false));
        let otherwise = if lists.include.is_empty() { yes } else { no };
        let included =
            lists.include.iter().rev().try_fold(otherwise, |next, filter| {
                compile::emit(filter, &networks, &mut builder, yes, next)
            })?;
        let entry =
            lists.exclude.iter().rev().try_fold(included, |next, filter| {
                compile::emit(filter, &networks, &mut builder, no, next)
            })?;
        let program = Arc::new(builder.finish(entry));
        Ok(Self { program, around: Surroundings { networks, netns_name } })
    }

    /// Whether a record is wanted.
    #[must_use]
    pub fn wants(&self, record: &Record) -> bool {
        self.program.holds(record, &self.around)
    }

    /// Whether every record is wanted, so that none has to be looked at.
    #[must_use]
    pub fn wants_all(&self) -> bool {
        self.program.is_always()
    }

    /// Takes out what is not wanted, order kept; returns what its deltas add up to.
    pub fn retain(&self, records: &mut Vec<Record>) -> Sum {
        let mut filtered = Sum::default();
        if self.wants_all() {
            return filtered;
        }
        records.retain(|record| {
            let wanted = self.wants(record);
            if !wanted {
                filtered += super::Item::weight(record).moved;
            }
            wanted
        });
        filtered
    }
}

#[cfg(test)]
mod tests;
