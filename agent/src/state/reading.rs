//! Reads the files of the state, whatever they hold.

use std::collections::{BTreeMap, VecDeque};
use std::fs::{self, File, OpenOptions};
use std::io::{self, BufReader};
use std::path::Path;

use foldhash::quality::RandomState;
use hashbrown::HashSet;
use zerocopy::FromBytes;

use super::format::{AnchorRow, FileKind, Frame, FrameKind, HEADER_BYTES, Header, HeaderError, VERSION};
use super::past::{Damage, Flows, Found, MISSING, Past};
use super::reader::{FrameReader, Next};
use super::row::{FLOW_BYTES, read_entries, read_flows};
use super::{Directory, StateError};
use crate::flow::{LATE_BATCHES, SavedFlow};
use crate::model::{Anchor, FlowId, Record};

/// Bytes that are read at once.
const BUFFER: usize = 1 << 18;

/// Flows for which there is room from the start, at most.
const RESERVED: usize = 1 << 20;

/// Damages that are told of.
const TOLD: usize = 32;

/// Under which damages are counted.
const DAMAGED: &str = "state_damaged";

/// The generation with which a directory begins. Its agent starts without a flow, so that its snapshot is whole before
/// its first batch.
const FIRST: u64 = 1;

/// Reads what there is. What this version does not understand is set aside; what a killed agent was just writing is cut
/// off.
pub(super) fn read(directory: &Directory) -> Result<Found, StateError> {
    let failed = |cause| StateError::Directory {
        what: "cannot read the state in",
        path: directory.path().to_path_buf(),
        cause,
    };
    match read_files(directory).map_err(failed)? {
        Outcome::Nothing if directory.is_unkept() => {
            tracing::warn!(
                "{} holds no state although an agent ran with it, which could not keep or not read it: how much was \
                 not billed since is not known",
                directory.path().display()
            );
            Ok(Found { past: None, losses: vec![(MISSING, 1)] })
        }
        Outcome::Nothing => Ok(Found::default()),
        Outcome::Past(past, damages) => Ok(Found { past: Some(*past), losses: vec![(DAMAGED, damages)] }),
        Outcome::Unreadable(damage, damages) => {
            directory.set_aside("damaged").map_err(failed)?;
            tracing::error!(
                "the state in {} cannot be read ({}): it was set aside as *.damaged, and flows are billed from now on",
                directory.path().display(),
                damage.first().map(ToString::to_string).unwrap_or_default()
            );
            Ok(Found { past: None, losses: vec![(DAMAGED, damages.max(1))] })
        }
        Outcome::Version(version) => {
            directory.set_aside(&format!("version{version}")).map_err(failed)?;
            tracing::warn!(
                "the state in {} has version {version} and this is version {VERSION}: it was set aside as \
                 *.version{version}, and flows are billed from now on",
                directory.path().display()
            );
            Ok(Found { past: None, losses: vec![("state_set_aside", 1)] })
        }
    }
}

enum Outcome {
    Nothing,
    /// With the number of damages.
    Past(Box<Past>, u64),
    Version(u16),
    /// Likewise.
    Unreadable(Vec<Damage>, u64),
}

fn read_files(directory: &Directory) -> io::Result<Outcome> {
    let files = directory.files()?;
    if files.latest().is_none() {
        return Ok(Outcome::Nothing);
    }
    let base = files.snapshots.last().copied();
    let logs: Vec<u64> =
        files.logs.iter().copied().filter(|&log| base.is_none_or(|base| log >= base)).collect();
    if base.is_none() && logs == [FIRST] && is_only_begun(&directory.place(FileKind::Log, FIRST))? {
        fs::remove_file(directory.place(FileKind::Log, FIRST))?;
        return Ok(Outcome::Nothing);
    }
    let mut reading = Reading::default();
    if let Some(base) = base {
        reading.snapshot(&directory.place(FileKind::Snapshot, base))?;
    } else {
        reading.note(directory.path(), 0, "has no whole snapshot");
    }
    let mut expected = base.or(logs.first().copied()).unwrap_or(0);
    for (place, log) in logs.iter().enumerate() {
        let path = directory.place(FileKind::Log, *log);
        if *log != expected {
            reading.note(&path, 0, "lacks its predecessor");
        }
        reading.log(&path, place + 1 == logs.len())?;
        expected = log.saturating_add(1);
    }
    if logs.is_empty() {
        reading.note(directory.path(), 0, "has no log");
    }
    Ok(reading.finish())
}

