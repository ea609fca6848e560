//! Facts about each network namespace, looked at from inside of it.

use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::process::ExitStatus;
use std::{fs, io};

use super::kernel::switch;
use crate::check::facts::{ConntrackState, NamespaceFact, Tracking, Unlisted};
use crate::check::ruleset::{self, Ruleset};
use crate::kernel::netns::{self, Namespace};
use crate::kernel::tool::tool;

const NETFILTER: &str = "/proc/sys/net/netfilter";

/// Where namespaces have names, and how a command gets in by it.
const NAMED: [(&str, &str); 2] =
    [("/run/netns", "ip netns exec "), ("/run/docker/netns", "nsenter --net=/run/docker/netns/")];

/// Looks at every namespace that can be reached.
pub(super) fn all(conntrack: ConntrackState) -> Vec<NamespaceFact> {
    let own = netns::current().ok().map(|own| own.inode);
    // Without conntrack no rule uses it and no flowtable is there; nft would load modules for the question.
    let list = if conntrack.is_absent() { || Ok(Ruleset::default()) } else { list_ruleset };
    netns::reachable().iter().map(|namespace| fact(namespace, own, list)).collect()
}

/// Looks at one namespace; `None` when it cannot be reached.
pub(super) fn one(inode: u32) -> Option<NamespaceFact> {
    let own = netns::current().ok().map(|own| own.inode);
    let reachable = netns::reachable();
    reachable.iter().find(|namespace| namespace.inode == inode).map(|found| fact(found, own, list_ruleset))
}

/// How the rules of the namespace that the thread is in are listed.
type List = fn() -> Result<Ruleset, Unlisted>;

fn fact(namespace: &Namespace, own: Option<u32>, list: List) -> NamespaceFact {
    let is_own = own == Some(namespace.inode);
    let enter = if is_own { Some(String::new()) } else { enter(namespace) };
    let empty = NamespaceFact {
        inode: namespace.inode,
        name: namespace.name.clone(),
        enter,
        error: None,
        acct: None,
        timestamp: None,
        max: None,
        count: None,
        tracking: Tracking::Unknown,
        flowtables: None,
        unlisted: None,
    };
    match netns::within(namespace, || inside(empty.clone(), list)) {
        Ok(fact) => fact,
        Err(error) => NamespaceFact { error: Some(error.to_string()), ..empty },
    }
}

/// Fills in what is seen from inside. Runs in the namespace.
fn inside(fact: NamespaceFact, list: List) -> NamespaceFact {
    let (ruleset, unlisted) = match list() {
        Ok(ruleset) => (Some(ruleset), None),
        Err(why) => (None, Some(why)),
    };
    let count = number("nf_conntrack_count");
    let tracks = ruleset.as_ref().map(|ruleset| ruleset.tracks || has_legacy_nat());
    NamespaceFact {
        acct: switch(&format!("{NETFILTER}/nf_conntrack_acct")),
        timestamp: switch(&format!("{NETFILTER}/nf_conntrack_timestamp")),
        max: number("nf_conntrack_max"),
        count,
        tracking: tracking(count, tracks),
        flowtables: ruleset.map(|ruleset| ruleset.flowtables),
        unlisted,
        ..fact
    }
}

fn tracking(count: Option<u64>, tracks: Option<bool>) -> Tracking {
    match (count, tracks) {
        (Some(1..), _) | (_, Some(true)) => Tracking::Active,
        (_, Some(false)) => Tracking::Idle,
        (_, None) => Tracking::Unknown,
    }
}

fn number(sysctl: &str) -> Option<u64> {
    fs::read_to_string(format!("{NETFILTER}/{sysctl}")).ok()?.trim().parse().ok()
}

/// Without the elements of sets, of which there may be millions.
fn list_ruleset() -> Result<Ruleset, Unlisted> {
    let output = match tool("nft").args(["--terse", "list", "ruleset"]).output() {
        Ok(output) => output,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Err(Unlisted::NoNft),
        Err(error) => return Err(Unlisted::Refused(error.to_string())),
    };
    if !output.status.success() {
        return Err(Unlisted::Refused(words(&output.stderr, output.status)));
    }
    Ok(ruleset::parse(&String::from_utf8_lossy(&output.stdout)))
}

/// The first line that a program which failed has said, which is the reason; the rest is mostly advice.
fn words(said: &[u8], status: ExitStatus) -> String {
    let said = String::from_utf8_lossy(said);
    said.lines()
        .map(str::trim)
        .find(|line| !line.is_empty())
        .map_or_else(|| status.to_string(), str::to_owned)
}

/// Tables of the older iptables, which nft does not list: one that translates addresses tracks connections.
fn has_legacy_nat() -> bool {
    ["/proc/net/ip_tables_names", "/proc/net/ip6_tables_names"].iter().any(|path| {
        // /proc/net is the view of the whole process; this thread's namespace may be another.
        let path = path.replace("/proc/net", "/proc/thread-self/net");
        fs::read_to_string(path).is_ok_and(|tables| tables.lines().any(|table| table == "nat"))
    })
}

/// How a command gets into a namespace that is not the caller's.
fn enter(namespace: &Namespace) -> Option<String> {
    let by_name = namespace.name.as_ref().and_then(|name| {
        let is_it = |folder: &str| inode(&Path::new(folder).join(name)) == Some(namespace.inode);
        NAMED.iter().find(|(folder, _)| is_it(folder)).map(|(_, prefix)| format!("{prefix}{name}"))
    });
    by_name.or_else(|| Some(format!("nsenter --net --target {}", process_inside(namespace.inode)?)))
}

fn process_inside(wanted: u32) -> Option<u32> {
    let processes = fs::read_dir("/proc").ok()?.flatten();
    let mut pids = processes.filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
    pids.find(|pid| inode(Path::new(&format!("/proc/{pid}/ns/net"))) == Some(wanted))
}

fn inode(path: &Path) -> Option<u32> {
    fs::metadata(path).ok()?.ino().try_into().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entries_or_rules_make_a_namespace_track() {
        assert_eq!(tracking(Some(1), None), Tracking::Active);
        assert_eq!(tracking(Some(0), Some(true)), Tracking::Active);
        assert_eq!(tracking(Some(0), Some(false)), Tracking::Idle);
        assert_eq!(tracking(None, Some(false)), Tracking::Idle);
        assert_eq!(tracking(Some(0), None), Tracking::Unknown);
    }
}
