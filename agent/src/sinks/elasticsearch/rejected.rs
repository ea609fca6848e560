//! The file of documents that the server will never take: bounded, rotated, each with the reason.

use std::fs::{File, OpenOptions, rename};
use std::io::{self, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use serde::Serialize;
use serde_json::value::RawValue;

/// Where refused documents are kept for a person to look at.
#[derive(Debug)]
pub(super) struct Rejected {
    path: PathBuf,
    /// Bytes of the file at most; the one before it is kept, too.
    most: u64,
    file: Mutex<Option<(File, u64)>>,
}

#[derive(Serialize)]
struct Line<'a> {
    #[serde(rename = "@timestamp")]
    time: &'a str,
    id: Option<&'a str>,
    reason: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    document: Option<&'a RawValue>,
}

impl Rejected {
    /// Nothing is opened before there is something to write.
    pub(super) const fn new(path: PathBuf, most: u64) -> Self {
        Self { path, most, file: Mutex::new(None) }
    }

    /// Where it is.
    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Appends a document.
    ///
    /// # Errors
    /// When the file cannot be written; the next document is tried anew.
    pub(super) fn write(
        &self,
        time: &str,
        id: Option<&str>,
        reason: &str,
        document: &[u8],
    ) -> io::Result<()> {
        let raw = serde_json::from_slice(document).ok();
        let mut line = serde_json::to_vec(&Line { time, id, reason, document: raw })?;
        line.push(b'\n');
        let mut place = self.file.lock().unwrap_or_else(PoisonError::into_inner);
        // Put back only when all went well.
        let (mut file, size) = match place.take() {
            Some(open) => open,
            None => self.open()?,
        };
        let length = line.len() as u64;
        let mut size = size;
        if size > 0 && size + length > self.most {
            rename(&self.path, self.older())?;
            (file, size) = self.open()?;
        }
        file.write_all(&line)?;
        *place = Some((file, size + length));
        Ok(())
    }

    fn older(&self) -> PathBuf {
        let mut name = self.path.clone().into_os_string();
        name.push(".1");
        name.into()
    }

    /// Addresses of users are in it.
    fn open(&self) -> io::Result<(File, u64)> {
        if let Some(directory) = self.path.parent() {
            std::fs::create_dir_all(directory)?;
        }
        let file = OpenOptions::new().append(true).create(true).mode(0o600).open(&self.path)?;
        let size = file.metadata()?.len();
        Ok((file, size))
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::MetadataExt as _;

    use super::*;

    #[test]
    fn lines_are_json_with_the_reason_and_the_document_as_it_was() {
        let dir = tempfile::tempdir().unwrap();
        let rejected = Rejected::new(dir.path().join("new/rejected.ndjson"), 1 << 20);
        rejected.write("t", Some("a-end-1"), "status 400: \"x\"", br#"{"n":1.50}"#).unwrap();
        rejected.write("t", None, "again", b"no json").unwrap();
        let text = std::fs::read_to_string(rejected.path()).unwrap();
        let expected =
            r#"{"@timestamp":"t","id":"a-end-1","reason":"status 400: \"x\"","document":{"n":1.50}}"#;
        assert_eq!(text.lines().next(), Some(expected));
        assert_eq!(text.lines().count(), 2);
        assert_eq!(std::fs::metadata(rejected.path()).unwrap().mode() & 0o777, 0o600);
    }

    #[test]
    fn two_files_of_the_given_size_are_all_that_is_ever_taken() {
        let dir = tempfile::tempdir().unwrap();
        let rejected = Rejected::new(dir.path().join("r"), 1_000);
        for number in 0..100 {
            rejected.write("t", Some(&number.to_string()), "reason", b"{}").unwrap();
        }
        let sizes: Vec<_> = ["r", "r.1"].map(|name| dir.path().join(name).metadata().unwrap().len()).into();
        assert!(sizes.iter().all(|size| (1..=1_000).contains(size)), "{sizes:?}");
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 2);
        let newest = std::fs::read_to_string(rejected.path()).unwrap();
        assert!(newest.contains(r#""id":"99""#), "{newest}");
    }

    #[test]
    fn a_file_that_cannot_be_written_is_an_error_each_time() {
        let rejected = Rejected::new("/proc/nowhere/r".into(), 1_000);
        for _ in 0..2 {
            assert!(rejected.write("t", None, "reason", b"{}").is_err());
        }
    }
}
