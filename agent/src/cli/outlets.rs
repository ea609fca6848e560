//! Where records go: to all configured sinks, or to standard output where there are none.

use super::consumer::stdio;
use super::fanout::{Fanout, FanoutTally};
use super::filtering::networks;
use super::reporters::Reporters;
use crate::config::{Config, Stream};
use crate::model::{Backlog, Record, Records};
use crate::pipeline::Offered;
use crate::sinks::stdio::SinkHandle;
use crate::sinks::tally::{SinkReport, Tally};
use std::sync::Arc;

/// Who has to wait when records come faster than they are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Pace {
    /// Nobody: the kernel does not wait either.
    Live,
    /// The source.
    OfReader,
}

/// Everything that records are handed to.
#[derive(Debug)]
pub(super) enum Outlets {
    /// `[output]`
    Output(SinkHandle),
    /// `[sinks]`
    Sinks(Fanout),
}

/// Their counters, which outlive them.
#[derive(Debug)]
pub(super) enum OutletsTally {
    Output(Arc<Tally>),
    Sinks(FanoutTally),
}

impl Outlets {
    /// Starts all of them.
    ///
    /// # Errors
    /// When one cannot be started as it is configured.
    pub(super) fn open(config: &Config, pace: Pace) -> anyhow::Result<Self> {
        if config.sinks.is_empty() {
            return Ok(Self::Output(stdio(
                Stream::Stdout,
                config.output.format,
                config.output.queue_records,
                networks(config)?,
            )));
        }
        Fanout::open(config, pace).map(Self::Sinks)
    }

    /// Hands over what there is room for. Never waits. `number` is by what [`Outlets::backlog`] knows the batch.
    pub(super) fn offer(&self, number: u64, records: Records) -> Offered {
        match self {
            Self::Output(sink) => sink.offer(number, records),
            Self::Sinks(sinks) => sinks.offer(number, &records),
        }
    }

    /// Tells of the flows that live already, by records that bring nothing; before any other.
    pub(super) fn meet(&self, living: impl Iterator<Item = Record>) {
        if let Self::Sinks(sinks) = self {
            sinks.meet(living);
        }
    }

    /// Hands over a batch that an earlier agent may not have written, before any new one. Never waits, and leaves to new
    /// ones the room that they have. When nothing can be written any more, it stays in the backlog.
    pub(super) fn admit(&self, number: u64, records: Records) {
        if records.is_empty() {
            return;
        }
        match self {
            Self::Output(sink) => drop(sink.admit(number, records)),
            Self::Sinks(sinks) => sinks.admit(number, &records),
        }
    }

    /// Memory for the next batch: that of one which was written, if there is any.
    pub(super) fn spare(&self) -> Vec<Record> {
        match self {
            Self::Output(sink) => sink.spare(),
            Self::Sinks(sinks) => sinks.spare(),
        }
    }

    /// Hands over all of a batch, as soon as there is room where the pace is the reader's. Cancel safe.
    pub(super) async fn send(&self, number: u64, records: Records) -> Offered {
        match self {
            Self::Output(sink) => sink.send(number, records).await,
            Self::Sinks(sinks) => sinks.send(number, &records).await,
        }
    }

    /// Tells the time, nanoseconds of the wall clock; to be called after each batch, also when it was empty.
    pub(super) fn tick(&self, now_ns: i64) {
        if let Self::Sinks(sinks) = self {
            sinks.tick(now_ns);
        }
    }

    /// Waits until nothing can be written any more.
    pub(super) async fn closed(&self) {
        match self {
            Self::Output(sink) => sink.closed().await,
            Self::Sinks(sinks) => sinks.closed().await,
        }
    }

    /// The ways to those that want to know how complete the accounting is.
    pub(super) fn reporters(&self) -> Reporters {
        match self {
            Self::Output(_) => Reporters::default(),
            Self::Sinks(sinks) => sinks.reporters(),
        }
    }

    pub(super) fn tally(&self) -> OutletsTally {
        match self {
            Self::Output(sink) => OutletsTally::Output(sink.tally()),
            Self::Sinks(sinks) => OutletsTally::Sinks(sinks.tally()),
        }
    }

    /// What is not written everywhere.
    pub(super) fn backlog(&self) -> Arc<Backlog> {
        match self {
            Self::Output(sink) => sink.backlog(),
            Self::Sinks(sinks) => sinks.backlog(),
        }
    }

    /// What [`Outlets::finish`] does.
    pub(super) const fn finishing(&self) -> &'static str {
        match self {
            Self::Output(_) => "writing the output",
            Self::Sinks(_) => "delivering to the sinks",
        }
    }

    /// Ends the input, waits until all of it is written, and tells what was done. Who has a spool may leave the rest there
    /// some time after `hurry`.
    pub(super) async fn finish(self, hurry: impl Future<Output = ()>) -> SinkReport {
        match self {
            Self::Output(sink) => sink.finish().await,
            Self::Sinks(sinks) => sinks.finish(hurry).await,
        }
    }
}

impl OutletsTally {
    /// What was done until now.
    pub(super) fn report(&self) -> SinkReport {
        match self {
            Self::Output(tally) => tally.report(),
            Self::Sinks(tally) => tally.report(),
        }
    }
}
