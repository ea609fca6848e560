//! Looks at the machine: the only part of `check` that does.

mod kernel;
mod namespaces;

use nix::sys::utsname::uname;

use super::facts::{ConntrackState, Facts, NamespaceFact, Possibility, TracingSupport};
use crate::kernel::symbols::Symbols;

/// What only the caller can try, because it holds the programs and the sockets.
pub struct Probes<'a> {
    /// Loads, attaches, proves and detaches the kernel programs.
    pub tracing: &'a dyn Fn() -> TracingSupport,
    /// Asks conntrack something by netlink; says why there was no answer.
    pub netlink: &'a dyn Fn() -> Result<(), String>,
}

/// Looks at one network namespace; `None` when it cannot be reached.
pub(super) fn namespace(inode: u32) -> Option<NamespaceFact> {
    namespaces::one(inode)
}

/// Collects every fact. What cannot be found out is a fact too, so this has no error. No module is loaded for it that
/// would bring conntrack.
#[must_use]
pub fn gather(probes: &Probes<'_>) -> Facts {
    let symbols = Symbols::read();
    let conntrack = kernel::conntrack(&symbols);
    let (btf_vmlinux, btf_module, layout) = kernel::types(conntrack);
    Facts {
        release: kernel::release(),
        machine: uname().map(|name| name.machine().to_string_lossy().into_owned()).unwrap_or_default(),
        btf_vmlinux,
        btf_module,
        layout,
        lockdown: kernel::lockdown(),
        jit: kernel::switch("/proc/sys/net/core/bpf_jit_enable"),
        ftrace: kernel::switch("/proc/sys/kernel/ftrace_enabled"),
        is_root: nix::unistd::geteuid().is_root(),
        missing_capabilities: kernel::missing_capabilities(),
        conntrack,
        functions: symbols.as_ref().map(kernel::functions).unwrap_or_default(),
        tracing: kernel::tracing(conntrack, probes),
        netlink: netlink(conntrack, probes),
        new_namespaces: kernel::new_namespaces(),
        namespaces: namespaces::all(conntrack),
        pinned: kernel::pinned(),
    }
}

/// Asks conntrack by netlink, unless there is none: the kernel would load it for the question.
fn netlink(conntrack: ConntrackState, probes: &Probes<'_>) -> Possibility {
    match conntrack {
        ConntrackState::Loadable => {
            Possibility::Untried("conntrack is not loaded, and to ask would load it".to_owned())
        }
        ConntrackState::Missing => Possibility::Untried("there is no conntrack to ask".to_owned()),
        ConntrackState::BuiltIn | ConntrackState::Loaded | ConntrackState::Unknown => {
            (probes.netlink)().map_or_else(Possibility::No, |()| Possibility::Yes)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_conntrack_that_is_not_loaded_is_not_asked() {
        let asked = std::cell::Cell::new(0);
        let probe = || {
            asked.set(asked.get() + 1);
            Ok(())
        };
        let tracing = || panic!("there is nothing to hook");
        let probes = Probes { tracing: &tracing, netlink: &probe };
        for absent in [ConntrackState::Loadable, ConntrackState::Missing] {
            assert!(matches!(netlink(absent, &probes), Possibility::Untried(_)));
            assert!(matches!(kernel::tracing(absent, &probes), TracingSupport::Untried(_)));
        }
        assert_eq!(asked.get(), 0);
        for there in [ConntrackState::Loaded, ConntrackState::BuiltIn, ConntrackState::Unknown] {
            assert_eq!(netlink(there, &probes), Possibility::Yes);
        }
    }
}
