//! Starts the drivers of sinks, each with its spool if it is to have one.

use super::consumer::boot_id;
use crate::config::{Config, SinkConfig};
use crate::pipeline::spool::Spool;
use crate::pipeline::{Handle, Sink, spawn_with};
use anyhow::Context as _;
use std::fs;
use std::path::{Path, PathBuf};

/// Starts the driver of a sink as it is configured.
///
/// # Errors
/// When its spool cannot be used.
pub(super) fn start<S: Sink>(config: &SinkConfig, sink: S) -> anyhow::Result<Handle<S::Item>> {
    start_with(config, sink, false)
}

/// The same; `in_sets`: its items are made of many records at a time, which an agent after this one may be told of again.
///
/// # Errors
/// When its spool cannot be used.
pub(super) fn start_with<S: Sink>(
    config: &SinkConfig,
    sink: S,
    in_sets: bool,
) -> anyhow::Result<Handle<S::Item>> {
    let SinkConfig { name, queue, delivery, kind, spool, .. } = config;
    let open =
        |spool| Spool::open(name, spool, kind.type_name(), boot_id()?, in_sets).map_err(anyhow::Error::from);
    let spool = spool.as_ref().map(open).transpose();
    let spool = spool.with_context(|| format!("sinks.{name} cannot be used"))?;
    if let (Some(spool), Some(target)) = (&spool, kind.target()) {
        spool.note_target(&target);
    }
    Ok(spawn_with(name, sink, queue, delivery, spool))
}

/// Says in which spools below the state directory requests wait for a sink that is there no more: else nobody would
/// know that they are not delivered.
pub(super) fn tell_of_abandoned(config: &Config) {
    let Some(spools) = config.state_dir.as_ref().map(|state| state.join("spool")) else { return };
    let used: Vec<&Path> =
        config.sinks.iter().filter_map(|sink| Some(sink.spool.as_ref()?.dir.as_path())).collect();
    for (dir, bytes) in abandoned(&spools, &used) {
        tracing::error!(
            "{}: {bytes} bytes of requests wait there, and no sink delivers them; configure the sink of that name again \
             with when_full = \"spool\", or remove the directory",
            dir.display()
        );
    }
}

/// Spools that hold requests and that nobody uses, with their bytes.
fn abandoned(spools: &Path, used: &[&Path]) -> Vec<(PathBuf, u64)> {
    let dirs = fs::read_dir(spools).into_iter().flatten().flatten().map(|entry| entry.path());
    let mut found: Vec<_> = dirs
        .filter(|dir| !used.contains(&dir.as_path()))
        .map(|dir| (segment_bytes(&dir), dir))
        .filter_map(|(bytes, dir)| (bytes > 0).then_some((dir, bytes)))
        .collect();
    found.sort();
    found
}

fn segment_bytes(dir: &Path) -> u64 {
    let files = fs::read_dir(dir).into_iter().flatten().flatten();
    let segments = files.filter(|file| file.file_name().to_string_lossy().starts_with("segment."));
    segments.filter_map(|file| Some(file.metadata().ok()?.len())).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spools_with_requests_that_no_sink_has_are_found() {
        let state = tempfile::tempdir().unwrap();
        for (name, file, text) in [
            ("used", "segment.0", "12345"),
            ("left", "segment.7", "123"),
            ("left", "segment.9", "45"),
            ("empty", "lock", "77"),
        ] {
            let dir = state.path().join(name);
            fs::create_dir_all(&dir).unwrap();
            fs::write(dir.join(file), text).unwrap();
        }
        let used = state.path().join("used");
        assert_eq!(abandoned(state.path(), &[used.as_path()]), [(state.path().join("left"), 5)]);
        assert!(abandoned(&state.path().join("none"), &[]).is_empty());
    }
}
