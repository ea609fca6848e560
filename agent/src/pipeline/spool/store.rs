//! The spool itself: requests are appended behind, taken out in front, and removed when they are done.

use std::collections::VecDeque;
use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::thread;

use super::error::{Refused, SpoolError};
use super::format::{FrameHead, HEADER_BYTES, Header, Mark, sink_type};
use super::recovery::{Found, name, recover};
use super::seal::{Seal, SealFile};
use super::segment::{Damaged, Segment, Taken, Ticket};
use super::unsynced::{Unsynced, begin_to_sync};
use crate::config::{Fsync, SpoolConfig};
use crate::folder::{self, Refusal};
use crate::pipeline::{Request, Weight};

/// What fewer bytes took is free sooner than a thread is started.
const FREED_AT_ONCE: u64 = 1 << 20;

/// A spool that no other process uses. Its calls wait for the disk.
#[derive(Debug)]
pub struct Store {
    config: SpoolConfig,
    /// Locked as long as it is open.
    _lock: File,
    boot_id: [u8; 16],
    sink_type: [u8; 16],
    segments: VecDeque<Segment>,
    /// Whether requests are appended to the last segment.
    is_writing: bool,
    next_sequence: u64,
    /// Of all segments.
    bytes: u64,
    /// Something was written to the last segment, or to the note of what is whole, that need not be on the disk yet.
    is_unsynced: bool,
    /// What was written before that.
    unsynced: Unsynced,
    damaged: Damaged,
    found: Recovered,
    /// Up to where sets are whole; `None` where each request stands for itself.
    sets: Option<(SealFile, Seal)>,
}

/// What an earlier process has left.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Recovered {
    /// Requests that wait.
    pub requests: u64,
    /// What they weigh.
    pub weight: Weight,
    /// Bytes of their segments.
    pub bytes: u64,
    /// What is lost for certain: requests whose headers alone can be read.
    pub damaged: Weight,
    /// Requests that are lost, and nobody knows what was in them.
    pub missing: u64,
    /// The request, or the set, that was being written when the process was killed: it was never taken in.
    pub torn: Weight,
}

impl Store {
    /// Makes or opens the directory, for a sink of this type on a machine of this boot, and counts what is there.
    ///
    /// # Errors
    /// When it cannot be used, another process uses it, or it holds what another type of sink has written.
    pub fn open(config: &SpoolConfig, sink: &str, boot_id: [u8; 16]) -> Result<Self, SpoolError> {
        let path = config.dir.clone();
        let failed = |what, cause| SpoolError::Directory { what, path: path.clone(), cause };
        let lock = folder::lock(&config.dir).map_err(|refusal| match refusal {
            Refusal::Make(cause) => failed("cannot make the spool", cause),
            Refusal::Open(cause) => failed("cannot open the lock file of", cause),
            Refusal::Lock(cause) => failed("cannot lock", cause),
            Refusal::InUse(by) => SpoolError::InUse { path: path.clone(), by },
        })?;
        let Found { segments, next_sequence, damaged, missing, torn } = recover(&config.dir, boot_id, sink)?;
        let bytes: u64 = segments.iter().map(|segment| segment.bytes).sum();
        let requests = segments.iter().map(|segment| segment.waiting as u64).sum();
        let weight = total(segments.iter().map(|segment| segment.waiting_weight));
        let mut store = Self {
            config: config.clone(),
            _lock: lock,
            boot_id,
            sink_type: sink_type(sink),
            segments,
            is_writing: false,
            next_sequence,
            bytes,
            is_unsynced: false,
            unsynced: Unsynced::default(),
            damaged: Damaged::default(),
            found: Recovered { requests, weight, bytes, damaged, missing, torn },
            sets: None,
        };
        store.remove_finished();
        Ok(store)
    }

    /// From now on requests make up sets: none is taken out before [`Store::seal`] said that its set is whole. What an
    /// earlier process has left of a set that is not whole was never taken in, and is removed.
    ///
    /// # Errors
    /// When the directory cannot be read or written.
    pub fn keep_sets(&mut self) -> io::Result<()> {
        let (file, seal) = SealFile::open(&self.config.dir)?;
        let seal = match seal {
            Some(seal) => {
                self.cut_from(seal.next)?;
                // Behind a set that is whole nothing is missing but what was lost; an empty spool has counted anew.
                if !self.segments.is_empty() {
                    let missing = seal.next.saturating_sub(self.next_sequence);
                    self.found.missing = self.found.missing.saturating_add(missing);
                }
                self.next_sequence = seal.next;
                seal
            }
            None => Seal { next: self.next_sequence, through: None },
        };
        file.write(seal)?;
        self.sets = Some((file, seal));
        Ok(())
    }