/// Since when the source tells of which the latest log is, if it is of this boot.
pub(super) fn latest_source(directory: &Directory, boot_id: [u8; 16]) -> io::Result<Option<u64>> {
    for log in directory.files()?.logs.iter().rev() {
        let file = File::open(directory.place(FileKind::Log, *log))?;
        if let (_, Ok(header)) = FrameReader::open(file, FileKind::Log)? {
            return Ok((header.boot_id == boot_id).then_some(header.source_since_ns));
        }
    }
    Ok(None)
}

/// Whether no batch is in the log and none was ever handed on: its agent died at its start.
fn is_only_begun(log: &Path) -> io::Result<bool> {
    if is_headless(log)? {
        return Ok(true);
    }
    let (mut reader, header) = FrameReader::open(BufReader::new(File::open(log)?), FileKind::Log)?;
    if header.is_err() {
        return Ok(false);
    }
    loop {
        match reader.next()? {
            Next::Frame(frame) if matches!(frame.kind, FrameKind::Written | FrameKind::Clock) => {}
            next => return Ok(matches!(next, Next::Torn | Next::End)),
        }
    }
}

/// Whether the agent died before anything was written to the file.
fn is_headless(file: &Path) -> io::Result<bool> {
    Ok(file.metadata()?.len() < HEADER_BYTES as u64)
}

/// Leaves of a log what was written whole: soon it is not the last one, and then an end within a batch is damage.
fn cut(log: &Path, whole: u64) {
    let cut = OpenOptions::new().write(true).open(log).and_then(|file| file.set_len(whole));
    tell_if_uncut(log, cut);
}

fn tell_if_uncut(log: &Path, cut: io::Result<()>) {
    if let Err(error) = cut {
        tracing::warn!(
            "{} cannot be cut to what was written whole ({error}): if this agent is killed before its first snapshot \
             is whole, the next one counts it as damaged",
            log.display()
        );
    }
}

/// What was read so far.
#[derive(Default)]
struct Reading {
    /// The latest.
    header: Option<Header>,
    has_several_sources: bool,
    version: Option<u16>,
    until_boot_ns: u64,
    flows: Flows,
    /// Settled batches that were given back, over all agents.
    settled: u64,
    /// With how many those were when the end was told, ascending.
    ended: VecDeque<(u64, SavedFlow)>,
    unwritten: BTreeMap<u64, Vec<Record>>,
    written: u64,
    next_batch: u64,
    clock: Vec<Anchor>,
    /// The first.
    damage: Vec<Damage>,
    damages: u64,
}

impl Reading {
    fn note(&mut self, file: &Path, offset: u64, what: &'static str) {
        self.damages += 1;
        if self.damage.len() < TOLD {
            self.damage.push(Damage { file: file.to_path_buf(), offset, what });
        }
    }

    fn snapshot(&mut self, path: &Path) -> io::Result<()> {
        let Some(mut reader) = self.open(path, FileKind::Snapshot)? else { return Ok(()) };
        // As many as the file has room for; a file may claim to be longer than it is.
        let bytes = usize::try_from(path.metadata()?.len()).unwrap_or(0);
        self.flows.reserve((bytes / FLOW_BYTES).min(RESERVED));
        let mut expected = 0;
        let mut is_whole = false;
        while let Some(frame) = self.next(&mut reader, path, false)? {
            if frame.number != expected {
                self.note(path, reader.offset(), "lacks a part before");
            }
            is_whole = frame.kind == FrameKind::End;
            if frame.kind == FrameKind::Flows {
                expected = frame.number.saturating_add(self.take_flows(reader.payload(), path));
            }
        }
        if !is_whole {
            self.note(path, reader.offset(), "has no end");
        }
        Ok(())
    }

    fn log(&mut self, path: &Path, is_last: bool) -> io::Result<()> {
        if is_last && self.header.is_some() && is_headless(path)? {
            // All is in the one before.
            tell_if_uncut(path, fs::remove_file(path));
            return Ok(());
        }
        let Some(mut reader) = self.open(path, FileKind::Log)? else { return Ok(()) };
        while let Some(frame) = self.next(&mut reader, path, is_last)? {
            self.until_boot_ns = self.until_boot_ns.max(frame.boot_ns);
            match frame.kind {
                FrameKind::Batch => self.take_batch(frame.number, reader.payload(), path, true),
                FrameKind::Carried => self.take_batch(frame.number, reader.payload(), path, false),
                FrameKind::Written => self.take_written(frame.number),
                FrameKind::Clock => self.take_clock(reader.payload()),
                FrameKind::Settled => self.take_settled(frame.number),
                FrameKind::Flows | FrameKind::End => {
                    self.note(path, reader.offset(), "holds what a log has not")
                }
            }
        }
        Ok(())
    }

