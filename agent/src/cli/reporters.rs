//! Tells the sinks how complete the accounting is.

use super::consumer::host;
use crate::audit::Statement;
use crate::config::{QueueConfig, SinkConfig, WhenFull};
use crate::model::Sum;
use crate::pipeline::{Handle, Items, Sink, Stated, Status, Trouble, Whole, spawn_beside};
use crate::sinks::elasticsearch::{self, Elasticsearch, StatusSink};
use crate::sinks::influxdb;
use anyhow::Context as _;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

/// The ways to all sinks that want to know. Each has a driver of its own, so that no record waits for a status.
#[derive(Clone, Debug, Default)]
pub(super) struct Reporters(Vec<Handle<Status>>);

/// Later figures replace earlier ones that wait.
const QUEUE: QueueConfig = QueueConfig { records: 1_024, when_full: WhenFull::Coalesce };

/// Starts the driver by which a database is told, if that is wanted; `trouble` is that of its records.
pub(super) fn influxdb(
    sink: &SinkConfig,
    options: &influxdb::Options,
    trouble: &Arc<Trouble>,
) -> anyhow::Result<Option<Handle<Status>>> {
    if !options.status {
        return Ok(None);
    }
    Ok(Some(start(sink, super::influxdb::status(sink, options)?, trouble)))
}

/// The way by which a cluster is told, if that is wanted.
pub(super) fn elasticsearch(
    sink: &SinkConfig,
    options: &elasticsearch::Options,
    cluster: &Elasticsearch,
) -> anyhow::Result<Option<StatusSink>> {
    if !options.status {
        return Ok(None);
    }
    let told = cluster.status(options, sink.delivery.timeout, host());
    told.map(Some).with_context(|| format!("sinks.{} cannot be used", sink.name))
}

/// Starts a driver for it.
pub(super) fn start(
    sink: &SinkConfig,
    told: impl Sink<Item = Status>,
    trouble: &Arc<Trouble>,
) -> Handle<Status> {
    spawn_beside(&format!("{}.status", sink.name), told, &QUEUE, &sink.delivery, trouble)
}

impl Reporters {
    pub(super) fn new(handles: Vec<Handle<Status>>) -> Self {
        Self(handles)
    }

    /// Tells what was so at `real_ns` of the wall clock. Never waits.
    pub(super) fn tell(&self, statement: &Statement, live_flows: usize, real_ns: i64) {
        if self.0.is_empty() {
            return;
        }
        let told: Items<Status> = Arc::new(statuses(statement, live_flows, real_ns));
        for handle in &self.0 {
            // What has no room is made good for by the next one.
            let _ = handle.offer(0, &told);
        }
    }

    /// Waits until all of it is delivered: nothing more comes.
    pub(super) async fn finish(self) {
        for handle in &self.0 {
            handle.close();
            handle.hurry(Duration::ZERO);
        }
        for handle in &self.0 {
            handle.ended().await;
        }
    }
}

fn statuses(statement: &Statement, live_flows: usize, real_ns: i64) -> Vec<Status> {
    let whole = Whole {
        counted: statement.counted(),
        delivered: statement.delivered,
        not_yet_due: statement.not_yet_due,
        filtered: statement.filtered,
        lost: statement.lost_sum(),
        doubts: statement.doubts.len() as u64,
        live_flows: live_flows as u64,
    };
    let losses = losses(statement).into_iter();
    let losses = losses.map(|(reason, (lost, unknown))| Stated::Loss { reason, lost, unknown });
    let waiting = statement.waiting.iter().map(|(sink, waiting)| Stated::Waiting { sink, waiting: *waiting });
    let all = std::iter::once(Stated::Whole(whole)).chain(losses).chain(waiting);
    all.map(|stated| Status { real_ns, stated }).collect()
}

/// Each reason once, whether its amount is known or not.
fn losses(statement: &Statement) -> BTreeMap<&'static str, (Sum, u64)> {
    let mut all = BTreeMap::<_, (Sum, u64)>::new();
    for (reason, lost) in statement.lost.iter().chain(statement.sinks.iter().flatten()) {
        all.entry(*reason).or_default().0 += *lost;
    }
    for (reason, times) in &statement.doubts {
        all.entry(*reason).or_default().1 += times;
    }
    all
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::audit::{Auditor, Evidence};
    use crate::model::Waiting;

    #[test]
    fn each_reason_and_each_sink_is_told_once_with_what_is_known() {
        let sum = Sum { flows: 1, packets: 2, bytes: 300 };
        let waiting = Waiting { records: 3, moved: sum, oldest: Duration::from_secs(4) };
        let evidence = Evidence {
            dropped: sum,
            sinks: vec![vec![("archive.queue_full", sum), ("archive.given_up", Sum::default())]],
            doubts: vec![("hook_skipped", 7)],
            waiting: vec![("archive", waiting), ("live", Waiting::default())],
            ..Evidence::default()
        };
        let told = statuses(&Auditor::default().audit(&evidence), 5, 10);
        assert!(told.iter().all(|status| status.real_ns == 10));
        let Stated::Whole(whole) = told[0].stated else { panic!("{told:?}") };
        assert_eq!((whole.live_flows, whole.doubts, whole.lost), (5, 1, sum + sum));
        let losses: Vec<_> = told[1..].iter().map(|status| status.stated).collect();
        let loss = |reason, lost, unknown| Stated::Loss { reason, lost, unknown };
        let expected = [
            loss("archive.queue_full", sum, 0),
            loss("hook_skipped", Sum::default(), 7),
            loss("output_queue_full", sum, 0),
            Stated::Waiting { sink: "archive", waiting },
            // Nothing is told, too: else what waited before would seem to wait for ever.
            Stated::Waiting { sink: "live", waiting: Waiting::default() },
        ];
        assert_eq!(losses, expected);
    }
}