    /// From now on each request stands for itself.
    ///
    /// # Errors
    /// When what an earlier process has noted of its sets cannot be removed.
    pub fn forget_sets(&mut self) -> io::Result<()> {
        self.sets = None;
        SealFile::remove(&self.config.dir)
    }

    /// The number of the last batch that is in whole sets with all before it, as [`Store::seal`] was told.
    #[must_use]
    pub fn sealed_through(&self) -> Option<u64> {
        self.sets.as_ref().and_then(|(_, seal)| seal.through)
    }

    /// All that was appended until now makes up whole sets. They hold all that was handed in up to the batch of this
    /// number; without one nothing more is known of that than before.
    ///
    /// # Errors
    /// When that cannot be noted: then a process that is started after a kill takes the last sets for not whole.
    pub fn seal(&mut self, through: Option<u64>) -> io::Result<()> {
        let next = self.next_sequence;
        let Some((file, seal)) = &mut self.sets else { return Ok(()) };
        *seal = Seal { next, through: through.or(seal.through) };
        file.write(*seal)?;
        match self.config.fsync {
            Fsync::Always => file.sync(),
            Fsync::Interval => {
                self.is_unsynced = true;
                Ok(())
            }
            Fsync::Never => Ok(()),
        }
    }

    /// Where it is.
    #[must_use]
    pub fn dir(&self) -> &Path {
        &self.config.dir
    }

    /// What was there when it was opened.
    #[must_use]
    pub const fn recovered(&self) -> Recovered {
        self.found
    }

    /// What could not be read any more when it was to be taken out, since this was asked last.
    pub fn take_damaged(&mut self) -> Damaged {
        std::mem::take(&mut self.damaged)
    }

    /// Bytes of all its files.
    #[must_use]
    pub const fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Whether nothing waits and nothing is under way.
    #[must_use]
    pub fn is_idle(&self) -> bool {
        self.segments.iter().all(Segment::is_finished)
    }

    /// Appends a request that has items.
    ///
    /// # Errors
    /// When there is no room or it cannot be written. Then nothing of it is there.
    pub fn append(&mut self, request: &Request) -> Result<(), Refused> {
        let (head, table) = FrameHead::of(request, self.next_sequence).ok_or(Refused::TooLarge)?;
        if head.frame_bytes() + HEADER_BYTES as u64 > self.config.max_bytes {
            return Err(Refused::TooLarge);
        }
        if let Err(refused) = self.make_room(head.frame_bytes()) {
            self.let_go();
            return Err(refused);
        }
        let (before, mut written) = match self.segment_for(head.frame_bytes()) {
            Ok(segment) => (segment.bytes, segment.append(&head, &request.body, &table)),
            Err(error) => {
                self.let_go();
                return Err(error.into());
            }
        };
        if written.is_ok() && self.config.fsync == Fsync::Always {
            written = self.sync();
        }
        if let Err(error) = written {
            self.take_back(before);
            self.let_go();
            return Err(error.into());
        }
        self.bytes += head.frame_bytes();
        self.next_sequence += 1;
        self.is_unsynced = self.config.fsync == Fsync::Interval;
        if let Some(segment) = self.segments.back_mut() {
            segment.count(head.weight);
            if self.is_unsynced {
                begin_to_sync(&segment.file(), &(before..segment.bytes));
            }
        }
        Ok(())
    }

    /// Takes out the oldest request that waits, and notes that it is begun.
    ///
    /// # Errors
    /// When the disk does not say what is there: it stays, and may be readable later.
    pub fn take(&mut self) -> io::Result<Option<(Ticket, Request)>> {
        let limit = self.sets.as_ref().map(|(_, seal)| seal.next);
        loop {
            let waiting = self.segments.iter_mut().find(|segment| segment.waiting > 0);
            let Some(segment) = waiting else { return Ok(None) };
            match segment.take(limit)? {
                Taken::Held => return Ok(None),
                Taken::Request(taken) => {
                    // If this fails, a restart knows less; the server still gets it once.
                    let _ = taken.0.note(Mark::Begun);
                    return Ok(Some(*taken));
                }
                Taken::Damaged(damaged) => {
                    tracing::error!(
                        records = damaged.weight.records,
                        "{}: a request is damaged and cannot be delivered",
                        segment.path.display()
                    );
                    self.damaged += damaged;
                    self.remove_finished();
                }
            }
        }
    }

