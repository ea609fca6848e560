//! One file of a spool: requests are appended to it, and taken out of it.

use std::fs::{self, File};
use std::io;
use std::ops::AddAssign;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::format::{FrameHead, HEADER_BYTES, Header, Mark};
use super::reader::{SegmentReader, Step};
use crate::folder;
use crate::pipeline::{Request, Weight};

/// A segment and what of it is not done.
#[derive(Debug)]
pub(super) struct Segment {
    pub(super) path: PathBuf,
    file: Arc<File>,
    /// The sequence number of its first frame, by which it is named.
    pub(super) number: u64,
    /// Up to where frames may be.
    pub(super) bytes: u64,
    /// Requests that nobody took out yet.
    pub(super) waiting: usize,
    pub(super) waiting_weight: Weight,
    /// Requests that were taken out and are not done.
    pub(super) under_way: usize,
    /// Each of its requests may have been tried already.
    is_doubtful: bool,
    /// An earlier process has left it.
    is_inherited: bool,
    reader: SegmentReader,
}

/// A request that was taken out.
#[derive(Debug)]
pub struct Ticket {
    file: Arc<File>,
    pub(super) segment: u64,
    /// Of its frame.
    offset: u64,
    sequence: u64,
    /// An earlier process has taken it in.
    pub(in crate::pipeline) is_inherited: bool,
}

/// What could not be read any more.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Damaged {
    /// All of it.
    pub weight: Weight,
    /// Of that, what an earlier process has taken in.
    pub inherited: Weight,
}

impl AddAssign for Damaged {
    fn add_assign(&mut self, other: Self) {
        self.weight += other.weight;
        self.inherited += other.inherited;
    }
}

/// What was taken out of a segment.
#[derive(Debug)]
pub(super) enum Taken {
    Request(Box<(Ticket, Request)>),
    /// Something that waits cannot be read.
    Damaged(Damaged),
    /// What waits is not to be taken out yet.
    Held,
}

impl Segment {
    /// Makes one that is empty.
    pub(super) fn begin(path: PathBuf, header: &Header) -> io::Result<Self> {
        let file = folder::private().read(true).write(true).create_new(true).open(&path)?;
        if let Err(error) = file.write_all_at(&header.bytes(), 0) {
            let _ = fs::remove_file(&path);
            return Err(error);
        }
        Ok(Self { bytes: HEADER_BYTES as u64, ..Self::new(path, file, header.first_sequence) })
    }

    /// Opens one that an earlier process has left. What waits in it is not counted yet.
    pub(super) fn open(path: &Path, number: u64) -> io::Result<Self> {
        let file = folder::private().read(true).write(true).open(path)?;
        let bytes = file.metadata()?.len();
        Ok(Self { bytes, is_inherited: true, ..Self::new(path.to_path_buf(), file, number) })
    }

    pub(super) fn new(path: PathBuf, file: File, number: u64) -> Self {
        let file = Arc::new(file);
        let reader = SegmentReader::new(Arc::clone(&file));
        let waiting_weight = Weight::default();
        Self {
            path,
            file,
            number,
            bytes: 0,
            waiting: 0,
            waiting_weight,
            under_way: 0,
            is_doubtful: false,
            is_inherited: false,
            reader,
        }
    }

    /// Whether nobody needs it any more.
    pub(super) const fn is_finished(&self) -> bool {
        self.waiting == 0 && self.under_way == 0
    }

    /// Notes that each of its requests may have been tried already.
    pub(super) const fn doubt(&mut self) {
        self.is_doubtful = true;
    }

    /// Counts a request that waits.
    pub(super) fn count(&mut self, weight: Weight) {
        self.waiting += 1;
        self.waiting_weight += weight;
    }

    /// Whether the next request that waits is one that [`Segment::take`] would not take out for its number.
    pub(super) fn holds_back(&self, limit: u64) -> bool {
        let mut reader = SegmentReader { file: self.file(), offset: self.reader.offset };
        loop {
            match reader.step(self.bytes) {
                Ok(Step::Frame(head)) if head.is_done => reader.pass(&head),
                Ok(Step::Frame(head)) => return head.sequence >= limit,
                Ok(Step::Gap(_)) => {}
                Ok(Step::Torn(_) | Step::End) | Err(_) => return false,
            }
        }
    }

