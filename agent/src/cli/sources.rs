//! Opens the source that the configuration asks for.

use super::resume::{Origin, Programs};
use super::{AskedOfKernel, message};
use crate::clock::boot_ns;
use crate::config::{self, Config, Hook, RecordEvent, Slots, SourceKind};
use crate::flow::Visits;
use crate::kernel::bpf::pins::{Left, PinDirectory, Place};
use crate::kernel::bpf::{
    HookPreference, HookReport, KernelSideOptions, RateStep, RingSizes, Updates, Wanted,
};
use crate::kernel::{limits, netns};
use crate::model::Visit;
use crate::source::bpf::{BpfOptions, BpfSource};
use crate::source::netlink::{NetlinkOptions, NetlinkSource};
use crate::source::{Batch, Counted, LongestRuns, Losses, Progress, Source, SourceError};
use anyhow::bail;
use std::time::Duration;

/// The kernel's default of `nf_conntrack_max` on a machine of some size.
const DEFAULT_MAX: u32 = 262_144;

/// How long the look at all flows may take with which a shutdown begins.
const LAST_WALK: Duration = Duration::from_secs(2);

/// A source of this machine, whichever it is.
pub(super) enum LiveSource {
    /// The kernel programs.
    Bpf(Box<BpfSource>),
    /// ctnetlink dumps and events.
    Netlink(NetlinkSource),
}

/// A source that is in place.
pub(super) struct Opened {
    pub(super) source: LiveSource,
    pub(super) origin: Origin,
    /// What the line `ready` tells of it.
    pub(super) place: String,
    /// Which flows it wants to be told that are due.
    pub(super) visits: Visits,
}

impl Source for LiveSource {
    async fn read(&mut self, batch: &mut Batch) -> Result<Progress, SourceError> {
        match self {
            Self::Bpf(source) => source.read(batch).await,
            Self::Netlink(source) => source.read(batch).await,
        }
    }

    async fn drain(&mut self, batch: &mut Batch) -> Result<Progress, SourceError> {
        match self {
            Self::Bpf(source) => source.drain(batch).await,
            Self::Netlink(source) => source.drain(batch).await,
        }
    }

    fn losses(&self) -> Losses {
        match self {
            Self::Bpf(source) => source.losses(),
            Self::Netlink(source) => source.losses(),
        }
    }

    fn visit(&mut self, due: &[Visit]) -> usize {
        match self {
            Self::Bpf(source) => source.visit(due),
            Self::Netlink(source) => source.visit(due),
        }
    }

    fn counted(&self) -> Option<Counted> {
        match self {
            Self::Bpf(source) => source.counted(),
            Self::Netlink(source) => source.counted(),
        }
    }

    fn longest_runs(&self) -> Option<LongestRuns> {
        match self {
            Self::Bpf(source) => source.longest_runs(),
            Self::Netlink(source) => source.longest_runs(),
        }
    }
}

/// Opens the source of `source.kind`. With `pins` its kernel programs outlive the agent.
pub(super) fn open(config: &Config, pins: Option<Place>) -> anyhow::Result<Opened> {
    match config.source.kind {
        SourceKind::Auto => any_bpf(config, pins.clone()).or_else(|error| {
            tracing::warn!("netlink is used instead of the kernel programs: {}", message(&error));
            remove_pins(pins);
            netlink(config)
        }),
        SourceKind::Bpf => bpf(config, pins),
        SourceKind::Netlink => {
            remove_pins(pins);
            netlink(config)
        }
        SourceKind::Replay => bail!("a recording cannot be recorded; use --source bpf or netlink"),
    }
}

/// What another source tells, programs must not tell once more to a later agent.
fn remove_pins(pins: Option<Place>) {
    let found = pins.as_ref().and_then(Place::left);
    let opened = found.as_ref().map_or(Ok(None), Left::open);
    let removed = opened.and_then(|found| found.map(PinDirectory::remove).transpose());
    match removed {
        Ok(Some(_)) => tracing::info!("the kernel programs that an earlier agent left were removed"),
        Ok(None) => {}
        Err(error) => tracing::error!("the kernel programs that an earlier agent left stay: {error}"),
    }
}

