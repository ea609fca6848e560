//! A file of the state that is only ever appended to, by whole frames.

use std::fs::File;
use std::io::{self, Write};

/// An open file and how much of it is good.
#[derive(Debug)]
pub(super) struct AppendOnly {
    file: File,
    bytes: u64,
}

impl AppendOnly {
    /// For a file that is empty.
    pub(super) const fn new(file: File) -> Self {
        Self { file, bytes: 0 }
    }

    /// Appends all or, as far as one can see to it, nothing.
    pub(super) fn append(&mut self, bytes: &[u8]) -> io::Result<()> {
        let written = self.file.write_all(bytes);
        if written.is_err() {
            // What was written of it would read as torn; if this fails as well it is just that.
            let _ = self.file.set_len(self.bytes);
        }
        written?;
        self.bytes += bytes.len() as u64;
        Ok(())
    }

    /// Bytes of the file.
    pub(super) const fn bytes(&self) -> u64 {
        self.bytes
    }
}