    /// Opens a file. `None` where it cannot be read or is of no use.
    fn open(&mut self, path: &Path, kind: FileKind) -> io::Result<Option<FrameReader<BufReader<File>>>> {
        let (reader, header) = FrameReader::open(BufReader::with_capacity(BUFFER, File::open(path)?), kind)?;
        match (header, self.header) {
            (Err(HeaderError::Damaged), _) => self.note(path, 0, "has a damaged header"),
            (Err(HeaderError::Version(version)), _) => self.version = Some(version),
            // A start after a reboot that did not get far.
            (Ok(header), Some(first)) if header.boot_id != first.boot_id => {}
            (Ok(header), first) => {
                self.has_several_sources |=
                    first.is_some_and(|first| first.source_since_ns != header.source_since_ns);
                self.header = Some(header);
                return Ok(Some(reader));
            }
        }
        Ok(None)
    }

    /// The next whole frame. A frame that was not written to its end is only possible where the agent stopped.
    fn next<R: io::Read>(
        &mut self,
        reader: &mut FrameReader<R>,
        path: &Path,
        may_be_torn: bool,
    ) -> io::Result<Option<Frame>> {
        loop {
            let offset = reader.offset();
            match reader.next()? {
                Next::Frame(frame) => return Ok(Some(frame)),
                Next::DamagedPayload => self.note(path, offset, "is damaged"),
                Next::Torn if may_be_torn => {
                    tracing::info!(
                        "{} ends within a batch that was never handed on (byte {offset}); it is left out",
                        path.display()
                    );
                    cut(path, offset);
                    return Ok(None);
                }
                Next::Torn | Next::Damaged => {
                    self.note(path, offset, "is damaged to its end");
                    return Ok(None);
                }
                Next::End => return Ok(None),
            }
        }
    }

    /// Returns how many places for flows there are.
    fn take_flows(&mut self, payload: &[u8], path: &Path) -> u64 {
        let mut count = 0;
        for flow in read_flows(payload) {
            count += 1;
            match flow {
                Some(flow) if flow.ended => self.ended.push_back((self.settled, flow)),
                Some(flow) => drop(self.flows.insert(flow.flow_id, flow)),
                None => self.note(path, 0, "holds a flow that cannot be"),
            }
        }
        count
    }

    fn take_batch(&mut self, number: u64, payload: &[u8], path: &Path, has_flows: bool) {
        let mut records = Vec::new();
        for entry in read_entries(payload) {
            let Some((record, flow)) = entry else {
                self.note(path, 0, "holds a record that cannot be");
                continue;
            };
            records.push(record);
            if has_flows {
                self.take_flow(flow);
            }
        }
        self.next_batch = self.next_batch.max(number.saturating_add(1));
        if number >= self.written {
            self.unwritten.insert(number, records);
        }
    }

    fn take_flow(&mut self, flow: SavedFlow) {
        if flow.ended {
            self.flows.remove(&flow.flow_id);
            self.ended.push_back((self.settled, flow));
        } else {
            self.flows.insert(flow.flow_id, flow);
        }
    }

    /// Forgets what the agent's flow table had forgotten by then, too: nothing of it can come again.
    fn take_settled(&mut self, batches: u64) {
        self.settled = self.settled.saturating_add(batches);
        while self.ended.front().is_some_and(|(at, _)| at.saturating_add(LATE_BATCHES) <= self.settled) {
            self.ended.pop_front();
        }
    }

    fn take_written(&mut self, below: u64) {
        self.written = self.written.max(below);
        self.next_batch = self.next_batch.max(below);
        self.unwritten = self.unwritten.split_off(&self.written);
    }

    fn take_clock(&mut self, payload: &[u8]) {
        let readings = payload.chunks(size_of::<AnchorRow>());
        let readings = readings.filter_map(|bytes| AnchorRow::read_from_bytes(bytes).ok());
        self.clock = readings.map(Anchor::from).collect();
    }

    fn finish(self) -> Outcome {
        if let Some(version) = self.version {
            return Outcome::Version(version);
        }
        let Some(header) = self.header else { return Outcome::Unreadable(self.damage, self.damages) };
        // What ended while a snapshot was written may be in both files.
        let mut known: HashSet<FlowId, RandomState> = HashSet::default();
        let ended = self.ended.into_iter().map(|(_, flow)| flow);
        let past = Past {
            boot_id: header.boot_id,
            accounting_since: header.accounting_since,
            until_boot_ns: self.until_boot_ns,
            source_since_ns: (!self.has_several_sources).then_some(header.source_since_ns),
            flows: self.flows,
            ended: ended.filter(|flow| known.insert(flow.flow_id)).collect(),
            unwritten: self.unwritten,
            next_batch: self.next_batch,
            clock: self.clock,
            damage: self.damage,
        };
        Outcome::Past(Box::new(past), self.damages)
    }
}
