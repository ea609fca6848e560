//! What is replayed through the agent's binary: recordings, and files that it reads.

use std::io::Write as _;

use conntally::model::Observation;
use conntally::source::Batch;
use conntally::source::replay::RecordingWriter;
use conntally::source::replay::format::Header;
use tempfile::NamedTempFile;

use super::ports_of_flows::SINCE;

pub(super) fn file(content: &[u8]) -> NamedTempFile {
    let mut file = NamedTempFile::new().unwrap();
    file.write_all(content).unwrap();
    file
}

/// Settled batches of these observations.
pub(super) fn recording(batches: impl IntoIterator<Item = Vec<Observation>>) -> NamedTempFile {
    let header = Header { boot_id: [7; 16], accounting_since: SINCE };
    let mut writer = RecordingWriter::new(Vec::new(), &header).unwrap();
    for observations in batches {
        writer.write(&Batch { observations, settled: true, look: None }, SINCE).unwrap();
    }
    file(&writer.finish().unwrap())
}
