//! `conntally run`: a source, the flow table and standard output, from the first observation to the last record.

use super::account::Account;
use super::args::Cli;
use super::consumer::{self, Consumer};
use super::deadline::Deadline;
use super::machine::Machine;
use super::outlets::{Outlets, Pace};
use super::pump::{Ended, Flow, drain, pump};
use super::readiness::Readiness;
use super::service::Pulse;
use super::signals::{self, Stop};
use super::source_report::SourceReport;
use super::sources::{self, LiveSource, Opened};
use super::{logging, replay, resume, service, settings};
use crate::config::{Config, SourceKind};
use crate::kernel::bpf::pins::Place;
use crate::kernel::module;
use crate::source::{Batch, Source};
use anyhow::Context;
use std::process::ExitCode;
use std::time::Duration;

/// Runs the agent until a signal comes, or until the reader of the output has gone.
pub(super) fn run(cli: &Cli) -> anyhow::Result<ExitCode> {
    let config = settings::start(cli)?;
    until_stopped(async |stop| match config.source.kind {
        SourceKind::Replay => replay::replay(&config, stop).await,
        _ => agent(&config, stop).await,
    })
}

/// Runs a command that works until it is done or a signal comes.
pub(super) fn until_stopped(work: impl AsyncFnOnce(Stop) -> anyhow::Result<()>) -> anyhow::Result<ExitCode> {
    // Before the runtime has threads.
    let stop = signals::watch().context("cannot watch for signals")?;
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
    let runtime = runtime.context("cannot start the runtime")?;
    let result = runtime.block_on(work(stop));
    // A write that nobody reads must not hold the process.
    runtime.shutdown_background();
    result.map(|()| ExitCode::SUCCESS)
}

/// Says that everything is in place.
pub(super) fn announce(config: &Config, place: &str) {
    logging::ready(&config.log, place);
    service::ready();
}

/// Says why the main loop ended.
pub(super) fn announce_end(ended: Ended) {
    service::stopping();
    if let Ended::Stopped(reason) = ended {
        tracing::info!("shutting down: {reason}");
    }
}

async fn agent(config: &Config, mut stop: Stop) -> anyhow::Result<()> {
    if let Some(signal) = conntrack_awaited(&mut stop).await {
        tracing::info!("nothing was accounted: {signal} came before conntrack was loaded");
        return Ok(());
    }
    let legacy = resume::read(config)?;
    let machine = Machine::prepare(config)?;
    let fed_since_ns = legacy.as_ref().and_then(|legacy| legacy.fed_since_ns);
    let pins = config.state_dir.as_deref().map(|path| Place::of(path).fed_since(fed_since_ns));
    let Opened { mut source, origin, place, visits } = sources::open(config, pins)?;
    let sink = Outlets::open(config, Pace::Live)?;
    let mut consumer = match legacy {
        Some(legacy) => {
            let resumed = legacy.take_over(config, origin, visits).await?;
            Consumer::resumed(resumed, config, &place, &sink)?
        }
        None => Consumer::live(config, &place, visits)?,
    };
    consumer.report_to(sink.reporters());
    let mut readiness = Readiness::new(config, place);
    let mut pulse = Pulse::as_asked();

    let asked = async {
        tokio::select! {
            signal = stop.requested() => signal,
            why = consumer::closed(&sink) => why,
        }
    };
    let deliver = async |source: &mut LiveSource, batch: &Batch| {
        let flow = consumer.take(batch, &sink);
        readiness.note(batch);
        pulse.beat();
        consumer.tell_losses(|| source.losses(), &sink);
        consumer.audit(|| SourceReport::of(source), &sink);
        consumer.visit_due(source);
        flow
    };
    let ended = pump(&mut source, asked, deliver).await;
    let failure = ended.map(announce_end);
    shut_down(source, consumer, sink, machine, config).await?;
    failure.context("the source failed")
}

/// Loads conntrack, or waits until somebody does; returns the signal that ended the wait.
pub(super) async fn conntrack_awaited(stop: &mut Stop) -> Option<&'static str> {
    if module::is_present() {
        return None;
    }
    match module::load() {
        Ok(()) => {
            tracing::info!("loaded the module nf_conntrack");
            return None;
        }
        Err(error) => tracing::warn!(
            "nf_conntrack is not loaded and cannot be loaded ({error}): waiting until it is; `modprobe nf_conntrack`, or \
             a firewall rule that uses `ct state`, loads it"
        ),
    }
    let present = async {
        while !module::is_present() {
            tokio::time::sleep(Duration::from_secs(1)).await;
        }
    };
    tokio::select! {
        () = present => None,
        signal = stop.requested() => Some(signal),
    }
}

/// Ends everything in the order of the data, under one deadline.
async fn shut_down(
    mut source: LiveSource,
    mut consumer: Consumer,
    sink: Outlets,
    machine: Machine,
    config: &Config,
) -> anyhow::Result<()> {
    let mut deadline = Deadline::new(config.shutdown_timeout);
    // Also when nobody wants the records any more: the account tells of all that the kernel counted.
    let draining = drain(&mut source, async |_, batch| {
        let _ = consumer.take(batch, &sink);
        Flow::Continue(())
    });
    let drained = deadline.step("draining the source", draining).await;
    let told = SourceReport::of(&source);
    drop(source);
    let restored = tokio::task::spawn_blocking(move || machine.restore());
    let (tally, backlog, reporters) = (sink.tally(), sink.backlog(), sink.reporters());
    let report = deadline.step(sink.finishing(), sink.finish(async {})).await;
    let report = report.unwrap_or_else(|| tally.report());
    // A panic in it was reported; it must not hide the account.
    let _ = deadline.step("restoring what was changed on the machine", restored).await;

    let losses = told.losses.clone();
    let table = consumer.finish(told, &report, &backlog);
    Account::new(table, losses, &report).log();
    deadline.offer(reporters.finish()).await;
    deadline.verdict(config.shutdown_timeout)?;
    drained.transpose().context("what was under way is lost")?;
    report.error.map_or(Ok(()), |error| Err(error).context("cannot write the output"))
}