    /// Notes that each item of a request is stored or given up.
    ///
    /// # Errors
    /// When that cannot be noted: then it is delivered again after a restart.
    pub fn done(&mut self, ticket: Ticket) -> io::Result<()> {
        let noted = ticket.note(Mark::Done);
        let place = self.segments.binary_search_by_key(&ticket.segment, |segment| segment.number);
        if let Some(segment) = place.ok().and_then(|place| self.segments.get_mut(place)) {
            segment.under_way = segment.under_way.saturating_sub(1);
        }
        // It holds the file, too.
        drop(ticket);
        self.remove_finished();
        noted
    }

    /// Sees to it that all that was written is on the disk.
    ///
    /// # Errors
    /// When the system says that it is not.
    pub fn sync(&mut self) -> io::Result<()> {
        self.written().sync()
    }

    /// What may have been written since it was synced: the requests, then up to where they are whole.
    fn written(&mut self) -> Unsynced {
        self.is_unsynced = false;
        let mut unsynced = std::mem::take(&mut self.unsynced);
        let segment = self.segments.back().filter(|_| self.is_writing).map(Segment::file);
        let seal = self.sets.as_ref().map(|(seal, _)| seal.file());
        segment.into_iter().chain(seal).for_each(|file| unsynced.add_content(file));
        unsynced
    }

    /// Whether something was written that the policy wants on the disk within an interval.
    #[must_use]
    pub const fn is_unsynced(&self) -> bool {
        self.is_unsynced || !self.unsynced.is_empty()
    }

    /// What that is, to be synced without holding up others.
    #[must_use]
    pub fn take_unsynced(&mut self) -> Unsynced {
        if self.is_unsynced() { self.written() } else { Unsynced::default() }
    }

    /// Ends the use of it: what waits stays for the next process.
    ///
    /// # Errors
    /// When that is not known to be on the disk.
    pub fn close(&mut self) -> io::Result<()> {
        let synced = if self.config.fsync == Fsync::Never { Ok(()) } else { self.sync() };
        self.is_writing = false;
        self.remove_finished();
        synced
    }

    /// A set that fills all of the spool is taken out before it is whole: else nothing would ever go on.
    fn let_go(&mut self) {
        let Some((_, Seal { next, .. })) = self.sets else { return };
        let is_under_way = self.segments.iter().any(|segment| segment.under_way > 0);
        let first_waiting = self.segments.iter().find(|segment| segment.waiting > 0);
        if !is_under_way && first_waiting.is_some_and(|segment| segment.holds_back(next)) {
            // Where it cannot be noted it goes on nevertheless.
            let _ = self.seal(None);
        }
    }

    /// Removes the requests from this sequence number on.
    fn cut_from(&mut self, sequence: u64) -> io::Result<()> {
        let mut cut = Weight::default();
        while let Some(last) = self.segments.back_mut().filter(|last| last.number >= sequence) {
            cut += last.waiting_weight;
            self.remove_last();
        }
        if let Some(last) = self.segments.back_mut() {
            cut += last.cut_from(sequence)?;
        }
        self.bytes = self.segments.iter().map(|segment| segment.bytes).sum();
        self.found.requests = self.segments.iter().map(|segment| segment.waiting as u64).sum();
        self.found.weight = total(self.segments.iter().map(|segment| segment.waiting_weight));
        self.found.bytes = self.bytes;
        self.found.torn += cut;
        Ok(())
    }

    /// Removes what is in the way of so many bytes.
    fn make_room(&mut self, bytes: u64) -> Result<(), Refused> {
        if self.bytes + bytes <= self.config.max_bytes {
            return Ok(());
        }
        // All of the segment that is being written may be done.
        if self.segments.back().is_some_and(Segment::is_finished) {
            self.is_writing = false;
            self.remove_finished();
        }
        if self.bytes + bytes <= self.config.max_bytes { Ok(()) } else { Err(Refused::Full) }
    }

    /// The segment to which so many bytes are to be appended.
    fn segment_for(&mut self, bytes: u64) -> io::Result<&mut Segment> {
        let is_full = |segment: &Segment| {
            segment.bytes > HEADER_BYTES as u64 && segment.bytes + bytes > self.config.segment_bytes
        };
        if self.segments.back().is_none_or(is_full) || !self.is_writing {
            self.begin_segment()?;
        }
        self.segments.back_mut().ok_or_else(|| io::Error::other("there is no segment"))
    }

