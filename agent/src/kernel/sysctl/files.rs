//! The switches of the running kernel, as files below /proc/sys and /sys/module.

use super::{Kernel, Owner, Switch};
use crate::kernel::netns::{self, Namespace};
use std::fs;
use std::io;

/// The running kernel.
#[derive(Clone, Copy, Debug)]
pub struct Host;

impl Kernel for Host {
    fn reachable(&self) -> Vec<Namespace> {
        netns::reachable()
    }

    fn read(&self, owner: Owner<'_>, switch: Switch) -> io::Result<String> {
        match owner {
            // /proc/sys/net shows the namespace of the thread that opens the file.
            Owner::Namespace(namespace) => netns::within(namespace, || fs::read_to_string(sysctl(switch)))?,
            Owner::Module => fs::read_to_string(parameter(switch)),
        }
    }

    fn write(&self, owner: Owner<'_>, switch: Switch, value: &str) -> io::Result<()> {
        match owner {
            Owner::Namespace(namespace) => netns::within(namespace, || fs::write(sysctl(switch), value))?,
            Owner::Module => fs::write(parameter(switch), value),
        }
    }
}

fn sysctl(switch: Switch) -> String {
    format!("/proc/sys/net/netfilter/{}", switch.sysctl())
}

fn parameter(switch: Switch) -> String {
    format!("/sys/module/nf_conntrack/parameters/{}", switch.parameter())
}

/// Random for each boot; empty when /proc does not tell, which is then the same for every boot.
pub(super) fn boot_id() -> String {
    fs::read_to_string("/proc/sys/kernel/random/boot_id").map(|id| id.trim().to_owned()).unwrap_or_default()
}
