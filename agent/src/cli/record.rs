//! `conntally record`: a source into a file, for `replay`.

use super::args::Cli;
use super::consumer::boot_id;
use super::deadline::Deadline;
use super::loss_watch::{LossWatch, list};
use super::machine::Machine;
use super::pump::{Flow, drain, pump};
use super::readiness::Readiness;
use super::run::{announce_end, conntrack_awaited, until_stopped};
use super::settings;
use super::signals::Stop;
use super::sources::{self, LiveSource, Opened};
use crate::config::{Config, Updates};
use crate::model::Anchor;
use crate::source::replay::RecordingWriter;
use crate::source::replay::format::Header;
use crate::source::{Batch, Losses, Source};
use anyhow::{Context, ensure};
use nix::unistd::{AccessFlags, access};
use std::fs::{File, OpenOptions};
use std::io::{self, BufWriter};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::process::ExitCode;

/// Records until a signal comes.
pub(super) fn run(cli: &Cli, file: &Path) -> anyhow::Result<ExitCode> {
    let config = settings::start(cli)?;
    until_stopped(async |stop| record(&config, file, stop).await)
}

async fn record(config: &Config, file: &Path, mut stop: Stop) -> anyhow::Result<()> {
    let cannot = || format!("cannot record to {}", file.display());
    refuse_unwritable(file).with_context(cannot)?;
    ensure!(
        config.source.updates == Updates::Packet,
        "cannot record with source.updates = \"sweep\": flows are visited when a flow table finds them due, and a recording \
         is made without one; use `--updates packet`"
    );
    if let Some(signal) = conntrack_awaited(&mut stop).await {
        tracing::info!("nothing was recorded: {signal} came before conntrack was loaded");
        return Ok(());
    }
    let machine = Machine::prepare(config)?;
    let Opened { mut source, place, .. } = sources::open(config, None)?;
    let since = Anchor::now().context("cannot read the clocks")?;
    let header = Header { boot_id: boot_id()?, accounting_since: since };
    // Last: a start that fails must not leave an empty file, which the next one would refuse to overwrite.
    let mut recorder = Recorder::new(create(file).with_context(cannot)?, &header);
    let mut readiness = Readiness::new(config, place);
    let mut loss_watch = LossWatch::default();
    let deliver = async |source: &mut LiveSource, batch: &Batch| {
        loss_watch.look(|| source.losses());
        let flow = recorder.write(batch);
        readiness.note(batch);
        flow
    };
    let failure = pump(&mut source, stop.requested(), deliver).await;
    let failure = failure.map(announce_end);
    let mut deadline = Deadline::new(config.shutdown_timeout);
    let draining = drain(&mut source, async |_, batch| recorder.write(batch));
    let drained = deadline.step("draining the source", draining).await;
    let losses = source.losses();
    drop(source);
    let restored = tokio::task::spawn_blocking(move || machine.restore());
    let _ = deadline.step("restoring what was changed on the machine", restored).await;

    let records = recorder.finish();
    log_account(records.as_ref().copied().unwrap_or(0), losses);
    records.with_context(cannot)?;
    failure.context("the source failed")?;
    drained.transpose().context("what was under way is lost")?;
    deadline.verdict(config.shutdown_timeout)
}

/// Says what is in the recording, and what is missing.
fn log_account(observations: u64, mut losses: Losses) {
    losses.retain(|(_, count)| *count > 0);
    if losses.is_empty() {
        tracing::info!(observations, "account: nothing was lost");
    } else {
        tracing::warn!(observations, "account: lost {}", list(&losses));
    }
}

/// A file that is there, or whose folder takes none: told before anything is changed for it. [`create`] decides.
fn refuse_unwritable(file: &Path) -> io::Result<()> {
    if file.symlink_metadata().is_ok() {
        return Err(io::Error::from_raw_os_error(libc::EEXIST));
    }
    let folder = file.parent().unwrap_or(Path::new("/"));
    // The dot makes it a folder, also where the name has none before it.
    access(&Path::new(folder).join("."), AccessFlags::W_OK | AccessFlags::X_OK)?;
    Ok(())
}

/// A new file, and never one that is there already. It tells who talked to whom: readable by its owner alone.
fn create(file: &Path) -> io::Result<BufWriter<File>> {
    OpenOptions::new().write(true).create_new(true).mode(0o600).open(file).map(BufWriter::new)
}

/// Writes until something fails, and remembers what.
struct Recorder {
    writer: io::Result<RecordingWriter<BufWriter<File>>>,
}

impl Recorder {
    fn new(out: BufWriter<File>, header: &Header) -> Self {
        Self { writer: RecordingWriter::new(out, header) }
    }

    fn write(&mut self, batch: &Batch) -> Flow {
        let Ok(writer) = &mut self.writer else { return Flow::Break("the recording cannot be written") };
        if batch.observations.is_empty() && !batch.settled && batch.look.is_none() {
            return Flow::Continue(());
        }
        match Anchor::now().and_then(|now| writer.write(batch, now)) {
            Ok(()) => Flow::Continue(()),
            Err(error) => {
                self.writer = Err(error);
                Flow::Break("the recording cannot be written")
            }
        }
    }

    /// Ends the file; tells how many observations are in it.
    fn finish(self) -> io::Result<u64> {
        let writer = self.writer?;
        let records = writer.records();
        let out = writer.finish()?;
        out.into_inner().map_err(io::IntoInnerError::into_error)?.sync_all()?;
        Ok(records)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_that_takes_no_file_is_refused_at_once() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("a.rec");
        refuse_unwritable(&file).unwrap();
        refuse_unwritable(Path::new("no-such-file-here.rec")).unwrap();
        std::fs::write(&file, "").unwrap();
        let code = |file: &Path| refuse_unwritable(file).unwrap_err().raw_os_error();
        assert_eq!(code(&file), Some(libc::EEXIST));
        assert_eq!(code(Path::new("/nonexist/x")), Some(libc::ENOENT));
        assert_eq!(code(&file.join("x")), Some(libc::ENOTDIR));
    }
}
