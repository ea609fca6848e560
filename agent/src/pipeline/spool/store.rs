//! The spool itself: requests are appended behind, taken out in front, and removed when they are done.

use std::collections::VecDeque;
use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::error::{Refused, SpoolError};
use super::format::{FrameHead, HEADER_BYTES, Header, Mark, sink_type};
use super::recovery::{Found, name, recover};
use super::segment::{Damaged, Segment, Taken, Ticket};
use crate::config::{Fsync, SpoolConfig};
use crate::folder::{self, Refusal};
use crate::pipeline::{Request, Weight};

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
    /// Something was written that need not be on the disk yet.
    is_unsynced: bool,
    damaged: Damaged,
    found: Recovered,
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
    /// The request that was being written when the process was killed: it was never taken in.
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
            damaged: Damaged::default(),
            found: Recovered { requests, weight, bytes, damaged, missing, torn },
        };
        store.remove_finished();
        Ok(store)
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
        self.make_room(head.frame_bytes())?;
        let segment = self.segment_for(head.frame_bytes())?;
        let before = segment.bytes;
        let mut written = segment.append(&head, &request.body, &table);
        if written.is_ok() && self.config.fsync == Fsync::Always {
            written = self.sync();
        }
        if let Err(error) = written {
            self.take_back(before);
            return Err(error.into());
        }
        self.bytes += head.frame_bytes();
        self.next_sequence += 1;
        self.is_unsynced = self.config.fsync == Fsync::Interval;
        if let Some(segment) = self.segments.back_mut() {
            segment.count(head.weight);
        }
        Ok(())
    }

    /// Takes out the oldest request that waits, and notes that it is begun.
    pub fn take(&mut self) -> Option<(Ticket, Request)> {
        loop {
            let segment = self.segments.iter_mut().find(|segment| segment.waiting > 0)?;
            match segment.take() {
                Taken::Request(taken) => {
                    // If this fails, a restart knows less; the server still gets it once.
                    let _ = taken.0.note(Mark::Begun);
                    return Some(*taken);
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
    pub fn done(&mut self, ticket: &Ticket) -> io::Result<()> {
        let noted = ticket.note(Mark::Done);
        let place = self.segments.binary_search_by_key(&ticket.segment, |segment| segment.number);
        if let Some(segment) = place.ok().and_then(|place| self.segments.get_mut(place)) {
            segment.under_way = segment.under_way.saturating_sub(1);
        }
        self.remove_finished();
        noted
    }

    /// Sees to it that all that was written is on the disk.
    ///
    /// # Errors
    /// When the system says that it is not.
    pub fn sync(&mut self) -> io::Result<()> {
        self.is_unsynced = false;
        self.segments.back().filter(|_| self.is_writing).map_or(Ok(()), Segment::sync)
    }

    /// Whether something was written that the policy wants on the disk within an interval.
    #[must_use]
    pub const fn is_unsynced(&self) -> bool {
        self.is_unsynced
    }

    /// The file to which it was written, to be synced without holding up others.
    #[must_use]
    pub fn take_unsynced(&mut self) -> Option<Arc<File>> {
        let is_unsynced = std::mem::take(&mut self.is_unsynced);
        self.segments.back().filter(|_| is_unsynced && self.is_writing).map(Segment::file)
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
        if self.config.fsync == Fsync::Interval {
            self.sync()?;
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
        if self.config.fsync != Fsync::Never
            // The name is to be on the disk, too.
            && let Err(error) = File::open(&self.config.dir).and_then(|dir| dir.sync_all())
        {
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
            self.segments.pop_front();
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
        assert!(store.take().is_some() && store.take().is_some() && store.take().is_none());
    }
}
