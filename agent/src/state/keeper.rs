//! Writes the state while an agent runs: each batch before it is handed on, what was written, and snapshots.

use std::io;
use std::time::{Duration, Instant};

use zerocopy::IntoBytes;

use super::Directory;
use super::copy::Copy;
use super::format::{AnchorRow, FileKind, Frame, FrameKind, Header};
use super::log::AppendOnly;
use super::row::{write_entry, write_record};
use crate::flow::{FlowTable, SavedFlow};
use crate::model::{Anchor, Backlog, NumberedBatch, Record};
use crate::source::Losses;

/// Records of a batch at most.
pub const BATCH_RECORDS: usize = 4096;

/// A log up to this size is kept whatever the size of the snapshot.
const LOG_BYTES: u64 = 64 << 20;

/// How often at most it is noted what the output has written. Later means that more is handed on again after a kill.
const NOTE_EVERY: Duration = Duration::from_millis(100);

/// How often at least: the last note tells until when an agent ran.
const NOTE_AT_LEAST_EVERY: Duration = Duration::from_secs(1);

/// When a directory that could not be written is tried again.
const TRY_AGAIN: Duration = Duration::from_secs(10);

/// Readings of the clock that are kept; of a clock that is stepped more often, the newest.
pub(super) const CLOCK_READINGS: usize = 128;

/// What a state begins with.
#[derive(Debug)]
pub struct Begin {
    /// The machine's boot.
    pub boot_id: [u8; 16],
    /// Since when each flow's birth is seen.
    pub accounting_since: Anchor,
    /// The number of the next batch.
    pub next_batch: u64,
    /// What the clocks showed around earlier steps.
    pub clock: Vec<Anchor>,
    /// Since when the source tells without a break, `CLOCK_BOOTTIME` nanoseconds: whichever agent reads what it told.
    pub source_since_ns: u64,
}

/// Keeps the state of a running agent.
#[derive(Debug)]
pub struct State {
    pub(super) directory: Directory,
    /// Of the present generation.
    pub(super) header: Header,
    /// `None` while the directory cannot be written.
    log: Option<AppendOnly>,
    /// The snapshot under way.
    pub(super) copy: Option<Copy>,
    snapshot_bytes: u64,
    next_batch: u64,
    clock: Vec<Anchor>,
    now: Anchor,
    /// Settled batches that were given back to the kernel.
    settled: u64,
    /// Those of them that the log need not be told of any more.
    settled_noted: u64,
    noted: u64,
    noted_at: Instant,
    pub(super) try_again: Option<Instant>,
    unkept: u64,
    buffer: Vec<u8>,
}

impl State {
    /// Begins to keep state. `unwritten` is what the agent before may not have written. What is in the directory
    /// stays until the first snapshot is whole. A directory that cannot be written is told of and tried again later.
    #[must_use]
    pub fn begin(directory: Directory, begin: Begin, table: &FlowTable, unwritten: &[NumberedBatch]) -> Self {
        let generation = directory.files().ok().and_then(|files| files.latest()).unwrap_or(0);
        let Begin { boot_id, accounting_since, next_batch, clock, source_since_ns } = begin;
        let mut state = Self {
            directory,
            header: Header { boot_id, accounting_since, generation, source_since_ns },
            log: None,
            copy: None,
            snapshot_bytes: 0,
            next_batch,
            clock,
            now: Anchor::now().unwrap_or(accounting_since),
            settled: 0,
            settled_noted: 0,
            noted: 0,
            noted_at: Instant::now(),
            try_again: None,
            unkept: 0,
            buffer: Vec::new(),
        };
        let begun = state.begin_generation(table, unwritten);
        state.survive(begun);
        state
    }

    /// Notes what the clocks show; to be called before each batch. `stepped`: the wall clock was set since the last
    /// call.
    pub fn note_clock(&mut self, now: Anchor, stepped: bool) {
        let before = std::mem::replace(&mut self.now, now);
        if !stepped {
            return;
        }
        self.clock.extend([before, now]);
        let surplus = self.clock.len().saturating_sub(CLOCK_READINGS);
        self.clock.drain(..surplus);
        self.buffer.clear();
        append_clock(&self.clock, now.boot_ns, &mut self.buffer);
        self.write_buffer();
    }

    /// Notes how many settled batches the table had taken in before the one that was read now; to be called before
    /// it takes that one in. Their room in the kernel's rings was given back.
    pub const fn note_settled(&mut self, batches: u64) {
        self.settled = batches;
    }

    /// Appends a batch of at most [`BATCH_RECORDS`] records, each with its flow as it was then; to be called before
    /// it is handed on. Returns its number.
    pub fn append(&mut self, records: &[Record], flows: &[SavedFlow]) -> u64 {
        let number = self.next_batch;
        self.next_batch += 1;
        let boot_ns = self.now.boot_ns;
        self.buffer.clear();
        let settled = self.settled.saturating_sub(self.settled_noted);
        if settled > 0 {
            Frame { kind: FrameKind::Settled, number: settled, boot_ns }.append(&mut self.buffer, |_| ());
            self.settled_noted = self.settled;
        }
        let frame = Frame { kind: FrameKind::Batch, number, boot_ns };
        frame.append(&mut self.buffer, |payload| {
            records.iter().zip(flows).for_each(|(record, flow)| write_entry(record, flow, payload));
        });
        if !self.write_buffer() {
            self.unkept += records.len() as u64;
        }
        number
    }

    /// Does what is due; to be called after each batch was handed on. Takes a few milliseconds at most.
    pub fn tick(&mut self, table: &FlowTable, backlog: &Backlog) {
        let done = if self.log.is_some() {
            self.note_written(backlog, NOTE_EVERY).and_then(|()| self.advance(table, backlog))
        } else {
            self.begin_again(table, backlog)
        };
        self.survive(done);
    }

