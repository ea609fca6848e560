//! Whether the flowtables of one namespace count, for an agent that meets an offloaded flow there.

use super::facts::NamespaceFact;
use super::gather;
use super::judge::flowtable_words;

/// What the rules of a namespace say.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Counting {
    /// The kernel counts what its flowtables forward.
    Counted,
    /// Some flowtable has no counter; how that is mended.
    Uncounted(String),
    /// The rules cannot be listed.
    Unknown,
}

/// Lists the rules of the namespace, which runs `nft` there. Takes as long as that takes: not for the main loop.
#[must_use]
pub fn counting(netns: u32) -> Counting {
    gather::namespace(netns).map_or(Counting::Unknown, |fact| judge(&fact))
}

fn judge(fact: &NamespaceFact) -> Counting {
    let Some(flowtables) = &fact.flowtables else { return Counting::Unknown };
    let blind: Vec<String> =
        flowtables.iter().filter(|table| !table.counter).map(|table| flowtable_words(fact, table)).collect();
    if blind.is_empty() { Counting::Counted } else { Counting::Uncounted(blind.join("; ")) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::check::facts::{Flowtable, Tracking};

    fn fact(flowtables: Option<&[bool]>) -> NamespaceFact {
        let table = |(number, counter): (usize, &bool)| Flowtable {
            family: "inet".to_owned(),
            table: "filter".to_owned(),
            name: format!("fast{number}"),
            counter: *counter,
        };
        NamespaceFact {
            inode: 1,
            name: Some("gw".to_owned()),
            enter: Some("ip netns exec gw ".to_owned()),
            error: None,
            acct: None,
            timestamp: None,
            max: None,
            count: None,
            tracking: Tracking::Active,
            flowtables: flowtables.map(|all| all.iter().enumerate().map(table).collect()),
            unlisted: None,
        }
    }

    #[test]
    fn one_flowtable_without_counter_is_enough_to_doubt_the_totals() {
        assert_eq!(judge(&fact(Some(&[true, true]))), Counting::Counted);
        assert_eq!(judge(&fact(None)), Counting::Unknown);
        let Counting::Uncounted(words) = judge(&fact(Some(&[true, false]))) else { panic!("not noticed") };
        assert!(words.contains("fast1") && !words.contains("fast0"), "{words}");
        assert!(words.contains("`counter`"), "{words}");
    }
}
