//! Opens a sink for InfluxDB: flows one by one, or their sums by groups.

use super::consumer::host;
use super::groups::Groups;
use crate::config::{Config, QueueConfig, SinkConfig, WhenFull};
use crate::model::Record;
use crate::pipeline::{Folded, Handle, Inlet, Point, Status, spawn};
use crate::sinks::influxdb::{InfluxDb, Options, Series, Shape, Target, ToLine};
use anyhow::Context as _;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// Later figures replace earlier ones that wait.
const STATUS_QUEUE: QueueConfig = QueueConfig { records: 1_024, when_full: WhenFull::Coalesce };

/// Starts its driver.
pub(super) fn open(config: &Config, sink: &SinkConfig, options: &Options) -> anyhow::Result<Arc<dyn Inlet>> {
    let now = SystemTime::now();
    match &options.shape {
        // A record has its own time.
        Shape::PerFlow => {
            tracing::warn!(
                "sink {}: per_flow writes a series for each flow, which no InfluxDB endures for long; write to a \
                 bucket with a short retention, or leave per_flow out",
                sink.name
            );
            let database = database::<Record>(sink, options, Duration::ZERO, now)?;
            Ok(Arc::new(spawn(&sink.name, database, &sink.queue, &sink.delivery)))
        }
        Shape::Groups(aggregate) => {
            let since = now.duration_since(UNIX_EPOCH).unwrap_or_default().as_nanos();
            let now_ns = i64::try_from(since).unwrap_or(i64::MAX);
            let groups = Groups::open(config, &sink.name, aggregate, now_ns)?;
            let database = database::<Point>(sink, options, aggregate.interval, now)?;
            let handle = spawn(&sink.name, database, &sink.queue, &sink.delivery);
            Ok(Arc::new(Folded::new(groups, handle, now_ns)))
        }
    }
}

/// Starts the driver of its status, if it is to get any.
pub(super) fn open_status(sink: &SinkConfig, options: &Options) -> anyhow::Result<Option<Handle<Status>>> {
    if !options.status {
        return Ok(None);
    }
    // Bucket or database are the business of the other driver.
    let mut options = options.clone();
    if let Target::Two { create, .. } | Target::One { create, .. } = &mut options.target {
        *create = false;
    }
    let database = database::<Status>(sink, &options, Duration::ZERO, SystemTime::now())?;
    let name = format!("{}.status", sink.name);
    Ok(Some(spawn(&name, database, &STATUS_QUEUE, &sink.delivery)))
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
