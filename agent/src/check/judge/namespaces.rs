//! Judges the network namespaces: whether they track, count, keep starts, have room, and hide packets.

use crate::check::facts::{Facts, Flowtable, NamespaceFact, Tracking, Unlisted};
use crate::check::verdict::Level::{Fail, Ok, Warn};
use crate::check::verdict::{Line, Settings};

/// Namespaces named in a sentence, and commands given, before the rest is only counted.
const NAMED: usize = 5;

/// A table this full (percent) is about to refuse connections.
const NEARLY_FULL: u64 = 90;

pub(super) fn tracking(facts: &Facts, settings: Settings) -> Line {
    let what = "tracking";
    let active = select(facts, |namespace| namespace.tracking == Tracking::Active);
    if !active.is_empty() {
        let detail = format!("connections are tracked{}", place(facts, &active));
        return Line::new(Ok, what, detail).notes(unreachable(facts));
    }
    if settings.enable_tracking {
        return Line::new(Ok, what, "nothing asks for it; the agent does, for its own namespace")
            .notes(unreachable(facts));
    }
    let unknown = facts.namespaces.iter().any(|namespace| namespace.tracking == Tracking::Unknown);
    let how = if unknown { "seems to track" } else { "tracks" };
    let detail =
        format!("no namespace {how} connections: no rule of any firewall asks for it, so no flow is seen");
    Line::new(Warn, what, detail).notes(unreachable(facts)).mend(["conntally run --track"])
}

/// What is to be said of a switch of conntrack's while there is no conntrack.
fn until_loaded(what: &'static str, settings: Settings) -> Line {
    let then = if settings.manage_sysctls { "; the agent turns it on while it runs" } else { "" };
    Line::new(Ok, what, format!("not known before conntrack is loaded{then}"))
}

pub(super) fn accounting(facts: &Facts, settings: Settings) -> Line {
    let what = "accounting";
    if facts.lacks_conntrack() {
        return until_loaded(what, settings);
    }
    let off = select(facts, |namespace| namespace.acct == Some(false));
    if off.is_empty() {
        return Line::new(Ok, what, "the kernel counts packets and bytes of every flow");
    }
    let mend = sysctl(&off, "net.netfilter.nf_conntrack_acct=1");
    let place = format!("off{}", place(facts, &off));
    if settings.manage_sysctls {
        // An empty table has no flow that misses its counters when the agent turns them on.
        let late = off.iter().any(|namespace| namespace.count != Some(0));
        let then = if late { ", but flows that already run stay without counters" } else { "" };
        let detail = format!("{place}; the agent turns it on while it runs{then}");
        return Line::new(if late { Warn } else { Ok }, what, detail).mend(if late {
            mend
        } else {
            Vec::new()
        });
    }
    let detail = format!("{place}; flows there have no counters, and source.manage_sysctls is false");
    Line::new(Fail, what, detail).mend(mend)
}

pub(super) fn timestamps(facts: &Facts, settings: Settings) -> Line {
    let what = "timestamps";
    if facts.lacks_conntrack() {
        return until_loaded(what, settings);
    }
    let off = select(facts, |namespace| namespace.timestamp == Some(false));
    let none = select(facts, |namespace| namespace.error.is_none() && namespace.timestamp.is_none());
    if off.is_empty() && none.is_empty() {
        return Line::new(Ok, what, "the kernel keeps the start of every flow");
    }
    if off.is_empty() {
        let detail = "this kernel keeps no start of flows (CONFIG_NF_CONNTRACK_TIMESTAMP): ids are weak";
        return Line::new(Ok, what, detail);
    }
    let place = format!("off{}", place(facts, &off));
    if settings.manage_sysctls {
        return Line::new(Ok, what, format!("{place}; the agent turns it on while it runs"));
    }
    let detail = format!("{place}; starts of flows are the agent's first sight of them, ids are weak");
    Line::new(Warn, what, detail).mend(sysctl(&off, "net.netfilter.nf_conntrack_timestamp=1"))
}

pub(super) fn new_namespaces(facts: &Facts, settings: Settings) -> Line {
    let what = "new namespaces";
    if facts.lacks_conntrack() {
        return until_loaded(what, settings);
    }
    let off: Vec<&str> = [("acct", facts.new_namespaces.acct), ("tstamp", facts.new_namespaces.timestamp)]
        .into_iter()
        .filter_map(|(name, value)| (value == Some(false)).then_some(name))
        .collect();
    if off.is_empty() {
        return Line::new(Ok, what, "nothing makes them start without counters");
    }
    let place = format!("start with {} off", off.join(" and "));
    if settings.manage_sysctls {
        return Line::new(Ok, what, format!("{place}; the agent changes that while it runs"));
    }
    let mend = off.iter().map(|name| format!("echo 1 > /sys/module/nf_conntrack/parameters/{name}"));
    Line::new(Warn, what, format!("{place}, and source.manage_sysctls is false")).mend(mend)
}

