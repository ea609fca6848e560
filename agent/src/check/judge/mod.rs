//! The judgement of each topic: a pure function from facts to one line.

mod hooks;
mod machine;
mod namespaces;

use super::facts::{Facts, Flowtable, NamespaceFact};
use super::verdict::{Line, Settings};

/// A flowtable without counter, and how that is mended.
pub(super) fn flowtable_words(place: &NamespaceFact, table: &Flowtable) -> String {
    namespaces::flowtable_words(place, table)
}

/// Judges every topic, what the rest depends on first.
pub(super) fn all(facts: &Facts, settings: Settings) -> Vec<Line> {
    let mut lines = vec![
        machine::privileges(facts),
        machine::kernel(facts),
        machine::lockdown(facts),
        machine::btf(facts),
        machine::conntrack(facts),
        hooks::hooks(facts),
        hooks::netlink(facts),
        namespaces::tracking(facts, settings),
        namespaces::accounting(facts, settings),
        namespaces::timestamps(facts, settings),
        namespaces::new_namespaces(facts, settings),
        namespaces::limits(facts),
        namespaces::flowtables(facts),
    ];
    lines.extend(hooks::pinned(facts));
    lines
}
