//! Keeps the kernel's accounting on in every network namespace while the agent runs, as configured.

use crate::config::Config;
use crate::kernel::bpf::pins;
use crate::kernel::module;
use crate::kernel::netns::{self, Namespace, Place};
use crate::kernel::sysctl::{Adopted, Restored, SysctlError, Sysctls};
use std::collections::{HashMap, HashSet};
use std::path::Path;
use std::sync::Arc;
use std::sync::mpsc::{RecvTimeoutError, Sender, channel};
use std::thread::{self, JoinHandle};
use std::time::Duration;

/// How soon a new namespace, or the module when it is loaded, gets its switches turned on.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// The agent's care for the switches; to be dropped when the last counter was read.
#[derive(Debug, Default)]
pub(super) struct Accounting {
    sysctls: Option<Arc<Sysctls>>,
    follower: Option<Follower>,
}

/// The thread that looks for new namespaces. It ends when `stop` is dropped.
#[derive(Debug)]
struct Follower {
    stop: Sender<()>,
    thread: JoinHandle<Switches>,
}

impl Accounting {
    /// Turns accounting on where it is off, if that is configured. What is not possible is logged: flows are then
    /// flagged `no_counters`.
    pub(super) fn begin(config: &Config) -> Self {
        // Held also by an agent that changes nothing: others must not turn accounting off while it reads.
        let sysctls = match Sysctls::hold(&config.run_dir) {
            Ok(sysctls) => Arc::new(sysctls),
            Err(error) => {
                tracing::warn!("nf_conntrack_acct and nf_conntrack_timestamp stay as they are: {error}");
                return Self::default();
            }
        };
        if !config.source.manage_sysctls {
            return Self { sysctls: Some(sysctls), follower: None };
        }
        let mut switches = Switches::new(Arc::clone(&sysctls));
        switches.look();
        let follower = follow(switches).inspect_err(|error| {
            tracing::warn!("cannot start a thread: accounting stays off in namespaces made later: {error}");
        });
        Self { sysctls: Some(sysctls), follower: follower.ok() }
    }
}

/// Puts back what agents changed, if this is the last one; also when the agent fails half-way or panics.
impl Drop for Accounting {
    fn drop(&mut self) {
        // First, because it changes switches, too.
        let switches = self.follower.take().and_then(|Follower { stop, thread }| {
            drop(stop);
            // It can only have panicked, which was reported.
            thread.join().ok()
        });
        if let Some(sysctls) = self.sysctls.take()
            && give_back(&sysctls) == NewOnes::Changed
            && let Some(switches) = switches
        {
            report_made_meanwhile(&switches.made_meanwhile());
        }
    }
}

/// With what namespaces begin that are made from now on.
#[derive(Clone, Copy, PartialEq, Eq)]
enum NewOnes {
    /// With other switches than those made before.
    Changed,
    /// With the same.
    AsBefore,
}

/// Puts back what agents changed, if none runs.
pub(super) fn put_back(run_dir: &Path) {
    match Sysctls::hold(run_dir) {
        Ok(sysctls) => {
            give_back(&sysctls);
        }
        Err(error) => {
            tracing::warn!("nf_conntrack_acct and nf_conntrack_timestamp stay as they are: {error}")
        }
    }
}

/// Kernel programs that outlive their agent need the counters on.
fn give_back(sysctls: &Sysctls) -> NewOnes {
    if pins::are_left() {
        sysctls.keep();
        tracing::info!("accounting stays on for the kernel programs that stay");
        return NewOnes::AsBefore;
    }
    let restored = sysctls.release();
    let has_module = restored.as_ref().is_ok_and(|restored| restored.has_module);
    report_restored(restored);
    if has_module { NewOnes::Changed } else { NewOnes::AsBefore }
}

fn follow(mut switches: Switches) -> std::io::Result<Follower> {
    let (stop, stopped) = channel();
    let body = move || {
        while stopped.recv_timeout(LOOK_EVERY) == Err(RecvTimeoutError::Timeout) {
            switches.look();
        }
        switches
    };
    Ok(Follower { stop, thread: thread::Builder::new().name("sysctls".into()).spawn(body)? })
}

/// Which switches were seen to.
struct Switches {
    sysctls: Arc<Sysctls>,
    /// Which incarnation of the module was seen to: loaded again, it has forgotten everything.
    module: Option<u64>,
    /// Whether namespaces made from now on begin with everything on.
    new_ones_are_on: bool,
    namespaces: HashSet<u32>,
    /// Where those are in which something was changed, by number.
    changed: HashMap<u32, Place>,
}

impl Switches {
    fn new(sysctls: Arc<Sysctls>) -> Self {
        Self {
            sysctls,
            module: None,
            new_ones_are_on: false,
            namespaces: HashSet::new(),
            changed: HashMap::new(),
        }
    }

    /// Sees to whatever is new since the last look.
    fn look(&mut self) {
        let module = module::incarnation();
        if module.is_none() {
            return;
        }
        self.forget_gone();
        if module != self.module {
            self.module = module;
            self.namespaces.clear();
            self.adopt_module();
        } else if self.new_ones_are_on {
            return;
        }
        self.adopt_namespaces();
    }

