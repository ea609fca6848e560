//! The file of documents that the server will never take: bounded, rotated, each with the reason.

use std::fs::{File, OpenOptions, rename};
use std::io::{self, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use serde::Serialize;
use serde_json::value::RawValue;
use tokio::sync::Mutex;
use tokio::time::timeout;

/// How long a disk is waited for: a request that is not done with in time is sent again, though the server has answered.
const PATIENCE: Duration = Duration::from_secs(1);

/// Where refused documents are kept for a person to look at.
#[derive(Debug)]
pub(super) struct Rejected {
    /// That of the files, told also while a disk that hangs has them locked.
    path: PathBuf,
    files: Arc<Mutex<Files>>,
}

/// The file that is written to, and the one before it.
#[derive(Debug)]
struct Files {
    path: PathBuf,
    /// Bytes of each of them at most.
    most: u64,
    open: Option<(File, u64)>,
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

/// What is kept of a document.
pub(super) fn line(time: &str, id: Option<&str>, reason: &str, document: &[u8]) -> io::Result<Vec<u8>> {
    let raw = serde_json::from_slice(document).ok();
    let mut line = serde_json::to_vec(&Line { time, id, reason, document: raw })?;
    line.push(b'\n');
    Ok(line)
}

impl Rejected {
    /// Nothing is opened before there is something to write.
    pub(super) fn new(path: PathBuf, most: u64) -> Self {
        let files = Files { path: path.clone(), most, open: None };
        Self { path, files: Arc::new(Mutex::new(files)) }
    }

    /// Where it is.
    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Appends lines, on a thread that may wait for the disk. One request's are written at a time; what comes while a
    /// slow disk has the ones before is not kept, so that no more than these are ever in memory.
    ///
    /// # Errors
    /// When the file cannot be written, or not in time; the next lines are tried anew.
    pub(super) async fn keep(&self, lines: Vec<Vec<u8>>) -> io::Result<()> {
        let written = async {
            let mut files = Arc::clone(&self.files).lock_owned().await;
            tokio::task::spawn_blocking(move || files.append_all(&lines)).await?
        };
        let slow = || io::Error::new(io::ErrorKind::TimedOut, "the disk does not answer in time");
        timeout(PATIENCE, written).await.unwrap_or_else(|_| Err(slow()))
    }
}

impl Files {
    /// One line that cannot be written keeps no other from being so.
    fn append_all(&mut self, lines: &[Vec<u8>]) -> io::Result<()> {
        lines.iter().filter_map(|line| self.append(line).err()).last().map_or(Ok(()), Err)
    }

    fn append(&mut self, line: &[u8]) -> io::Result<()> {
        // Put back only when all went well.
        let (mut file, mut size) = match self.open.take() {
            Some(open) => open,
            None => self.open()?,
        };
        let length = line.len() as u64;
        if size > 0 && size + length > self.most {
            rename(&self.path, self.older())?;
            (file, size) = self.open()?;
        }
        file.write_all(line)?;
        self.open = Some((file, size + length));
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
    use std::io::Read as _;
    use std::os::unix::fs::MetadataExt as _;
    use std::sync::atomic::{AtomicU32, Ordering::Relaxed};

    use nix::sys::stat::Mode;
    use nix::unistd::mkfifo;

    use super::*;

    async fn write(rejected: &Rejected, id: Option<&str>, reason: &str, document: &[u8]) -> io::Result<()> {
        rejected.keep(vec![line("t", id, reason, document).unwrap()]).await
    }

    #[tokio::test]
    async fn lines_are_json_with_the_reason_and_the_document_as_it_was() {
        let dir = tempfile::tempdir().unwrap();
        let rejected = Rejected::new(dir.path().join("new/rejected.ndjson"), 1 << 20);
        write(&rejected, Some("a-end-1"), "status 400: \"x\"", br#"{"n":1.50}"#).await.unwrap();
        write(&rejected, None, "again", b"no json").await.unwrap();
        let text = std::fs::read_to_string(rejected.path()).unwrap();
        let expected =
            r#"{"@timestamp":"t","id":"a-end-1","reason":"status 400: \"x\"","document":{"n":1.50}}"#;
        assert_eq!(text.lines().next(), Some(expected));
        assert_eq!(text.lines().count(), 2);
        assert_eq!(std::fs::metadata(rejected.path()).unwrap().mode() & 0o777, 0o600);
    }

    #[tokio::test]
    async fn two_files_of_the_given_size_are_all_that_is_ever_taken() {
        let dir = tempfile::tempdir().unwrap();
        let rejected = Rejected::new(dir.path().join("r"), 1_000);
        let lines = |request: u32| {
            let numbers = request * 10..request * 10 + 10;
            numbers.map(|number| line("t", Some(&number.to_string()), "reason", b"{}").unwrap()).collect()
        };
        for request in 0..10 {
            rejected.keep(lines(request)).await.unwrap();
        }
        let sizes: Vec<_> = ["r", "r.1"].map(|name| dir.path().join(name).metadata().unwrap().len()).into();
        assert!(sizes.iter().all(|size| (1..=1_000).contains(size)), "{sizes:?}");
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 2);
        let newest = std::fs::read_to_string(rejected.path()).unwrap();
        assert!(newest.contains(r#""id":"99""#), "{newest}");
    }

    #[tokio::test]
    async fn a_file_that_cannot_be_written_is_an_error_each_time() {
        let rejected = Rejected::new("/proc/nowhere/r".into(), 1_000);
        for _ in 0..2 {
            assert!(write(&rejected, None, "reason", b"{}").await.is_err());
        }
    }

    /// A pipe that nobody reads is a disk that hangs.
    #[tokio::test]
    async fn a_disk_that_hangs_holds_up_no_other_task_and_no_request_for_long() {
        let dir = tempfile::tempdir().unwrap();
        let rejected = Rejected::new(dir.path().join("pipe"), 1_000);
        mkfifo(rejected.path(), Mode::S_IRWXU).unwrap();
        let beats = Arc::new(AtomicU32::new(0));
        let other = tokio::spawn({
            let beats = Arc::clone(&beats);
            async move {
                loop {
                    tokio::time::sleep(Duration::from_millis(5)).await;
                    beats.fetch_add(1, Relaxed);
                }
            }
        });
        for document in [&b"{}"[..], b"[]"] {
            let error = write(&rejected, None, "reason", document).await.unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::TimedOut);
        }
        assert!(beats.load(Relaxed) > 10, "the runtime's only thread was held up");
        other.abort();
        // The disk answers: what it had was written, what came meanwhile was not.
        let mut reader = OpenOptions::new().read(true).write(true).open(rejected.path()).unwrap();
        write(&rejected, None, "reason", b"0").await.unwrap();
        let mut read = [0; 4_096];
        let length = reader.read(&mut read).unwrap();
        let text = String::from_utf8_lossy(&read[..length]);
        assert!(text.contains("{}") && !text.contains("[]") && text.ends_with(":0}\n"), "{text}");
    }
}
