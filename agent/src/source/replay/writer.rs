//! Writes a recording.

use std::io::{self, Write};

use super::format::{Block, Header, MAX_RECORDS, write_look, write_record};
use crate::model::{Anchor, Observation};
use crate::source::Batch;

/// Appends batches to a recording, each with one write.
#[derive(Debug)]
pub struct RecordingWriter<W> {
    out: W,
    payload: Vec<u8>,
    blocks: Vec<u8>,
    records: u64,
}

impl<W: Write> RecordingWriter<W> {
    /// Begins a recording.
    ///
    /// # Errors
    /// When the header cannot be written.
    pub fn new(mut out: W, header: &Header) -> io::Result<Self> {
        let mut bytes = Vec::new();
        header.write(&mut bytes);
        out.write_all(&bytes)?;
        Ok(Self { out, payload: Vec::new(), blocks: bytes, records: 0 })
    }

    /// Appends a batch and what both clocks showed when it was read.
    ///
    /// # Errors
    /// When it cannot be written; the recording then ends with its last whole block.
    pub fn write(&mut self, batch: &Batch, anchor: Anchor) -> io::Result<()> {
        self.blocks.clear();
        let mut chunks = batch.observations.chunks(MAX_RECORDS as usize).peekable();
        if chunks.peek().is_none() && batch.look.is_none() && batch.settled {
            self.append(&[], true, anchor);
        }
        while let Some(chunk) = chunks.next() {
            let is_last = chunks.peek().is_none() && batch.look.is_none();
            self.append(chunk, is_last && batch.settled, anchor);
        }
        if let Some(look) = &batch.look {
            self.payload.clear();
            let records = write_look(look, &mut self.payload);
            self.seal(records, batch.settled, anchor);
        }
        self.out.write_all(&self.blocks)?;
        self.records += batch.observations.len() as u64;
        Ok(())
    }

    /// Records written so far.
    #[must_use]
    pub const fn records(&self) -> u64 {
        self.records
    }

    /// Ends the recording.
    ///
    /// # Errors
    /// When what is buffered cannot be written.
    pub fn finish(mut self) -> io::Result<W> {
        self.out.flush()?;
        Ok(self.out)
    }

    fn append(&mut self, chunk: &[Observation], settled: bool, anchor: Anchor) {
        self.payload.clear();
        for observation in chunk {
            write_record(observation, &mut self.payload);
        }
        let records = u32::try_from(chunk.len()).unwrap_or(MAX_RECORDS);
        self.seal(records, settled, anchor);
    }

    /// Appends what is in `payload` as a block.
    fn seal(&mut self, records: u32, settled: bool, anchor: Anchor) {
        let records_crc = crc32c::crc32c(&self.payload);
        Block { records, settled, anchor, records_crc }.write(&mut self.blocks);
        self.blocks.extend_from_slice(&self.payload);
    }
}
