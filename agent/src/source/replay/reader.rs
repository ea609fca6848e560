//! Reads a recording block by block and says where it is damaged.

use std::io::{self, Read};

use super::format::{
    BLOCK_BYTES, Block, HEADER_BYTES, Header, MAGIC, RECORD_BYTES, VERSION, is_sealed, read_look, read_record,
};
use crate::model::Anchor;
use crate::source::{Batch, Look, Scope};

/// A place at which a recording cannot be used.
#[derive(Debug, thiserror::Error)]
#[error("at byte {offset}: {damage}")]
pub struct RecordingError {
    /// Where the header or the block begins, from the start of the recording.
    pub offset: u64,
    /// What is wrong with it.
    pub damage: Damage,
    /// How many records are left out when reading goes on after them; `None` when it cannot go on.
    pub(super) skipped_records: Option<u32>,
}

/// What is wrong with a recording.
#[derive(Debug, thiserror::Error)]
pub enum Damage {
    /// Another kind of file.
    #[error("this is not a recording; make one with `conntally record FILE`")]
    NotARecording,
    /// Made by a newer agent.
    #[error("the recording has version {0}, this agent reads versions up to {VERSION}; use a newer agent")]
    Version(u16),
    /// The header is not as it was written.
    #[error("the header is damaged")]
    Header,
    /// The file ends within a header or block.
    #[error("the recording is cut off")]
    CutOff,
    /// The front of a block is not as it was written.
    #[error("the front of a block is damaged")]
    Block,
    /// The records of a block are not as they were written.
    #[error("the records of a block are damaged")]
    Records,
    /// A record has a value that no agent writes.
    #[error("a record has an impossible value")]
    Record,
    /// It could not be read.
    #[error("cannot read: {0}")]
    Io(#[from] io::Error),
}

/// Reads batches from a recording. Never holds more than one block.
pub(super) struct RecordingReader<R> {
    input: R,
    header: Header,
    anchor: Anchor,
    /// How far it was read.
    offset: u64,
    /// The records of the current block.
    payload: Vec<u8>,
}

impl<R: Read> RecordingReader<R> {
    pub(super) fn new(mut input: R) -> Result<Self, RecordingError> {
        let fatal = |damage| RecordingError { offset: 0, damage, skipped_records: None };
        let header = read_header(&mut input).map_err(fatal)?;
        let anchor = header.accounting_since;
        Ok(Self { input, header, anchor, offset: HEADER_BYTES as u64, payload: Vec::new() })
    }

    pub(super) const fn header(&self) -> &Header {
        &self.header
    }

    pub(super) const fn anchor(&self) -> Anchor {
        self.anchor
    }

    /// Fills the cleared batch with the next block. `false` at the end.
    pub(super) fn next(&mut self, batch: &mut Batch) -> Result<bool, RecordingError> {
        let offset = self.offset;
        let fatal = |damage| RecordingError { offset, damage, skipped_records: None };
        let Some(block) = self.read_block().map_err(fatal)? else { return Ok(false) };
        self.fill_payload(block.records).map_err(fatal)?;
        self.anchor = block.anchor;
        self.decode(block, batch).map_err(|damage| {
            batch.clear();
            RecordingError { offset, damage, skipped_records: Some(block.records) }
        })?;
        Ok(true)
    }

    /// Reads to the end and tells how many bytes there are from `start` on.
    pub(super) fn skip_rest(&mut self, start: u64) -> u64 {
        // What cannot be read cannot be counted either; the damage itself is reported.
        self.offset += io::copy(&mut self.input, &mut io::sink()).unwrap_or(0);
        self.offset.saturating_sub(start)
    }

    fn read_block(&mut self) -> Result<Option<Block>, Damage> {
        let mut bytes = [0; BLOCK_BYTES];
        let read = fill(&mut self.input, &mut bytes)?;
        self.offset += read as u64;
        match read {
            0 => return Ok(None),
            BLOCK_BYTES => {}
            _ => return Err(Damage::CutOff),
        }
        let block = is_sealed(&bytes).then(|| Block::read(&bytes)).flatten();
        block.map(Some).ok_or(Damage::Block)
    }

    fn fill_payload(&mut self, records: u32) -> Result<(), Damage> {
        let length = records as usize * RECORD_BYTES;
        self.payload.resize(length, 0);
        let read = fill(&mut self.input, &mut self.payload)?;
        self.offset += read as u64;
        if read == length { Ok(()) } else { Err(Damage::CutOff) }
    }

    fn decode(&self, block: Block, batch: &mut Batch) -> Result<(), Damage> {
        if crc32c::crc32c(&self.payload) != block.records_crc {
            return Err(Damage::Records);
        }
        for bytes in self.payload.chunks_exact(RECORD_BYTES) {
            match read_look(bytes) {
                Some((began_boot_ns, netns)) => note_look(&mut batch.look, began_boot_ns, netns),
                None => batch.observations.push(read_record(bytes).ok_or(Damage::Record)?),
            }
        }
        batch.settled = block.settled;
        Ok(())
    }
}

/// Adds a namespace to the look that ended with the batch; 0 stands for all.
fn note_look(look: &mut Option<Look>, began_boot_ns: u64, netns: u32) {
    let look = look.get_or_insert(Look { began_boot_ns, scope: Scope::Namespaces(Vec::new()) });
    match &mut look.scope {
        scope if netns == 0 => *scope = Scope::All,
        Scope::Namespaces(inodes) => inodes.push(netns),
        Scope::All => {}
    }
}

fn read_header(input: &mut impl Read) -> Result<Header, Damage> {
    let mut bytes = [0; HEADER_BYTES];
    let length = fill(input, &mut bytes)?;
    if !bytes.starts_with(MAGIC) {
        return Err(Damage::NotARecording);
    }
    if length < HEADER_BYTES {
        return Err(Damage::CutOff);
    }
    let [.., low, high, _, _] = *bytes.first_chunk::<12>().ok_or(Damage::Header)?;
    match u16::from_le_bytes([low, high]) {
        1..=VERSION => {}
        version => return Err(Damage::Version(version)),
    }
    is_sealed(&bytes).then(|| Header::read(&bytes)).flatten().ok_or(Damage::Header)
}

/// Reads until the buffer is full or the input ends.
fn fill(input: &mut impl Read, buffer: &mut [u8]) -> io::Result<usize> {
    let mut filled = 0;
    while let Some(rest) = buffer.get_mut(filled..).filter(|rest| !rest.is_empty()) {
        match input.read(rest) {
            Ok(0) => break,
            Ok(length) => filled += length,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(filled)
}
