//! Reads a segment frame by frame, whatever it holds.

use std::fs::File;
use std::io::{self, ErrorKind};
use std::os::unix::fs::FileExt;
use std::sync::Arc;

use super::format::{FRAME_BYTES, FrameHead, HEADER_BYTES, Header, HeaderError, candidates};
use crate::pipeline::Request;

/// Bytes that are searched at once for the next frame.
const SEARCHED: usize = 64 << 10;

/// What comes next in a segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Step {
    /// A frame.
    Frame(FrameHead),
    /// A frame of which the rest was never written, or is lost.
    Torn(FrameHead),
    /// So many bytes that are no frame; another one may follow.
    Gap(u64),
    /// The segment is over.
    End,
}

/// A segment that is read.
#[derive(Debug)]
pub(super) struct SegmentReader {
    pub(super) file: Arc<File>,
    /// Of the next frame.
    pub(super) offset: u64,
}

impl SegmentReader {
    /// Before the first frame.
    pub(super) const fn new(file: Arc<File>) -> Self {
        Self { file, offset: HEADER_BYTES as u64 }
    }

    /// The segment's header.
    pub(super) fn header(&self) -> io::Result<Result<Header, HeaderError>> {
        let mut bytes = [0; HEADER_BYTES];
        let count = read_at(&self.file, &mut bytes, 0)?;
        Ok(Header::read(bytes.get(..count).unwrap_or_default()))
    }

    /// What comes next in a segment of `end` bytes. It stays before a frame until [`Self::pass`], and goes past a gap.
    pub(super) fn step(&mut self, end: u64) -> io::Result<Step> {
        let left = end.saturating_sub(self.offset);
        if left == 0 {
            return Ok(Step::End);
        }
        let mut bytes = [0; FRAME_BYTES];
        read_at(&self.file, &mut bytes, self.offset)?;
        match FrameHead::read(&bytes, self.offset) {
            Some(head) if head.frame_bytes() <= left => Ok(Step::Frame(head)),
            Some(head) => Ok(Step::Torn(head)),
            None => self.search(end),
        }
    }

    /// Goes past a frame, to where the next one is.
    pub(super) const fn pass(&mut self, head: &FrameHead) {
        self.offset = self.offset.saturating_add(head.frame_bytes());
    }

    /// The request of the frame that is next. `None` if it is damaged.
    pub(super) fn request(&self, head: &FrameHead) -> io::Result<Option<Request>> {
        // The segment has so many bytes: that was seen to.
        let mut payload = vec![0; head.payload_bytes()];
        let count = read_at(&self.file, &mut payload, self.offset + FRAME_BYTES as u64)?;
        payload.truncate(count);
        Ok(head.request(payload))
    }

    /// Looks for the next frame behind the present offset.
    fn search(&mut self, end: u64) -> io::Result<Step> {
        let begin = self.offset;
        let mut bytes = vec![0; SEARCHED];
        let mut at = begin + 1;
        while at < end {
            let wanted = usize::try_from(end - at).map_or(SEARCHED, |left| left.min(SEARCHED));
            let window = bytes.get_mut(..wanted).unwrap_or_default();
            let count = read_at(&self.file, window, at)?;
            let window = window.get(..count).unwrap_or_default();
            let is_head = |place: &usize| {
                window.get(*place..).is_some_and(|from| FrameHead::read(from, at + *place as u64).is_some())
            };
            if let Some(found) = candidates(window).find(is_head) {
                self.offset = at + found as u64;
                return Ok(Step::Gap(self.offset - begin));
            }
            if count < SEARCHED {
                break;
            }
            // A head may begin in this window and end in the next.
            at += (SEARCHED - FRAME_BYTES + 1) as u64;
        }
        self.offset = end;
        Ok(Step::Gap(end - begin))
    }
}

/// Fills the buffer as far as the file goes; tells how far.
fn read_at(file: &File, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
    let mut count = 0;
    while let Some(rest) = buffer.get_mut(count..).filter(|rest| !rest.is_empty()) {
        match file.read_at(rest, offset + count as u64) {
            Ok(0) => break,
            Ok(read) => count += read,
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(count)
}