    fn begin_segment(&mut self) -> io::Result<()> {
        if self.is_writing && self.config.fsync == Fsync::Interval {
            let full = self.segments.back().map(Segment::file);
            full.into_iter().for_each(|file| self.unsynced.add_content(file));
        }
        self.is_writing = false;
        self.remove_finished();
        let header =
            Header { boot_id: self.boot_id, first_sequence: self.next_sequence, sink_type: self.sink_type };
        // One of the same name is empty: nothing was appended since.
        if self.segments.back().is_some_and(|segment| segment.number == self.next_sequence) {
            self.remove_last();
        }
        let segment = Segment::begin(self.place(self.next_sequence), &header)?;
        // The name is to be on the disk, too.
        let named = match self.config.fsync {
            Fsync::Always => File::open(&self.config.dir).and_then(|dir| dir.sync_all()),
            Fsync::Interval => self.unsynced.add_names(&self.config.dir),
            Fsync::Never => Ok(()),
        };
        if let Err(error) = named {
            remove(&segment.path);
            return Err(error);
        }
        self.bytes += segment.bytes;
        self.segments.push_back(segment);
        self.is_writing = true;
        Ok(())
    }

    /// Cuts off what was not written to its end. Where that fails, nothing is appended behind it.
    fn take_back(&mut self, bytes: u64) {
        let cut = self.segments.back_mut().map(|segment| segment.cut(bytes));
        self.is_writing = matches!(cut, Some(Ok(())));
    }

    fn remove_last(&mut self) {
        if let Some(last) = self.segments.pop_back() {
            remove(&last.path);
            self.unsynced.forget(&last.file());
            self.bytes = self.bytes.saturating_sub(last.bytes);
        }
    }

    /// Removes segments that nobody needs any more, the oldest first.
    fn remove_finished(&mut self) {
        while let Some(first) = self.segments.front().filter(|segment| segment.is_finished()) {
            if self.is_writing && self.segments.len() == 1 {
                return;
            }
            remove(&first.path);
            self.bytes = self.bytes.saturating_sub(first.bytes);
            if let Some(first) = self.segments.pop_front() {
                self.unsynced.forget(&first.file());
                let_go_of(first);
            }
        }
    }

    fn place(&self, number: u64) -> PathBuf {
        self.config.dir.join(name(number))
    }
}

fn remove(path: &Path) {
    if let Err(error) = fs::remove_file(path) {
        tracing::warn!("cannot remove {}: {error}", path.display());
    }
}

/// The system frees what a removed file took when nobody has it open any more. That takes a while, for which nobody waits.
fn let_go_of(removed: Segment) {
    if removed.bytes < FREED_AT_ONCE {
        return;
    }
    // Without a thread it goes here.
    let _ = thread::Builder::new().name("spool-free".into()).spawn(move || drop(removed));
}

fn total(weights: impl Iterator<Item = Weight>) -> Weight {
    weights.fold(Weight::default(), |mut sum, weight| {
        sum += weight;
        sum
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_full_disk_did_not_take_is_not_there_and_the_next_request_is() {
        let dir = tempfile::TempDir::new().unwrap();
        let config = SpoolConfig::in_dir(dir.path().join("spool"));
        let mut store = Store::open(&config, "null", [0; 16]).unwrap();
        let request = Request { body: vec![1; 9], items: vec![(9, Weight::default())], ..Request::default() };
        store.append(&request).unwrap();
        let full = File::options().read(true).write(true).open("/dev/full").unwrap();
        store.segments.push_back(Segment::new(dir.path().join("full"), full, store.next_sequence));
        let Err(Refused::Disk(error)) = store.append(&request) else { panic!("it is full") };
        assert_eq!(error.kind(), io::ErrorKind::StorageFull);
        store.append(&request).unwrap();
        let mut take = || store.take().unwrap().is_some();
        assert!(take() && take() && !take());
    }

    #[test]
    fn what_the_disk_does_not_say_now_stays_and_is_there_when_it_does() {
        let dir = tempfile::TempDir::new().unwrap();
        let config = SpoolConfig::in_dir(dir.path().join("spool"));
        let mut store = Store::open(&config, "null", [0; 16]).unwrap();
        let request = Request { body: vec![1; 9], items: vec![(9, Weight::default())], ..Request::default() };
        store.append(&request).unwrap();
        let readable = store.segments.pop_front().unwrap();
        // Nobody reads bytes of a directory.
        let mut unreadable = Segment::new(config.dir.clone(), File::open(dir.path()).unwrap(), 0);
        (unreadable.bytes, unreadable.waiting) = (readable.bytes, readable.waiting);
        store.segments.push_front(unreadable);
        assert!(store.take().is_err() && store.take().is_err());
        assert!(config.dir.exists() && !store.is_idle() && store.take_damaged() == Damaged::default());
        store.segments[0] = readable;
        assert!(store.take().unwrap().is_some());
    }
}