pub(super) fn limits(facts: &Facts) -> Line {
    let what = "limits";
    if facts.lacks_conntrack() {
        return Line::new(Ok, what, "not known before conntrack is loaded");
    }
    let full = select(facts, |namespace| {
        let (Some(count), Some(max)) = (namespace.count, namespace.max) else { return false };
        max > 0 && count.saturating_mul(100) >= max.saturating_mul(NEARLY_FULL)
    });
    let Some(worst) = full.iter().max_by_key(|namespace| namespace.count) else {
        let flows: u64 = facts.namespaces.iter().filter_map(|namespace| namespace.count).sum();
        let max = facts.namespaces.iter().filter_map(|namespace| namespace.max).max();
        let room = max.map(|max| format!(", room for {max} in each namespace")).unwrap_or_default();
        return Line::new(Ok, what, format!("{flows} in the tables now{room}"));
    };
    let max = worst.max.unwrap_or_default();
    let detail =
        format!("the table is nearly full in {}; the kernel drops new connections when it is", names(&full));
    Line::new(Warn, what, detail)
        .mend(sysctl(&full, &format!("net.netfilter.nf_conntrack_max={}", max.saturating_mul(2))))
}

pub(super) fn flowtables(facts: &Facts) -> Line {
    let what = "flowtables";
    let listed: Vec<(&NamespaceFact, &Flowtable)> = facts
        .namespaces
        .iter()
        .flat_map(|it| it.flowtables.iter().flatten().map(move |table| (it, table)))
        .collect();
    let blind: Vec<_> = listed.iter().filter(|(_, table)| !table.counter).collect();
    if blind.is_empty() {
        let unlisted = select(facts, |namespace| namespace.error.is_none() && namespace.flowtables.is_none());
        return match (listed.len(), unlisted.is_empty()) {
            (0, true) => Line::new(Ok, what, "none"),
            (count, true) => Line::new(Ok, what, format!("{count}, all with counter")),
            (_, false) => {
                let detail = format!("not known in {}: nft did not list them", names(&unlisted));
                Line::new(Ok, what, detail).notes(to_have_them_listed(facts, &unlisted))
            }
        };
    }
    let named: Vec<String> = blind.iter().map(|(place, table)| in_words(place, table)).collect();
    let detail = format!(
        "without counter: {}; offloaded packets are not counted, totals stand still",
        named.join(", ")
    );
    Line::new(Warn, what, detail)
        .advice("put the line `counter` into each of them in the firewall's rules, load these, and look:")
        .mend(blind.iter().take(NAMED).map(|(place, table)| shown(place, table)))
}

/// What was in the way, each thing once.
fn to_have_them_listed(facts: &Facts, unlisted: &[&NamespaceFact]) -> Vec<String> {
    let mut notes: Vec<String> = Vec::new();
    for why in unlisted.iter().filter_map(|namespace| namespace.unlisted.as_ref()) {
        let note = match why {
            Unlisted::NoNft => "install nftables to have them looked at".to_owned(),
            Unlisted::Refused(_) if facts.lacks_net_admin() => {
                "nft needs CAP_NET_ADMIN to list them: sudo conntally check".to_owned()
            }
            Unlisted::Refused(words) => format!("nft says: {words}"),
        };
        if !notes.contains(&note) {
            notes.push(note);
        }
    }
    notes.truncate(NAMED);
    notes
}

/// A flowtable without counter and the line that mends it, in one sentence.
pub(super) fn flowtable_words(place: &NamespaceFact, table: &Flowtable) -> String {
    let shown = shown(place, table);
    format!("put the line `counter` into flowtable {}; look by `{shown}`", in_words(place, table))
}

fn in_words(place: &NamespaceFact, table: &Flowtable) -> String {
    format!("{} {} {} ({})", table.family, table.table, table.name, place.label())
}

/// The command that shows it. None adds the counter: nft cannot change the flags of a flowtable that exists.
fn shown(place: &NamespaceFact, table: &Flowtable) -> String {
    let Flowtable { family, table, name, .. } = table;
    inside(place, &format!("nft list flowtable {family} {table} {name}"))
}

fn select(facts: &Facts, wanted: impl Fn(&NamespaceFact) -> bool) -> Vec<&NamespaceFact> {
    facts.namespaces.iter().filter(|namespace| wanted(namespace)).collect()
}

/// Where it is so, unless there is only one place.
fn place(facts: &Facts, namespaces: &[&NamespaceFact]) -> String {
    match facts.namespaces.len() {
        0 | 1 => String::new(),
        all => format!(" in {} of {all} namespaces: {}", namespaces.len(), names(namespaces)),
    }
}

fn names(namespaces: &[&NamespaceFact]) -> String {
    let named: Vec<String> = namespaces.iter().take(NAMED).map(|namespace| namespace.label()).collect();
    let more = namespaces.len().saturating_sub(NAMED);
    if more == 0 { named.join(", ") } else { format!("{} and {more} more", named.join(", ")) }
}

fn unreachable(facts: &Facts) -> Vec<String> {
    let closed = facts.namespaces.iter().filter_map(|namespace| Some((namespace, namespace.error.as_ref()?)));
    closed
        .take(NAMED)
        .map(|(namespace, why)| format!("{} cannot be entered: {why}", namespace.label()))
        .collect()
}

fn sysctl(namespaces: &[&NamespaceFact], assignment: &str) -> Vec<String> {
    let command = format!("sysctl -w {assignment}");
    let mut mend: Vec<String> = namespaces.iter().take(NAMED).map(|place| inside(place, &command)).collect();
    if namespaces.len() > NAMED {
        mend.push(format!("# and the same in the other {}", namespaces.len() - NAMED));
    }
    mend
}

/// A command as it is to be typed so that it runs in a namespace.
fn inside(namespace: &NamespaceFact, command: &str) -> String {
    match namespace.enter.as_deref() {
        Some("") => command.to_owned(),
        Some(enter) => format!("{enter} {command}"),
        None => format!("# in {}: {command}", namespace.label()),
    }
}
