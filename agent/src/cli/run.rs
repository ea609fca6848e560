//! `conntally run`: a source, the flow table and standard output, from the first observation to the last record.

use super::account::Account;
use super::accounting::Accounting;
use super::args::Cli;
use super::consumer::{self, Consumer};
use super::deadline::Deadline;
use super::pump::{Ended, drain, pump};
use super::signals::{self, Stop};
use super::sources::{self, Opened};
use super::{logging, settings};
use crate::config::Config;
use crate::sinks::stdout::SinkHandle;
use crate::source::{Batch, Source};
use anyhow::Context;
use sd_notify::NotifyState;
use std::process::ExitCode;

/// Runs the agent until a signal comes, or until the reader of the output has gone.
pub(super) fn run(cli: &Cli) -> anyhow::Result<ExitCode> {
    let config = settings::start(cli)?;
    let stop = signals::watch().context("cannot watch for signals")?;
    let runtime = runtime()?;
    let result = runtime.block_on(agent(&config, stop));
    // A write that nobody reads must not hold the process.
    runtime.shutdown_background();
    result
}

/// The runtime of every command that works until it is stopped.
pub(super) fn runtime() -> anyhow::Result<tokio::runtime::Runtime> {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
    runtime.context("cannot start the runtime")
}

/// Tells the service manager, if there is one.
pub(super) fn notify(state: NotifyState<'_>) {
    if let Err(error) = sd_notify::notify(false, &[state]) {
        tracing::debug!("cannot notify the service manager: {error}");
    }
}

async fn agent(config: &Config, stop: Stop) -> anyhow::Result<ExitCode> {
    // Before the source: a flow that begins while accounting is off is never counted.
    let accounting = Accounting::begin(config);
    match sources::open(config) {
        Ok(Opened::Netlink(source, place)) => serve(source, &place, config, stop, accounting).await,
        Err(error) => {
            accounting.end();
            Err(error)
        }
    }
}

async fn serve<S: Source>(
    mut source: S,
    place: &str,
    config: &Config,
    mut stop: Stop,
    accounting: Accounting,
) -> anyhow::Result<ExitCode> {
    let mut consumer = Consumer::live(config)?;
    let sink = consumer::sink(config);
    logging::ready(&config.log, place);
    notify(NotifyState::Ready);

    let asked = async {
        tokio::select! {
            signal = stop.requested() => signal,
            () = sink.closed() => "the reader of the output has gone",
        }
    };
    let ended = pump(&mut source, asked, async |batch: &Batch| consumer.take(batch, &sink)).await;
    notify(NotifyState::Stopping);
    if let Ok(Ended::Stopped(reason)) = &ended {
        tracing::info!("shutting down: {reason}");
    }
    shut_down(source, consumer, sink, config, accounting).await?;
    ended.context("the source failed")?;
    Ok(ExitCode::SUCCESS)
}

/// Ends everything in the order of the data, under one deadline.
async fn shut_down<S: Source>(
    mut source: S,
    mut consumer: Consumer,
    sink: SinkHandle,
    config: &Config,
    accounting: Accounting,
) -> anyhow::Result<()> {
    let mut deadline = Deadline::new(config.shutdown_timeout);
    let draining = drain(&mut source, async |batch: &Batch| consumer.take(batch, &sink));
    let drained = deadline.step("draining the source", draining).await;
    let source_losses = source.losses();
    drop(source);
    let put_back = tokio::task::spawn_blocking(move || accounting.end());
    let report = deadline.step("writing the output", sink.finish()).await;
    // A panic in it was reported; it must not hide the account.
    let _ = deadline.step("turning accounting off again", put_back).await;

    let account = Account::new(consumer.finish(), source_losses, report.as_ref());
    account.log();
    deadline.verdict(config.shutdown_timeout)?;
    drained.transpose().context("what was under way is lost")?;
    report
        .and_then(|report| report.error)
        .map_or(Ok(()), |error| Err(error).context("cannot write the output"))
}
