//! Judges what the machine, its kernel and the caller's privileges allow.

use crate::check::facts::{ConntrackState, Facts, Lockdown, Possibility, Presence};
use crate::check::verdict::Level::{Fail, Ok, Warn};
use crate::check::verdict::Line;

/// What permits root what it may not.
pub(super) const PRIVILEGED: &str = "in a container, run it with --privileged; in a sandbox, outside of it; a hardened \
                                     kernel has to allow bpf(2) and perf_event_open(2)";

/// What opens a locked kernel.
pub(super) const UNLOCK: &str = "boot with lockdown=integrity, or with Secure Boot off";

pub(super) fn privileges(facts: &Facts) -> Line {
    let what = "privileges";
    let missing = facts.missing_capabilities.join(", ");
    if facts.missing_capabilities.is_empty() {
        return Line::new(Ok, what, "all that the agent uses");
    }
    if facts.missing_capabilities.contains(&"CAP_NET_ADMIN") {
        let detail = format!("this process lacks {missing}; without CAP_NET_ADMIN nothing can be accounted");
        return as_root(facts, Line::new(Fail, what, detail));
    }
    let detail =
        format!("this process lacks {missing}; kernel programs or other namespaces may be out of reach");
    as_root(facts, Line::new(Warn, what, detail))
}

/// What mends a want of privilege. Who is root already lacks what a container was not given.
pub(super) fn as_root(facts: &Facts, line: Line) -> Line {
    if facts.is_root { line.advice(PRIVILEGED) } else { line.mend(["sudo conntally check"]) }
}

pub(super) fn kernel(facts: &Facts) -> Line {
    Line::new(Ok, "kernel", format!("{} {}", facts.release, facts.machine))
}

pub(super) fn lockdown(facts: &Facts) -> Line {
    let what = "lockdown";
    match facts.lockdown {
        Lockdown::None => Line::new(Ok, what, "none"),
        Lockdown::Integrity => Line::new(Ok, what, "integrity, which allows tracing"),
        Lockdown::Unknown => {
            Line::new(Ok, what, "the kernel names no mode; whether tracing works is told by hooks")
        }
        Lockdown::Confidentiality => {
            let detail = "confidentiality: the kernel refuses tracing programs, only netlink is left";
            Line::new(Warn, what, detail).advice(UNLOCK)
        }
    }
}

pub(super) fn btf(facts: &Facts) -> Line {
    let what = "BTF";
    let image = match &facts.btf_vmlinux {
        Presence::Present => None,
        Presence::Absent => Some("the kernel has no /sys/kernel/btf/vmlinux".to_owned()),
        Presence::Broken(why) => Some(why.clone()),
    };
    if let Some(why) = image {
        let detail = format!("{why}: kernel programs do not know where things are, only netlink is left");
        return Line::new(Warn, what, detail).advice("boot a kernel built with CONFIG_DEBUG_INFO_BTF=y");
    }
    if let Possibility::No(missing) = &facts.layout {
        return Line::new(Warn, what, format!("{missing}; only netlink is left")).advice("update conntally");
    }
    match (&facts.btf_module, facts.conntrack) {
        (_, ConntrackState::BuiltIn) => Line::new(Ok, what, "of the kernel image, conntrack included"),
        (Presence::Present, _) => Line::new(Ok, what, "of the kernel image and of nf_conntrack"),
        (Presence::Absent, ConntrackState::Loaded) => {
            let detail = "of the kernel image, not of the module nf_conntrack: kprobes instead of fentry";
            Line::new(Ok, what, detail)
        }
        (Presence::Absent, _) => {
            Line::new(Ok, what, "of the kernel image; that of nf_conntrack is not known before it is loaded")
        }
        (Presence::Broken(why), _) => Line::new(Warn, what, format!("{why}: kprobes instead of fentry")),
    }
}

pub(super) fn conntrack(facts: &Facts) -> Line {
    let what = "conntrack";
    let load = ["modprobe nf_conntrack"];
    match facts.conntrack {
        ConntrackState::BuiltIn => Line::new(Ok, what, "built into the kernel"),
        ConntrackState::Loaded => Line::new(Ok, what, "loaded"),
        ConntrackState::Loadable => {
            Line::new(Warn, what, "the module nf_conntrack is not loaded; the agent loads it when it starts")
                .mend(load)
        }
        ConntrackState::Missing => {
            let detail = format!("neither in the kernel nor among the modules of {}", facts.release);
            let install = format!(
                "install the modules of this kernel (Debian: apt install linux-image-{0}; Ubuntu: apt install \
                 linux-modules-extra-{0}), or reboot after a kernel update",
                facts.release
            );
            Line::new(Fail, what, detail).advice(install)
        }
        ConntrackState::Unknown => {
            Line::new(Warn, what, "/proc/kallsyms cannot be read").mend(["mount -t proc proc /proc"])
        }
    }
}
