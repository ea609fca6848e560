//! `conntally replay`: a recording, the flow table and standard output.

use super::account::Account;
use super::consumer::{self, Consumer};
use super::deadline::Deadline;
use super::outlets::{Outlets, Pace};
use super::pump::pump;
use super::run::{announce, announce_end};
use super::signals::Stop;
use super::source_report::SourceReport;
use crate::config::Config;
use crate::source::Source;
use crate::source::replay::ReplaySource;
use anyhow::{Context, ensure};
use std::pin::pin;
use std::time::Duration;

/// Longer than this nobody waits without being told for what.
const TOLD_AFTER: Duration = Duration::from_secs(1);

/// Reads the recording as fast as the output takes it.
pub(super) async fn replay(config: &Config, mut stop: Stop) -> anyhow::Result<()> {
    let file = config.source.replay.as_deref().context("source.replay names no recording")?;
    let mut source = ReplaySource::open(file)?;
    let header = *source.header();
    let mut consumer = Consumer::new(config, header.boot_id, header.accounting_since)?;
    let sink = Outlets::open(config, Pace::OfReader)?;
    consumer.report_to(sink.reporters());
    announce(config, &format!("source=replay file={}", file.display()));

    let asked = async {
        tokio::select! {
            signal = stop.requested() => signal,
            why = consumer::closed(&sink) => why,
        }
    };
    let failure = pump(&mut source, asked, async |source, batch| {
        // The clocks of the machine that recorded, not this one's.
        consumer.replay(batch, source.anchor(), &sink).await
    });
    let failure = failure.await.map(announce_end);

    let (tally, backlog, reporters) = (sink.tally(), sink.backlog(), sink.reporters());
    let (finishing, mut told) = (sink.finishing(), stop.clone());
    let mut finish = pin!(sink.finish(async move {
        told.requested().await;
    }));
    // The readers may take their time, unless somebody asks to stop.
    let unasked = tokio::select! {
        report = &mut finish => Some(report),
        _ = stop.requested() => None,
        () = tell_of_waiting(finishing) => None,
    };
    let mut deadline = Deadline::new(config.shutdown_timeout);
    let report = match unasked {
        Some(report) => report,
        None => deadline.step(finishing, finish).await.unwrap_or_else(|| tally.report()),
    };
    let table = consumer.finish(SourceReport::of(&source), &report, &backlog);
    Account::new(table, source.losses(), &report).log();
    deadline.offer(reporters.finish()).await;
    failure.context("the recording cannot be read")?;
    deadline.verdict(config.shutdown_timeout)?;
    report.error.map_or(Ok(()), |error| Err(error).context("cannot write the output"))?;
    ensure!(!source.is_damaged(), "{} is damaged; what could be read was replayed", file.display());
    Ok(())
}

/// Never ends.
async fn tell_of_waiting(finishing: &str) {
    tokio::time::sleep(TOLD_AFTER).await;
    tracing::info!(
        "the recording was read to its end; {finishing} goes on until all is out or a signal asks to stop"
    );
    std::future::pending().await
}