    /// Notes the last that was written. What is still in the backlog is handed on by the next agent.
    pub fn finish(mut self, backlog: &Backlog) {
        self.now = Anchor::now().unwrap_or(self.now);
        let done = self.note_written(backlog, Duration::ZERO);
        self.survive(done);
    }

    /// What could not be kept, by reason.
    #[must_use]
    pub fn losses(&self) -> Losses {
        vec![("state_unkept", self.unkept)]
    }

    /// Begins a generation: a log with all that is not written, and a snapshot.
    pub(super) fn begin_generation(
        &mut self,
        table: &FlowTable,
        unwritten: &[NumberedBatch],
    ) -> io::Result<()> {
        self.header.generation += 1;
        let boot_ns = self.now.boot_ns;
        let written = unwritten.first().map_or(self.next_batch, |(number, _)| *number);
        let mut log = AppendOnly::new(self.directory.begin_log(self.header.generation)?);
        self.buffer.clear();
        self.buffer.extend(self.header.bytes(FileKind::Log));
        Frame { kind: FrameKind::Written, number: written, boot_ns }.append(&mut self.buffer, |_| ());
        append_clock(&self.clock, boot_ns, &mut self.buffer);
        log.append(&self.buffer)?;
        for (number, records) in unwritten {
            self.buffer.clear();
            let frame = Frame { kind: FrameKind::Carried, number: *number, boot_ns };
            frame.append(&mut self.buffer, |payload| {
                records.iter().for_each(|record| write_record(record, payload));
            });
            log.append(&self.buffer)?;
        }
        self.log = Some(log);
        (self.noted, self.settled_noted) = (written, self.settled);
        self.copy = Some(Copy::begin(&self.directory, &self.header)?);
        self.go_on_with_copy(table)
    }

    /// Notes what the output has written, if there is news or it is time.
    fn note_written(&mut self, backlog: &Backlog, every: Duration) -> io::Result<()> {
        let written = backlog.oldest().unwrap_or(self.next_batch);
        let since = self.noted_at.elapsed();
        let is_due = if written == self.noted { since >= NOTE_AT_LEAST_EVERY } else { since >= every };
        let Some(log) = self.log.as_mut().filter(|_| is_due || every.is_zero()) else { return Ok(()) };
        self.buffer.clear();
        let frame = Frame { kind: FrameKind::Written, number: written, boot_ns: self.now.boot_ns };
        frame.append(&mut self.buffer, |_| ());
        log.append(&self.buffer)?;
        (self.noted, self.noted_at) = (written, Instant::now());
        Ok(())
    }

    /// Goes on with the snapshot, or begins one when the log has become long.
    fn advance(&mut self, table: &FlowTable, backlog: &Backlog) -> io::Result<()> {
        if self.copy.is_some() {
            return self.go_on_with_copy(table);
        }
        let limit = LOG_BYTES.max(2 * self.snapshot_bytes);
        if self.log.as_ref().is_some_and(|log| log.bytes() > limit) {
            self.begin_generation(table, &backlog.batches())?;
        }
        Ok(())
    }

    fn go_on_with_copy(&mut self, table: &FlowTable) -> io::Result<()> {
        let Some(copy) = &mut self.copy else { return Ok(()) };
        let whole = copy.go_on(&self.directory, table, self.now.boot_ns, &mut self.buffer)?;
        if let Some(bytes) = whole {
            self.snapshot_bytes = bytes;
            self.copy = None;
            self.tell_if_mended();
        }
        Ok(())
    }

    fn begin_again(&mut self, table: &FlowTable, backlog: &Backlog) -> io::Result<()> {
        if self.try_again.is_some_and(|at| Instant::now() < at) {
            return Ok(());
        }
        self.begin_generation(table, &backlog.batches())
    }

    fn tell_if_mended(&mut self) {
        if self.try_again.take().is_some() {
            tracing::warn!("the state in {} is kept again", self.directory.path().display());
        }
    }

    /// Appends the buffer to the log. Returns whether it is there now.
    fn write_buffer(&mut self) -> bool {
        let written = self.log.as_mut().map(|log| log.append(&self.buffer));
        let is_written = matches!(written, Some(Ok(())));
        self.survive(written.unwrap_or(Ok(())));
        is_written
    }

    /// After an error nothing may be left that a later agent would take for the latest.
    pub(super) fn survive(&mut self, done: io::Result<()>) {
        let Err(error) = done else { return };
        (self.log, self.copy) = (None, None);
        let is_first = self.try_again.replace(Instant::now() + TRY_AGAIN).is_none();
        let marked = self.directory.mark_unkept();
        let cleared = self.directory.clear();
        // There may be room now.
        let marked = marked.or_else(|_| self.directory.mark_unkept());
        let place = self.directory.path().display();
        if is_first {
            tracing::error!(
                "cannot keep the state in {place} ({error}): the agent goes on without; until it is kept again, what \
                 a killed agent did not write is lost, and flows are billed anew from their first sight"
            );
        }
        if let Err(error) = marked {
            tracing::error!(
                "it cannot be marked in {place} that something is not kept ({error}): the next agent may take its \
                 accounting for complete"
            );
        }
        if let Err(error) = cleared {
            tracing::error!(
                "what is left in {place} is out of date and cannot be removed ({error}): remove it before the next \
                 start, or flows are billed twice"
            );
        }
    }
}

fn append_clock(clock: &[Anchor], boot_ns: u64, out: &mut Vec<u8>) {
    Frame { kind: FrameKind::Clock, number: 0, boot_ns }.append(out, |payload| {
        clock.iter().for_each(|reading| payload.extend_from_slice(AnchorRow::from(*reading).as_bytes()));
    });
}