    fn adopt_module(&mut self) {
        let adopted = self.sysctls.adopt_module();
        self.new_ones_are_on =
            adopted.as_ref().is_ok_and(|adopted| adopted.refused.is_empty() && adopted.absent.is_empty());
        report_adopted(adopted);
    }

    fn adopt_namespaces(&mut self) {
        let present = netns::reachable_inodes();
        self.namespaces.retain(|inode| present.contains(inode));
        if present.len() == self.namespaces.len() {
            return;
        }
        for namespace in netns::reachable() {
            if self.namespaces.insert(namespace.inode) {
                self.adopt(&namespace);
            }
        }
    }

    fn adopt(&mut self, namespace: &Namespace) {
        let adopted = self.sysctls.adopt(namespace);
        if adopted.as_ref().is_ok_and(|adopted| !adopted.changed.is_empty()) {
            self.changed.insert(namespace.inode, namespace.place());
        }
        report_adopted(adopted);
    }

    /// What a person calls the namespaces in which something is on since their beginning: they were made while new ones
    /// began so.
    fn made_meanwhile(&self) -> Vec<String> {
        let is_new = |namespace: &&Namespace| !self.namespaces.contains(&namespace.inode);
        let label = |namespace: &Namespace| {
            namespace.name.clone().unwrap_or_else(|| format!("net:[{}]", namespace.inode))
        };
        let reachable = netns::reachable();
        let on = reachable.iter().filter(is_new).filter(|namespace| self.sysctls.is_any_on(namespace));
        on.map(label).collect()
    }

    /// The kernel gives the number of a namespace that is gone to the next one, in which nothing was changed.
    fn forget_gone(&mut self) {
        let moved: Vec<u32> =
            self.changed.iter().filter(|(_, place)| !place.holds()).map(|(inode, _)| *inode).collect();
        if moved.is_empty() {
            return;
        }
        let reachable = netns::reachable();
        for inode in moved {
            if let Some(namespace) = reachable.iter().find(|namespace| namespace.inode == inode) {
                self.changed.insert(inode, namespace.place());
                // If it is another one already, its switches may be off.
                self.adopt(namespace);
                continue;
            }
            self.changed.remove(&inode);
            self.namespaces.remove(&inode);
            if let Err(error) = self.sysctls.forget(inode) {
                tracing::warn!(
                    "the old values of network namespace {inode}, which is gone, stay noted: {error}"
                );
            }
        }
    }
}

fn report_adopted(adopted: Result<Adopted, SysctlError>) {
    let adopted = match adopted {
        Ok(adopted) => adopted,
        Err(error) => return tracing::warn!("accounting is left as it is: {error}"),
    };
    for name in adopted.changed {
        tracing::info!("turned on {name}");
    }
    for (name, error) in adopted.refused {
        tracing::warn!("cannot turn on {name}: {error}");
    }
    for name in adopted.absent {
        tracing::debug!("there is no {name}");
    }
}

/// Namespaces named in the log before the rest is only counted.
const NAMED: usize = 5;

/// They began with the module's parameters, which is not the agent's doing: only their owner knows what is right.
fn report_made_meanwhile(names: &[String]) {
    if let Some(sentence) = made_meanwhile(names) {
        tracing::info!("{sentence}");
    }
}

fn made_meanwhile(names: &[String]) -> Option<String> {
    let count = names.len();
    let named = names.get(..NAMED.min(count)).filter(|named| !named.is_empty())?.join(", ");
    let more = if count > NAMED { format!(" and {} more", count - NAMED) } else { String::new() };
    let noun = if count == 1 { "network namespace that was" } else { "network namespaces that were" };
    Some(format!(
        "accounting stays on in {count} {noun} made meanwhile ({named}{more}); in each, `sysctl -w \
         net.netfilter.nf_conntrack_acct=0 net.netfilter.nf_conntrack_timestamp=0` turns it off"
    ))
}

fn report_restored(restored: Result<Restored, SysctlError>) {
    let restored = match restored {
        Ok(restored) => restored,
        Err(error) => return tracing::error!("accounting was not turned off again: {error}"),
    };
    if restored.others_run {
        tracing::info!("another agent runs: accounting stays on");
    }
    for name in restored.restored {
        tracing::info!("turned {name} off again");
    }
    for name in restored.left {
        tracing::info!("left {name} alone: it is off already");
    }
    for (name, error) in restored.failed {
        tracing::error!("cannot turn {name} off again: {error}; do it by hand");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn namespaces_made_meanwhile_are_counted_and_some_are_named() {
        assert_eq!(made_meanwhile(&[]), None);
        let one = made_meanwhile(&["blue".to_owned()]).unwrap();
        assert!(
            one.starts_with("accounting stays on in 1 network namespace that was made meanwhile (blue); ")
        );
        let names: Vec<String> = (0..7).map(|number| format!("pod{number}")).collect();
        let many = made_meanwhile(&names).unwrap();
        assert!(many.contains("in 7 network namespaces") && many.contains("pod4 and 2 more)"), "{many}");
    }
}
