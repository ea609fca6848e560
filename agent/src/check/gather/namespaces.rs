//! Facts about each network namespace, looked at from inside of it.

use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::process::Command;
use std::{fs, io};

use super::kernel::switch;
use crate::check::facts::{NamespaceFact, Tracking};
use crate::check::ruleset;
use crate::kernel::netns::{self, Namespace};

const NETFILTER: &str = "/proc/sys/net/netfilter";

/// Where namespaces have names, and how a command gets in by it.
const NAMED: [(&str, &str); 2] =
    [("/run/netns", "ip netns exec "), ("/run/docker/netns", "nsenter --net=/run/docker/netns/")];

/// Looks at every namespace that can be reached.
pub(super) fn all() -> Vec<NamespaceFact> {
    let own = netns::current().ok().map(|own| own.inode);
    netns::reachable().iter().map(|namespace| fact(namespace, own)).collect()
}

/// Looks at one namespace; `None` when it cannot be reached.
pub(super) fn one(inode: u32) -> Option<NamespaceFact> {
    let own = netns::current().ok().map(|own| own.inode);
    netns::reachable().iter().find(|namespace| namespace.inode == inode).map(|found| fact(found, own))
}

fn fact(namespace: &Namespace, own: Option<u32>) -> NamespaceFact {
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
    };
    match netns::within(namespace, || inside(empty.clone())) {
        Ok(fact) => fact,
        Err(error) => NamespaceFact { error: Some(error.to_string()), ..empty },
    }
}

/// Fills in what is seen from inside. Runs in the namespace.
fn inside(fact: NamespaceFact) -> NamespaceFact {
    let ruleset = list_ruleset().ok().map(|text| ruleset::parse(&text));
    let count = number("nf_conntrack_count");
    let tracks = ruleset.as_ref().map(|ruleset| ruleset.tracks || has_legacy_nat());
    NamespaceFact {
        acct: switch(&format!("{NETFILTER}/nf_conntrack_acct")),
        timestamp: switch(&format!("{NETFILTER}/nf_conntrack_timestamp")),
        max: number("nf_conntrack_max"),
        count,
        tracking: tracking(count, tracks),
        flowtables: ruleset.map(|ruleset| ruleset.flowtables),
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
fn list_ruleset() -> io::Result<String> {
    let output = Command::new("nft").args(["--terse", "list", "ruleset"]).output()?;
    if !output.status.success() {
        return Err(io::Error::other(String::from_utf8_lossy(&output.stderr).into_owned()));
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
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
