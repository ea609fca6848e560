//! Looks at the machine: the only part of `check` that does.

mod kernel;
mod namespaces;

use nix::sys::utsname::uname;

use super::facts::{Facts, NamespaceFact, TracingSupport};
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

/// Collects every fact. What cannot be found out is a fact too, so this has no error.
#[must_use]
pub fn gather(probes: &Probes<'_>) -> Facts {
    let symbols = Symbols::read();
    let conntrack = kernel::conntrack(&symbols);
    let (btf_vmlinux, btf_module, layout) = kernel::types();
    Facts {
        release: kernel::release(),
        machine: uname().map(|name| name.machine().to_string_lossy().into_owned()).unwrap_or_default(),
        btf_vmlinux,
        btf_module,
        layout,
        lockdown: kernel::lockdown(),
        jit: kernel::switch("/proc/sys/net/core/bpf_jit_enable"),
        ftrace: kernel::switch("/proc/sys/kernel/ftrace_enabled"),
        missing_capabilities: kernel::missing_capabilities(),
        conntrack,
        functions: symbols.as_ref().map(kernel::functions).unwrap_or_default(),
        tracing: kernel::tracing(conntrack, probes),
        netlink: (probes.netlink)(),
        new_namespaces: kernel::new_namespaces(),
        namespaces: namespaces::all(),
        pinned: kernel::pinned(),
    }
}
