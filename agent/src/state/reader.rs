//! Reads a file of the state frame by frame, and tells damage from an end that was never written.

use std::io::{self, Read};

use super::format::{FRAME_BYTES, FileKind, Frame, HEADER_BYTES, Header, HeaderError};

/// What comes next in a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Next {
    /// A whole frame; its payload is [`FrameReader::payload`].
    Frame(Frame),
    /// A frame whose payload is damaged; what follows can be read.
    DamagedPayload,
    /// Nothing that follows can be read.
    Damaged,
    /// A frame that was not written to its end.
    Torn,
    /// The file is over.
    End,
}

/// A file of the state.
#[derive(Debug)]
pub(super) struct FrameReader<R> {
    input: R,
    offset: u64,
    payload: Vec<u8>,
}

impl<R: Read> FrameReader<R> {
    /// Reads the header.
    pub(super) fn open(mut input: R, kind: FileKind) -> io::Result<(Self, Result<Header, HeaderError>)> {
        let mut bytes = Vec::with_capacity(HEADER_BYTES);
        read_up_to(&mut input, HEADER_BYTES, &mut bytes)?;
        let header = Header::read(&bytes, kind);
        Ok((Self { input, offset: HEADER_BYTES as u64, payload: Vec::new() }, header))
    }

    /// Reads the next frame.
    pub(super) fn next(&mut self) -> io::Result<Next> {
        let mut bytes = Vec::with_capacity(FRAME_BYTES);
        match read_up_to(&mut self.input, FRAME_BYTES, &mut bytes)? {
            0 => return Ok(Next::End),
            FRAME_BYTES => {}
            _ => return Ok(Next::Torn),
        }
        let Some((frame, length, crc)) = Frame::read(&bytes) else { return Ok(Next::Damaged) };
        self.payload.clear();
        if read_up_to(&mut self.input, length, &mut self.payload)? < length {
            return Ok(Next::Torn);
        }
        self.offset += (FRAME_BYTES + length) as u64;
        let is_whole = crc32c::crc32c(&self.payload) == crc;
        Ok(if is_whole { Next::Frame(frame) } else { Next::DamagedPayload })
    }

    /// Payload of the latest frame.
    pub(super) fn payload(&self) -> &[u8] {
        &self.payload
    }

    /// Up to where whole frames were read.
    pub(super) const fn offset(&self) -> u64 {
        self.offset
    }
}

/// Appends that many bytes or as many as there are; tells how many.
fn read_up_to(input: &mut impl Read, count: usize, out: &mut Vec<u8>) -> io::Result<usize> {
    input.take(count as u64).read_to_end(out)
}
