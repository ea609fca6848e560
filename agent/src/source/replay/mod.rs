//! A recording as a source, and how recordings are made.
//!
//! Batches leave exactly as they were read when the recording was made, so that all that comes after a source can
//! be tested and measured without a kernel. [`format`] is the layout of the file.

pub mod format;

mod reader;

mod writer;

#[cfg(test)]
mod tests;

use std::fs::File;
use std::io::{BufReader, Read};
use std::path::Path;

pub use reader::{Damage, RecordingError};
pub use writer::RecordingWriter;

use self::format::Header;
use self::reader::RecordingReader;
use super::{Batch, Losses, Progress, Source, SourceError};
use crate::model::Anchor;

/// Delivers a recording as fast as it is asked for.
pub struct ReplaySource {
    reader: RecordingReader<Box<dyn Read + Send>>,
    damaged_blocks: u64,
    records_skipped: u64,
    bytes_skipped: u64,
}

impl ReplaySource {
    /// Opens a recording.
    ///
    /// # Errors
    /// When the file cannot be read or does not begin as a recording does.
    pub fn open(path: &Path) -> Result<Self, SourceError> {
        let what = || format!("cannot replay {}", path.display());
        let file = File::open(path).map_err(|error| SourceError { what: what(), cause: error.into() })?;
        Self::new(BufReader::new(file)).map_err(|error| SourceError { what: what(), cause: error.into() })
    }

    /// Replays what is read.
    ///
    /// # Errors
    /// When it cannot be read or does not begin as a recording does.
    pub fn new(input: impl Read + Send + 'static) -> Result<Self, RecordingError> {
        let reader = RecordingReader::new(Box::new(input) as Box<dyn Read + Send>)?;
        Ok(Self { reader, damaged_blocks: 0, records_skipped: 0, bytes_skipped: 0 })
    }

    /// What the recording says about the machine it was made on.
    #[must_use]
    pub const fn header(&self) -> &Header {
        self.reader.header()
    }

    /// Both clocks of that machine when the last batch was recorded.
    #[must_use]
    pub const fn anchor(&self) -> Anchor {
        self.reader.anchor()
    }

    /// Whether parts of the recording could not be used.
    #[must_use]
    pub const fn is_damaged(&self) -> bool {
        self.damaged_blocks != 0
    }

    /// Counts what is lost by the damage. Returns whether the rest can be read.
    fn note(&mut self, damage: &RecordingError) -> bool {
        self.damaged_blocks += 1;
        if let Some(records) = damage.skipped_records {
            self.records_skipped += u64::from(records);
            tracing::error!(records, "{damage}; this part is left out");
            return true;
        }
        let skipped = self.reader.skip_rest(damage.offset);
        self.bytes_skipped += skipped;
        tracing::error!(bytes = skipped, "{damage}; the rest is left out");
        false
    }
}

impl Source for ReplaySource {
    async fn read(&mut self, batch: &mut Batch) -> Result<Progress, SourceError> {
        // A file is always ready: without this the other tasks would starve.
        tokio::task::yield_now().await;
        loop {
            match self.reader.next(batch) {
                Ok(true) => return Ok(Progress::More),
                Ok(false) => return Ok(Progress::Finished),
                Err(damage) if self.note(&damage) => {}
                Err(_) => return Ok(Progress::Finished),
            }
        }
    }

    async fn drain(&mut self, _batch: &mut Batch) -> Result<Progress, SourceError> {
        Ok(Progress::Finished)
    }

    fn losses(&self) -> Losses {
        vec![
            ("recording_damaged_blocks", self.damaged_blocks),
            ("recording_records_skipped", self.records_skipped),
            ("recording_bytes_skipped", self.bytes_skipped),
        ]
    }
}
