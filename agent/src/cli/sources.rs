//! Opens the source that the configuration asks for.

use crate::config::{Config, SourceKind};
use crate::kernel::netns;
use crate::source::netlink::{NetlinkOptions, NetlinkSource};

/// A source that is in place, and what the line `ready` tells of it.
pub(super) enum Opened {
    /// ctnetlink dumps and events.
    Netlink(NetlinkSource, String),
}

/// Opens the source of `source.kind`.
pub(super) fn open(config: &Config) -> anyhow::Result<Opened> {
    match config.source.kind {
        SourceKind::Auto | SourceKind::Netlink => netlink(config),
        SourceKind::Bpf => anyhow::bail!("the kernel programs are not wired yet; use --source netlink"),
        SourceKind::Replay => anyhow::bail!("a recording is read by `conntally replay FILE`"),
    }
}

fn netlink(config: &Config) -> anyhow::Result<Opened> {
    let options = NetlinkOptions {
        receive_buffer: config.source.netlink_buffer as usize,
        rate_curve: config.source.rate_curve.iter().map(|step| (step.age, step.every)).collect(),
        max_flows: config.flow.max_flows as usize,
        ..NetlinkOptions::default()
    };
    let source = NetlinkSource::start(options)?;
    Ok(Opened::Netlink(source, place("netlink", "none")))
}

/// What the line `ready` tells.
fn place(source: &str, hooks: &str) -> String {
    format!("source={source} hooks={hooks} namespaces={}", netns::reachable_inodes().len())
}
