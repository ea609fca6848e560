//! `[sinks.NAME] spool`: requests on disk.

use super::Choice;
use super::reader::Section;
use super::sinks::{SinkConfig, WhenFull};
use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};

const SEGMENT_BYTES: RangeInclusive<u64> = 1 << 20..=4 << 30;
const SPOOL_BYTES: RangeInclusive<u64> = 2 << 20..=1 << 44;

/// Requests on disk.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SpoolConfig {
    /// The directory; no other sink and no other process may use it.
    pub dir: PathBuf,
    /// Bytes of all its files at most.
    pub max_bytes: u64,
    /// When what is written is brought to the disk.
    pub fsync: Fsync,
    /// Bytes of a file at most; a single request may have more.
    pub segment_bytes: u64,
}

impl SpoolConfig {
    /// A spool in this directory, all else as it is by default.
    #[must_use]
    pub const fn in_dir(dir: PathBuf) -> Self {
        Self { dir, max_bytes: 1 << 30, fsync: Fsync::Interval, segment_bytes: 64 << 20 }
    }
}

/// When what is written to a spool is brought to the disk. It concerns a loss of power, not the end of the agent.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Fsync {
    /// When the system sees fit.
    Never,
    /// Within about a second.
    #[default]
    Interval,
    /// Each request, before the next one.
    Always,
}

impl Choice for Fsync {
    const ALL: &'static [(&'static str, Self)] =
        &[("never", Self::Never), ("interval", Self::Interval), ("always", Self::Always)];
}

/// The keys of the spool of the sink of this name, which is there if `when_full` wants it. By default it lies below the
/// state directory.
pub(super) fn read(name: &str, section: &mut Section<'_>, state_dir: Option<&Path>) -> Option<SpoolConfig> {
    let is_wanted = section.peek("when_full").and_then(WhenFull::from_name) == Some(WhenFull::Spool);
    let place = section.place("spool");
    let own_dir = state_dir.map(|state| state.join("spool").join(name));
    let config = section.section("spool", |inner| keys(inner, own_dir.unwrap_or_default()));
    match place {
        Some(place) if !is_wanted => {
            section.problem("spool", &place, "means nothing without when_full = \"spool\"");
        }
        place if is_wanted && config.dir.as_os_str().is_empty() => {
            if let Some(place) = place.or_else(|| section.place("when_full")) {
                let help =
                    "needs a directory for requests: set spool.dir, or state_dir, below which it then lies";
                section.problem("spool", &place, help);
            }
        }
        _ => {}
    }
    is_wanted.then_some(config)
}

fn keys(section: &mut Section<'_>, own_dir: PathBuf) -> SpoolConfig {
    let dir = section.path("dir");
    let is_relative = dir.as_ref().is_some_and(|dir| !dir.is_absolute());
    if let Some(place) = section.place("dir").filter(|_| is_relative) {
        section.problem("dir", &place, "is not absolute; begin it with /");
    }
    let default = SpoolConfig::in_dir(dir.unwrap_or(own_dir));
    let segment_bytes = section.large_size("segment_bytes", default.segment_bytes, SEGMENT_BYTES);
    let max_bytes = section.large_size("max_bytes", default.max_bytes, SPOOL_BYTES);
    if max_bytes < segment_bytes.saturating_mul(2)
        && let Some(place) = section.place("max_bytes").or_else(|| section.place("segment_bytes"))
    {
        section.problem("max_bytes", &place, "must hold two segments; raise it, or lower segment_bytes");
    }
    SpoolConfig { max_bytes, segment_bytes, fsync: section.choice("fsync", default.fsync), ..default }
}

/// Notes that two would read each other's files, or that a request might be larger than all of the spool.
pub(super) fn check(
    sink: &SinkConfig,
    state_dir: Option<&Path>,
    others: &mut Vec<(PathBuf, String)>,
    section: &mut Section<'_>,
) {
    let Some(SpoolConfig { dir, max_bytes, .. }) = &sink.spool else { return };
    if *max_bytes < 2 * u64::from(sink.delivery.batch_bytes)
        && let Some(place) = section.place("spool")
    {
        section.problem(
            "spool",
            &place,
            "has to hold two requests: raise its max_bytes, or lower batch_bytes",
        );
    }
    if state_dir == Some(dir)
        && let Some(place) = section.place("spool")
    {
        section.problem("spool", &place, "has the directory of state_dir; give it its own");
    }
    if let Some((_, other)) = others.iter().find(|(used, _)| used == dir)
        && let Some(place) = section.place("spool")
    {
        section.problem("spool", &place, format!("has the directory of sinks.{other}; give it its own"));
    }
    others.push((dir.clone(), sink.name.clone()));
}
