//! Facts about the kernel as a whole, and about this process.

use std::{fs, io};

use caps::{CapSet, Capability};
use nix::sys::utsname::uname;

use super::Probes;
use crate::check::facts::{
    ConntrackState, FunctionFact, Lockdown, NewNamespaces, PinnedFact, Possibility, Presence, TracingSupport,
};
use crate::kernel::bpf::pins;
use crate::kernel::btf::{self, ReadError};
use crate::kernel::layout;
use crate::kernel::symbols::{Conntrack, Hook, Symbols};

const LOCKDOWN: &str = "/sys/kernel/security/lockdown";
const PARAMETERS: &str = "/sys/module/nf_conntrack/parameters";

/// What the agent makes use of. CAP_SYS_ADMIN contains CAP_BPF and CAP_PERFMON; CAP_SYS_PTRACE shows the
/// namespaces of other users' processes.
const USED: [(Capability, &str); 3] = [
    (Capability::CAP_NET_ADMIN, "CAP_NET_ADMIN"),
    (Capability::CAP_SYS_ADMIN, "CAP_SYS_ADMIN"),
    (Capability::CAP_SYS_PTRACE, "CAP_SYS_PTRACE"),
];

pub(super) fn release() -> String {
    uname().map(|name| name.release().to_string_lossy().into_owned()).unwrap_or_default()
}

/// BTF of image and module, and whether conntrack entries can be read by them.
pub(super) fn types(conntrack: ConntrackState) -> (Presence, Presence, Possibility) {
    let image = match btf::read_vmlinux() {
        Ok(image) => image,
        Err(error) => {
            let none = Possibility::Untried("there are no types to look at".to_owned());
            return (presence(&error), Presence::Absent, none);
        }
    };
    let module = btf::read_module(&image);
    let layout = match layout::resolve(&image, module.as_ref().ok()) {
        Ok(_) => Possibility::Yes,
        // What the image lacks the module may bring.
        Err(_) if conntrack.is_absent() => Possibility::Untried("nf_conntrack is not loaded".to_owned()),
        Err(error) => Possibility::No(error.to_string()),
    };
    let module = module.map_or_else(|error| presence(&error), |_| Presence::Present);
    (Presence::Present, module, layout)
}

fn presence(error: &ReadError) -> Presence {
    match error {
        ReadError::Absent { .. } => Presence::Absent,
        other => Presence::Broken(other.to_string()),
    }
}

pub(super) fn lockdown() -> Lockdown {
    fs::read_to_string(LOCKDOWN).map_or(Lockdown::Unknown, |modes| parse_lockdown(&modes))
}

/// The mode in brackets: `none [integrity] confidentiality`.
fn parse_lockdown(modes: &str) -> Lockdown {
    match modes.split_whitespace().find(|mode| mode.starts_with('[')) {
        Some("[none]") => Lockdown::None,
        Some("[integrity]") => Lockdown::Integrity,
        Some("[confidentiality]") => Lockdown::Confidentiality,
        _ => Lockdown::Unknown,
    }
}

/// A file that holds a number or `Y` or `N`.
pub(super) fn switch(path: &str) -> Option<bool> {
    match fs::read_to_string(path).ok()?.trim() {
        "N" | "0" => Some(false),
        "Y" => Some(true),
        number => number.parse::<u64>().ok().map(|_| true),
    }
}

pub(super) fn missing_capabilities() -> Vec<&'static str> {
    let has = |capability| caps::has_cap(None, CapSet::Effective, capability).unwrap_or(false);
    USED.into_iter().filter(|&(capability, _)| !has(capability)).map(|(_, name)| name).collect()
}

pub(super) fn conntrack(symbols: &io::Result<Symbols>) -> ConntrackState {
    match symbols.as_ref().map(Symbols::conntrack) {
        Ok(Conntrack::BuiltIn) => ConntrackState::BuiltIn,
        Ok(Conntrack::Module) => ConntrackState::Loaded,
        Ok(Conntrack::Absent) if is_loadable() => ConntrackState::Loadable,
        Ok(Conntrack::Absent) => ConntrackState::Missing,
        Err(_) => ConntrackState::Unknown,
    }
}

/// Whether modprobe would find the module.
fn is_loadable() -> bool {
    let list = fs::read_to_string(format!("/lib/modules/{}/modules.dep", release())).unwrap_or_default();
    list.lines().filter_map(|line| line.split(':').next()).any(is_conntrack_module)
}

/// Modules may be compressed: `…/nf_conntrack.ko.xz`.
fn is_conntrack_module(path: &str) -> bool {
    path.rsplit('/').next().is_some_and(|file| file.starts_with("nf_conntrack.ko"))
}

pub(super) fn functions(symbols: &Symbols) -> Vec<FunctionFact> {
    let fact = |hook: Hook| {
        let function = symbols.function(hook);
        let variants = function.variants.into_iter().map(|symbol| symbol.name).collect();
        FunctionFact { name: hook.function(), present: function.exact.is_some(), variants }
    };
    Hook::ALL.map(fact).into()
}

/// Tries the programs, unless there is nothing to attach them to.
pub(super) fn tracing(conntrack: ConntrackState, probes: &Probes<'_>) -> TracingSupport {
    if conntrack.is_absent() {
        return TracingSupport::Untried("conntrack is not loaded, so there is nothing to hook".to_owned());
    }
    (probes.tracing)()
}

pub(super) fn new_namespaces() -> NewNamespaces {
    let parameter = |name| switch(&format!("{PARAMETERS}/{name}"));
    NewNamespaces { acct: parameter("acct"), timestamp: parameter("tstamp") }
}

/// Kernel programs that outlive their agent. Those that cannot be seen are nobody's whom this process could help.
pub(super) fn pinned() -> Vec<PinnedFact> {
    let left = pins::left().unwrap_or_default();
    let fact = |left: pins::Left| PinnedFact {
        state_dir: left.state_dir.map(|path| path.display().to_string()),
        in_use: left.user.is_some(),
    };
    left.into_iter().map(fact).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_lockdown_mode_is_the_one_in_brackets() {
        assert_eq!(parse_lockdown("[none] integrity confidentiality\n"), Lockdown::None);
        assert_eq!(parse_lockdown("none [integrity] confidentiality\n"), Lockdown::Integrity);
        assert_eq!(parse_lockdown("none integrity [confidentiality]\n"), Lockdown::Confidentiality);
        assert_eq!(parse_lockdown(""), Lockdown::Unknown);
        assert_eq!(parse_lockdown("none integrity"), Lockdown::Unknown);
    }

    #[test]
    fn a_switch_is_read_in_each_form_that_the_kernel_writes() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("switch");
        for (content, expected) in [
            ("0\n", Some(false)),
            ("N\n", Some(false)),
            ("1\n", Some(true)),
            ("2\n", Some(true)),
            ("Y\n", Some(true)),
            ("?\n", None),
        ] {
            fs::write(&path, content).unwrap();
            assert_eq!(switch(path.to_str().unwrap()), expected, "{content:?}");
        }
        assert_eq!(switch(folder.path().join("none").to_str().unwrap()), None);
    }

    #[test]
    fn the_module_is_known_from_its_relatives() {
        assert!(is_conntrack_module("kernel/net/netfilter/nf_conntrack.ko.xz"));
        assert!(is_conntrack_module("kernel/net/netfilter/nf_conntrack.ko"));
        assert!(!is_conntrack_module("kernel/net/netfilter/nf_conntrack_netlink.ko.xz"));
    }
}
