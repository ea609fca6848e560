//! Opens the source that the configuration asks for.

use crate::config::{Config, SourceKind};
use crate::kernel::netns;
use crate::source::netlink::{NetlinkOptions, NetlinkSource};
use crate::source::{Batch, Losses, Progress, Source, SourceError};
use anyhow::bail;

/// A source of this machine, whichever it is.
pub(super) enum LiveSource {
    /// ctnetlink dumps and events.
    Netlink(NetlinkSource),
}

/// A source that is in place.
pub(super) struct Opened {
    pub(super) source: LiveSource,
    /// What the line `ready` tells of it.
    pub(super) place: String,
}

impl Source for LiveSource {
    async fn read(&mut self, batch: &mut Batch) -> Result<Progress, SourceError> {
        match self {
            Self::Netlink(source) => source.read(batch).await,
        }
    }

    async fn drain(&mut self, batch: &mut Batch) -> Result<Progress, SourceError> {
        match self {
            Self::Netlink(source) => source.drain(batch).await,
        }
    }

    fn losses(&self) -> Losses {
        match self {
            Self::Netlink(source) => source.losses(),
        }
    }
}

/// Opens the source of `source.kind`.
pub(super) fn open(config: &Config) -> anyhow::Result<Opened> {
    match config.source.kind {
        SourceKind::Auto | SourceKind::Netlink => netlink(config),
        SourceKind::Bpf => bail!("the kernel programs are not wired yet; use --source netlink"),
        SourceKind::Replay => bail!("a recording cannot be recorded; use --source bpf or netlink"),
    }
}

fn netlink(config: &Config) -> anyhow::Result<Opened> {
    let options = NetlinkOptions {
        receive_buffer: config.source.netlink_buffer as usize,
        rate_curve: config.source.rate_curve.iter().map(|step| (step.age, step.every)).collect(),
        max_flows: config.flow.max_flows as usize,
        ..NetlinkOptions::default()
    };
    let source = LiveSource::Netlink(NetlinkSource::start(options)?);
    Ok(Opened { source, place: place("netlink", "none") })
}

/// What the line `ready` tells.
fn place(source: &str, hooks: &str) -> String {
    format!("source={source} hooks={hooks} namespaces={}", netns::reachable_inodes().len())
}
