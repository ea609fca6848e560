//! Starts the drivers of sinks, each with its spool if it is to have one.

use super::consumer::boot_id;
use crate::config::SinkConfig;
use crate::pipeline::spool::Spool;
use crate::pipeline::{Handle, Sink, spawn_with};
use anyhow::Context as _;

/// Starts the driver of a sink as it is configured.
///
/// # Errors
/// When its spool cannot be used.
pub(super) fn start<S: Sink>(config: &SinkConfig, sink: S) -> anyhow::Result<Handle<S::Item>> {
    let SinkConfig { name, queue, delivery, kind, spool, .. } = config;
    let open = |spool| Spool::open(name, spool, kind.type_name(), boot_id()?).map_err(anyhow::Error::from);
    let spool = spool.as_ref().map(open).transpose();
    let spool = spool.with_context(|| format!("sinks.{name} cannot be used"))?;
    Ok(spawn_with(name, sink, queue, delivery, spool))
}
