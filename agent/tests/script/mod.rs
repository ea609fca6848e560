//! Shell scripts that play with agents in network, mount and process namespaces of their own. They need root.

use std::process::Command;

/// What every script begins with: a namespace that tracks connections, and helpers.
const PRELUDE: &str = r#"
set -u
mount -t tmpfs none /run/netns 2>/dev/null
ip link set lo up
nft 'add table inet t; add chain inet t o { type filter hook output priority 0; }; add rule inet t o ct state new'
# Whatever is configured on this machine.
unset "${!CONNTALLY_@}"
export HOME="$PWD" XDG_CONFIG_HOME="$PWD"
if [ -d /etc/conntally ]; then mount -t tmpfs none /etc/conntally; fi
for switch in acct timestamp; do echo 0 >/proc/sys/net/netfilter/nf_conntrack_$switch; done
export CONNTALLY_RUN_DIR="$PWD/run" CONNTALLY_SOURCE__KIND=netlink CONNTALLY_OUTPUT__FORMAT=json
wait_for() { for _ in $(seq 100); do grep -qs "$1" "$2" && return; sleep 0.05; done; echo "no $1 in $2"; cat "$2"; exit 9; }
acct() { cat /proc/sys/net/netfilter/nf_conntrack_acct; }
traffic() { ping -q -c 1 127.0.0.1 >/dev/null; }
"#;

/// Runs a script in namespaces and in a folder of its own and gives what it printed; `None`, with the reason said, without
/// root. The folder of one that failed stays.
pub(super) fn script(body: &str) -> Option<String> {
    if !nix::unistd::geteuid().is_root() {
        assert!(
            std::env::var_os("REQUIRE_ROOT_TESTS").is_none(),
            "not root, and REQUIRE_ROOT_TESTS forbids to skip"
        );
        eprintln!("skipped: needs root to make network namespaces");
        return None;
    }
    let folder = tempfile::tempdir().unwrap();
    let output = Command::new("timeout")
        .current_dir(folder.path())
        .args([
            "-k",
            "5",
            "60",
            "unshare",
            "-n",
            "-m",
            "-p",
            "-f",
            "--mount-proc",
            "--kill-child",
            "bash",
            "-c",
        ])
        .arg(format!("{PRELUDE}\n{body}"))
        .env("AGENT", env!("CARGO_BIN_EXE_conntally"))
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(
        output.status.success(),
        "{text}\n{}\nits files are in {}",
        String::from_utf8_lossy(&output.stderr),
        folder.keep().display()
    );
    Some(text)
}
