//! A recording that is still being made: a pipe with a name, into which a test writes when it wants to.

use std::fs::{File, OpenOptions};
use std::io::{ErrorKind, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use nix::libc;
use nix::sys::stat::Mode;
use nix::unistd::mkfifo;

use crate::recording::Recording;
use crate::sum::Sum;

const LIMIT: Duration = Duration::from_secs(120);
const POLL: Duration = Duration::from_millis(5);

/// Recorded time between two sights of a flow: longer than an interval of any sink, so that each wave is told of.
const STEP: Duration = Duration::from_secs(20);

/// Makes the pipe, which an agent is then to read.
///
/// # Errors
/// When it is there already.
pub fn make(path: &Path) -> Result<()> {
    mkfifo(path, Mode::S_IRUSR | Mode::S_IWUSR).with_context(|| format!("cannot make {}", path.display()))
}

/// The end into which is written. The recording ends when it is dropped.
#[derive(Debug)]
pub struct Feed {
    pipe: File,
    recording: Recording,
}

impl Feed {
    /// Waits for the reader and writes the front of the recording.
    ///
    /// # Errors
    /// When nobody reads it.
    pub fn open(path: &Path) -> Result<Self> {
        let (recording, front) = Recording::begin();
        let mut feed = Self { pipe: writer(path)?, recording };
        feed.write(&front)?;
        Ok(feed)
    }

    /// So many flows come, move and go.
    ///
    /// # Errors
    /// When the reader has gone, or takes none of it for a long time.
    pub fn wave(&mut self, flows: u64) -> Result<()> {
        let bytes = self.recording.wave(flows, STEP);
        self.write(&bytes)
    }

    /// Nothing happens for that time.
    pub fn pass(&mut self, time: Duration) {
        self.recording.pass(time);
    }

    /// Somebody sets the wall clock, by so many seconds.
    pub const fn step_clock(&mut self, seconds: i64) {
        self.recording.step_clock(seconds);
    }

    /// All that was written.
    #[must_use]
    pub const fn ledger(&self) -> Sum {
        self.recording.ledger()
    }

    /// Ends the recording; tells all that was written.
    #[must_use]
    pub fn end(self) -> Sum {
        self.recording.ledger()
    }

    fn write(&mut self, mut bytes: &[u8]) -> Result<()> {
        let deadline = Instant::now() + LIMIT;
        while !bytes.is_empty() {
            match self.pipe.write(bytes) {
                Ok(written) => bytes = bytes.get(written..).unwrap_or_default(),
                Err(error) if error.kind() == ErrorKind::WouldBlock && Instant::now() < deadline => {
                    sleep(POLL)
                }
                Err(error) => return Err(error).context("the agent does not read the recording"),
            }
        }
        Ok(())
    }
}

/// Opening for writing fails while nobody has it open for reading; writes do not block.
fn writer(path: &Path) -> Result<File> {
    let deadline = Instant::now() + LIMIT;
    loop {
        match OpenOptions::new().write(true).custom_flags(libc::O_NONBLOCK).open(path) {
            Ok(pipe) => return Ok(pipe),
            Err(error) if error.raw_os_error() == Some(libc::ENXIO) && Instant::now() < deadline => {
                sleep(POLL)
            }
            Err(error) => bail!("the agent does not open the recording: {error}"),
        }
    }
}