    /// Whether no frame can be read.
    pub(super) fn is_unreadable(&self) -> io::Result<bool> {
        let mut reader = self.scan();
        loop {
            match reader.step(self.bytes)? {
                Step::Frame(_) | Step::Torn(_) => return Ok(false),
                Step::Gap(_) => {}
                Step::End => return Ok(true),
            }
        }
    }

    /// A reader of its own, before the first frame.
    pub(super) fn scan(&self) -> SegmentReader {
        SegmentReader::new(Arc::clone(&self.file))
    }

    /// Appends all of a frame, or nothing as far as one can see to it.
    pub(super) fn append(&mut self, head: &FrameHead, body: &[u8], table: &[u8]) -> io::Result<()> {
        let mut offset = self.bytes;
        let bytes = head.bytes(offset);
        for part in [&bytes[..], body, table] {
            self.file.write_all_at(part, offset)?;
            offset += part.len() as u64;
        }
        self.bytes = offset;
        Ok(())
    }

    /// Cuts off what was written beyond so many bytes.
    pub(super) fn cut(&mut self, bytes: u64) -> io::Result<()> {
        self.bytes = bytes;
        self.file.set_len(bytes)
    }

    /// Its file, to be synced by another.
    pub(super) fn file(&self) -> Arc<File> {
        Arc::clone(&self.file)
    }

    /// Cuts off all frames from this sequence number on; returns what of them waited.
    pub(super) fn cut_from(&mut self, sequence: u64) -> io::Result<Weight> {
        let mut reader = self.scan();
        let (mut offset, mut cut) = (None, Weight::default());
        loop {
            match reader.step(self.bytes)? {
                Step::Frame(head) => {
                    if head.sequence >= sequence {
                        offset.get_or_insert(reader.offset);
                        if !head.is_done {
                            self.waiting = self.waiting.saturating_sub(1);
                            self.waiting_weight -= head.weight;
                            cut += head.weight;
                        }
                    }
                    reader.pass(&head);
                }
                Step::Gap(_) => {}
                Step::Torn(_) | Step::End => break,
            }
        }
        if let Some(offset) = offset {
            self.cut(offset)?;
        }
        Ok(cut)
    }

    /// Takes out the next request that waits, if its sequence number is below the limit, where there is one. An error
    /// leaves it where it is: only what was read can be told to be damaged.
    pub(super) fn take(&mut self, limit: Option<u64>) -> io::Result<Taken> {
        loop {
            let head = match self.reader.step(self.bytes)? {
                Step::Frame(head) => head,
                Step::Gap(_) => continue,
                Step::Torn(_) | Step::End => return Ok(self.damaged_to_its_end()),
            };
            if limit.is_some_and(|limit| head.sequence >= limit) {
                return Ok(Taken::Held);
            }
            let offset = self.reader.offset;
            let request = if head.is_done { None } else { self.reader.request(&head)? };
            self.reader.pass(&head);
            if head.is_done {
                continue;
            }
            self.waiting = self.waiting.saturating_sub(1);
            self.waiting_weight -= head.weight;
            let Some(mut request) = request else { return Ok(self.damaged(head.weight)) };
            request.in_doubt |= self.is_doubtful;
            self.under_way += 1;
            let ticket = Ticket {
                file: self.file(),
                segment: self.number,
                offset,
                sequence: head.sequence,
                is_inherited: self.is_inherited,
            };
            return Ok(Taken::Request(Box::new((ticket, request))));
        }
    }

    /// What waited was there once, and cannot be found now.
    fn damaged_to_its_end(&mut self) -> Taken {
        self.waiting = 0;
        let weight = std::mem::take(&mut self.waiting_weight);
        self.damaged(weight)
    }

    fn damaged(&self, weight: Weight) -> Taken {
        let inherited = if self.is_inherited { weight } else { Weight::default() };
        Taken::Damaged(Damaged { weight, inherited })
    }
}

impl Ticket {
    /// Notes in the frame what is done with it.
    pub(super) fn note(&self, mark: Mark) -> io::Result<()> {
        self.file.write_all_at(&mark.bytes(self.sequence), self.offset + mark.offset())
    }
}
