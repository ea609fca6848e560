//! `[filter]` and `[networks]`, and the filters of a sink.

use super::Place;
use super::reader::Section;
use crate::pipeline::filter::{Filter, FilterLists};
use crate::pipeline::networks::{NO_NETWORK, NetworkDefinition, Networks, OTHER};
use ipnetwork::IpNetwork;

/// Names stand in tags and in filters.
const LONGEST_NAME: usize = 64;

/// Reads the keys `include` and `exclude`. Without `networks`, of which something is wrong, what the filters name is
/// not looked up.
pub(super) fn lists(section: &mut Section<'_>, networks: Option<&Networks>) -> FilterLists {
    FilterLists { include: list(section, "include", networks), exclude: list(section, "exclude", networks) }
}

fn list(section: &mut Section<'_>, key: &'static str, networks: Option<&Networks>) -> Vec<Filter> {
    let mut filters = Vec::new();
    let (texts, _) = section.placed_texts(key, "a filter in quotes, or a list of such");
    for (text, place) in texts {
        let filter = Filter::parse(&text).and_then(|filter| {
            networks.map_or(Ok(()), |networks| filter.check(networks))?;
            Ok(filter)
        });
        match filter {
            Ok(filter) => filters.push(filter),
            Err(error) => section.problem(key, &place, error.to_string()),
        }
    }
    filters
}

/// Reads `[networks]`; also all together, if nothing is wrong with them.
pub(super) fn networks(section: &mut Section<'_>) -> (Vec<NetworkDefinition>, Option<Networks>) {
    let read = section.each("prefixes", |name, place, section| {
        let problems = name_problem(name);
        if let Some(problem) = problems {
            section.problem("", place, problem);
        }
        let (prefixes, all_good) = prefixes(section, place);
        let internal = section.optional_boolean("internal");
        let definition = NetworkDefinition { name: name.to_owned(), prefixes, internal };
        (definition, all_good && problems.is_none())
    });
    let all_good = read.iter().all(|(_, good)| *good);
    let definitions: Vec<_> = read.into_iter().map(|(definition, _)| definition).collect();
    let networks = match Networks::new(&definitions) {
        Ok(networks) => Some(networks).filter(|_| all_good),
        Err(conflicts) => {
            for conflict in conflicts {
                let name = |position: usize| definitions.get(position).map_or("", |one| &one.name);
                let (first, second) = (name(conflict.first), name(conflict.second));
                let message = format!("{} stands under {first:?}, too; keep one of them", conflict.prefix);
                section.problem_at(second, message);
            }
            None
        }
    };
    (definitions, networks)
}

fn name_problem(name: &str) -> Option<&'static str> {
    if name.is_empty() || name.len() > LONGEST_NAME {
        return Some("a name has 1 to 64 bytes");
    }
    if matches!(name, OTHER | NO_NETWORK) {
        return Some("is a word of its own in groups; choose another name");
    }
    let is_odd = |c: char| c.is_control() || matches!(c, '"' | '\'' | '\\');
    name.contains(is_odd).then_some("has a quote, a backslash or a control character; choose another name")
}

/// The prefixes, and whether all could be read.
fn prefixes(section: &mut Section<'_>, place: &Place) -> (Vec<IpNetwork>, bool) {
    let (texts, are_texts) = section.placed_texts("prefixes", "a prefix in quotes, or a list of such");
    if texts.is_empty() && are_texts {
        section.problem("", place, "names no prefix; write prefixes = [\"10.0.0.0/8\"]");
    }
    let mut prefixes = Vec::new();
    for (text, place) in &texts {
        match prefix(text) {
            Ok(prefix) => prefixes.push(prefix),
            Err(message) => section.problem("prefixes", place, message),
        }
    }
    let all_good = are_texts && prefixes.len() == texts.len() && !texts.is_empty();
    (prefixes, all_good)
}

fn prefix(text: &str) -> Result<IpNetwork, String> {
    let prefix: IpNetwork = text
        .parse()
        .map_err(|_| format!("{text:?} is no prefix; write one like 10.0.0.0/8 or 2001:db8::/32"))?;
    let network = prefix.network();
    if prefix.ip() == network {
        return Ok(prefix);
    }
    Err(format!("{text:?} has bits set behind its length; is {network}/{} meant?", prefix.prefix()))
}
