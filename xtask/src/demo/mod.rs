//! `cargo xtask demo`: builds the agent and shows it at work between two network namespaces.

mod databases;

use anyhow::{Result, bail, ensure};
use nix::sys::signal::{SigSet, Signal};

use databases::Databases;

use crate::{
    command::{as_root, exists, is_root},
    guest::{Binaries, Profile},
    paths::Paths,
    setup,
};

/// How long to show it.
#[derive(clap::Args)]
pub(crate) struct Options {
    /// Seconds of traffic
    #[arg(long, default_value_t = 15)]
    seconds: u32,
    /// Build faster, run slower
    #[arg(long)]
    quick: bool,
    /// Start InfluxDB and Elasticsearch, deliver to them, and tell how to point Grafana at them
    #[arg(long)]
    full: bool,
}

/// Tools that the demonstration runs, with their packages.
const PACKAGES: &[&str] =
    &["gcc", "libc6-dev", "nftables", "iproute2", "iputils-ping", "ethtool", "conntrack", "procps"];

/// The namespaces are named in a mount namespace of their own: the names cannot clash with others, and nothing is
/// left behind, however this ends.
const IN_OWN_NAMES: &str = r#"mkdir -p /run/netns && mount -t tmpfs conntally-demo /run/netns && exec "$@""#;

/// Shows live flows and ends with an account of them; fails if the agent's figures are not the generator's.
pub(crate) fn run(paths: &Paths, options: &Options) -> Result<()> {
    ensure!(is_root() || exists("sudo"), "network namespaces need root: install sudo, or run this as root");
    setup::ensure(PACKAGES)?;
    let profile = if options.quick { Profile::Quick } else { Profile::Release };
    let binaries = Binaries::build(paths, profile)?;
    let databases = options.full.then(|| Databases::start(paths)).transpose()?;
    // Ctrl-C is for the demonstration, which ends in good order; this waits for it.
    SigSet::from_iter([Signal::SIGINT, Signal::SIGTERM, Signal::SIGHUP]).thread_block()?;
    let mut demonstration = as_root("unshare");
    demonstration
        .args(["--mount", "--propagation", "private", "sh", "-c", IN_OWN_NAMES, "demo"])
        .arg(binaries.path("conntally-e2e"))
        .args(["demo", "--seconds", &options.seconds.to_string(), "--agent"])
        .arg(binaries.path("conntally"));
    if let Some(databases) = &databases {
        demonstration.arg("--config").arg(databases.configure(paths)?);
    }
    let status = demonstration.status()?;
    let told = databases.as_ref().map_or(Ok(()), Databases::tell);
    if !status.success() {
        bail!("the demonstration was not exact or broke off, see above ({status})");
    }
    told
}
