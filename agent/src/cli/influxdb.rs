//! Opens a sink for InfluxDB: flows one by one, or their sums by groups.

use super::consumer::host;
use super::groups::Groups;
use super::spooling;
use crate::config::{Config, SinkConfig};
use crate::model::Record;
use crate::pipeline::{Folded, Inlet, Point, Status};
use crate::sinks::influxdb::{InfluxDb, Options, Series, Shape, Target, ToLine};
use anyhow::Context as _;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// Starts its driver.
pub(super) fn open(config: &Config, sink: &SinkConfig, options: &Options) -> anyhow::Result<Arc<dyn Inlet>> {
    let now = SystemTime::now();
    if let Target::Udp { address, .. } = &options.target {
        tracing::warn!(
            "sink {}: datagrams to {address} are not acknowledged: what is sent counts as delivered, and nobody knows \
             whether it arrived; use HTTP where that matters",
            sink.name
        );
    }
    match &options.shape {
        // A record has its own time.
        Shape::PerFlow => {
            tracing::warn!(
                "sink {}: per_flow writes a series for each flow, which no InfluxDB endures for long; write to a \
                 bucket with a short retention, or leave per_flow out",
                sink.name
            );
            let database = database::<Record>(sink, options, Duration::ZERO, now)?;
            Ok(Arc::new(spooling::start(sink, database)?))
        }
        Shape::Groups(aggregate) => {
            let since = now.duration_since(UNIX_EPOCH).unwrap_or_default().as_nanos();
            let now_ns = i64::try_from(since).unwrap_or(i64::MAX);
            let groups = Groups::open(config, &sink.name, aggregate, now_ns)?;
            let database = database::<Point>(sink, options, aggregate.interval, now)?;
            let handle = spooling::start_with(sink, database, config.state_dir.is_some())?;
            Ok(Arc::new(Folded::new(groups, handle, now_ns)))
        }
    }
}

/// The same database for what tells how complete the accounting is.
pub(super) fn status(sink: &SinkConfig, options: &Options) -> anyhow::Result<InfluxDb<Status>> {
    Ok(database(sink, options, Duration::ZERO, SystemTime::now())?.beside_another())
}

fn database<I: ToLine>(
    sink: &SinkConfig,
    options: &Options,
    interval: Duration,
    born: SystemTime,
) -> anyhow::Result<InfluxDb<I>> {
    let series = Series::new(&options.measurement, &host(), interval, born);
    InfluxDb::new(&sink.name, options, sink.delivery.timeout, series)
        .with_context(|| format!("sinks.{} cannot be used", sink.name))
}
