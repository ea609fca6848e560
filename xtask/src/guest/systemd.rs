//! A systemd in a guest: this machine's, with the few units that a service needs around it.

use std::path::Path;

use anyhow::Result;

use super::archive::Tree;

const PROGRAMS: &[&str] = &["/lib/systemd/systemd", "/lib/systemd/systemd-shutdown"];

/// From systemd 254 on, it starts services by a program of its own.
const EXECUTOR: &str = "/lib/systemd/systemd-executor";

/// No journal, no bus, no login, no udev: what services print goes where their units say.
const UNITS: &[&str] = &[
    "basic.target",
    "local-fs-pre.target",
    "local-fs.target",
    "multi-user.target",
    "network-online.target",
    "network-pre.target",
    "network.target",
    "paths.target",
    "shutdown.target",
    "slices.target",
    "sockets.target",
    "swap.target",
    "sysinit.target",
    "timers.target",
    "umount.target",
];

/// The command of a guest, which powers it off.
const COMMAND: &str = "\
[Unit]
Description=The command of this guest
After=basic.target
[Service]
ExecStart=/init command
StandardOutput=null
";

/// Adds it to what a guest boots from; see `init.sh`.
pub(super) fn add(tree: &Tree) -> Result<()> {
    for program in PROGRAMS.iter().chain(Some(&EXECUTOR).filter(|program| Path::new(program).exists())) {
        tree.copy(Path::new(program), program)?;
    }
    tree.tool("systemctl")?;
    for unit in UNITS {
        let file = format!("/lib/systemd/system/{unit}");
        tree.copy(Path::new(&file), &file)?;
    }
    tree.text("etc/systemd/system/command.service", COMMAND)?;
    tree.link("../command.service", "etc/systemd/system/multi-user.target.wants/command.service")?;
    tree.link("/lib/systemd/system/multi-user.target", "etc/systemd/system/default.target")?;
    // Without one, all units would be enabled: it would be the machine's first boot.
    tree.text("etc/machine-id", "c0ffee00c0ffee00c0ffee00c0ffee00\n")?;
    tree.text("etc/passwd", "root:x:0:0::/root:/bin/bash\n")
}