/// With the hooks that are configured, or with others: all of them cost less than netlink.
fn any_bpf(config: &Config, pins: Option<Place>) -> anyhow::Result<Opened> {
    let opened = bpf(config, pins.clone());
    match (opened, config.source.hook) {
        (Err(error), Hook::Fentry | Hook::Kprobe) => {
            tracing::warn!("source.hook cannot be as configured, others are tried: {}", message(&error));
            let mut config = config.clone();
            config.source.hook = Hook::Auto;
            bpf(&config, pins)
        }
        (opened, _) => opened,
    }
}

fn bpf(config: &Config, pins: Option<Place>) -> anyhow::Result<Opened> {
    let source = BpfSource::start(BpfOptions {
        kernel: KernelSideOptions { pins, ..kernel_side(config) },
        reconcile_every: config.source.reconcile_every,
        last_walk: (config.shutdown_timeout / 4).min(LAST_WALK),
        follows_on: config.state_dir.is_some(),
    })?;
    let report = source.report();
    if source.was_taken_over() {
        tracing::info!("the kernel programs of an earlier agent were taken over: {report}");
    } else {
        tell(&report);
    }
    let hooks = format!("{}:{}+{}", report.kind.name(), report.packet_way(), report.life.join("+"));
    let visits = match report.updates {
        _ if !config.wants(RecordEvent::Update) => Visits::Never,
        Updates::Packet => Visits::Quiet,
        Updates::Sweep => Visits::Always,
    };
    let programs = if source.was_taken_over() { Programs::TakenOver } else { Programs::Attached };
    let origin = Origin { since_ns: source.tells_since_ns(), programs };
    Ok(Opened { source: LiveSource::Bpf(Box::new(source)), origin, place: place("bpf", &hooks), visits })
}

/// What the configuration means for the kernel programs.
pub(super) fn kernel_side(config: &Config) -> KernelSideOptions {
    let source = &config.source;
    let slots = match source.slots {
        Slots::Count(slots) => slots,
        Slots::Auto => {
            limits::flows(limits::conntrack_max().unwrap_or(DEFAULT_MAX), netns::reachable_inodes().len())
        }
    };
    KernelSideOptions {
        hook: match source.hook {
            Hook::Auto => HookPreference::Auto,
            Hook::Fentry => HookPreference::Fentry,
            Hook::Kprobe => HookPreference::Kprobe,
        },
        slots,
        rings: RingSizes {
            updates: source.ring_bytes,
            ends: source.end_ring_bytes,
            ends_overflow: source.ends_overflow,
        },
        updates: match source.updates {
            config::Updates::Packet => Updates::Packet,
            config::Updates::Sweep => Updates::Sweep,
        },
        wanted: Wanted { new: config.wants(RecordEvent::New), update: config.wants(RecordEvent::Update) },
        pins: None,
        rate_curve: source
            .rate_curve
            .iter()
            .map(|step| RateStep { age: step.age, every: step.every })
            .collect(),
    }
}

fn tell(report: &HookReport) {
    for why in &report.passed_over {
        tracing::info!("not used: {why}");
    }
    match &report.proven {
        Ok(()) => tracing::info!("packets of a test namespace were each seen once: {report}"),
        Err(why) => tracing::warn!(
            "the hooks could not be proven ({why}): {report}. They are those that are right for packets which pass \
             conntrack; where the kernel calls another function for packets of flowtables, these speak only when \
             their flow is looked at or ends"
        ),
    }
}

fn netlink(config: &Config) -> anyhow::Result<Opened> {
    let options = NetlinkOptions {
        receive_buffer: config.source.netlink_buffer as usize,
        rate_curve: config.source.rate_curve.iter().map(|step| (step.age, step.every)).collect(),
        max_flows: config.flow.max_flows as usize,
        looks: if config.state_dir.is_some() { 2 } else { 0 },
        ..NetlinkOptions::default()
    };
    let since_ns = boot_ns();
    let source = NetlinkSource::start(options).map_err(|SourceError { what, cause }| {
        // By its type it could be a file that is replayed.
        cause.context(AskedOfKernel(what))
    })?;
    let source = LiveSource::Netlink(source);
    let origin = Origin { since_ns, programs: Programs::None };
    Ok(Opened { source, origin, place: place("netlink", "none"), visits: Visits::Never })
}

/// What the line `ready` tells.
fn place(source: &str, hooks: &str) -> String {
    format!("source={source} hooks={hooks} namespaces={}", netns::reachable_inodes().len())
}
