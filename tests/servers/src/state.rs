//! The servers that were left running: a file that says where they are and how to talk to them.

use std::fs;
use std::path::{Path, PathBuf};
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde::{Deserialize, Serialize};

use crate::kind::Access;
use crate::server::{Server, remove};

const STOPS_WITHIN: Duration = Duration::from_secs(60);
const POLL: Duration = Duration::from_millis(50);

/// A server that runs by itself.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Entry {
    /// Its name.
    pub name: String,
    /// Its release.
    pub release: String,
    /// Its process.
    pub pid: u32,
    /// When that process began, in the kernel's ticks: tells it from a later one of the same number.
    pub began: u64,
    /// Its data.
    pub home: PathBuf,
    /// What it said.
    pub log: PathBuf,
    /// What a client has to know.
    pub access: Access,
}

impl Entry {
    /// Lets a server run on.
    ///
    /// # Errors
    /// When it runs no longer.
    pub fn leave(mut server: Server) -> Result<Self> {
        let pid = server.pid().context("the server has ended")?;
        let entry = Self {
            name: server.kind().name().to_owned(),
            release: server.kind().release().to_owned(),
            pid,
            began: began(pid).context("the server has ended")?,
            home: server.place().home.clone(),
            log: server.log().to_owned(),
            access: server.access().clone(),
        };
        server.leave();
        Ok(entry)
    }

    /// Whether it still runs.
    #[must_use]
    pub fn is_running(&self) -> bool {
        began(self.pid) == Some(self.began)
    }

    /// Stops it and removes its data.
    ///
    /// # Errors
    /// When it does not stop.
    pub fn stop(&self) -> Result<()> {
        let pid = Pid::from_raw(i32::try_from(self.pid)?);
        let deadline = Instant::now() + STOPS_WITHIN;
        if self.is_running() {
            kill(pid, Signal::SIGTERM).with_context(|| format!("cannot stop {}", self.name))?;
        }
        while self.is_running() {
            if Instant::now() > deadline {
                bail!("{} (process {pid}) does not stop", self.name);
            }
            sleep(POLL);
        }
        remove(&self.home, &self.log)
    }
}

/// Reads the file; without it nothing was left running.
///
/// # Errors
/// When it cannot be read.
pub fn read(file: &Path) -> Result<Vec<Entry>> {
    if !file.exists() {
        return Ok(Vec::new());
    }
    let text = fs::read_to_string(file).with_context(|| format!("cannot read {}", file.display()))?;
    serde_json::from_str(&text).with_context(|| format!("{} is damaged: delete it", file.display()))
}

/// Replaces the file; without entries it goes.
///
/// # Errors
/// When it cannot be written.
pub fn write(file: &Path, entries: &[Entry]) -> Result<()> {
    if entries.is_empty() {
        drop(fs::remove_file(file));
        return Ok(());
    }
    let text = serde_json::to_string_pretty(entries)?;
    let new = file.with_extension("new");
    fs::write(&new, text)
        .and_then(|()| fs::rename(&new, file))
        .with_context(|| format!("cannot write {}", file.display()))
}

/// When a process began, or `None` if it has ended; a zombie has. See proc(5), `/proc/PID/stat`.
fn began(pid: u32) -> Option<u64> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The name in parentheses may hold anything.
    let mut fields = stat.rsplit_once(") ")?.1.split(' ');
    if fields.next()? == "Z" {
        return None;
    }
    fields.nth(18)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(pid: u32) -> Entry {
        let folder = tempfile::tempdir().unwrap();
        let home = folder.keep();
        Entry {
            name: "test".to_owned(),
            release: "test-1".to_owned(),
            pid,
            began: began(pid).unwrap(),
            log: home.with_extension("log"),
            home,
            access: Access::from([("url".to_owned(), "http://x".to_owned())]),
        }
    }

    #[test]
    fn a_stopped_server_leaves_nothing() {
        let mut child = std::process::Command::new("sleep").arg("60").spawn().unwrap();
        let entry = entry(child.id());
        fs::write(&entry.log, "words").unwrap();
        assert!(entry.is_running());
        entry.stop().unwrap();
        assert!(!entry.is_running() && !entry.home.exists() && !entry.log.exists());
        child.wait().unwrap();
    }

    #[test]
    fn a_later_process_of_the_same_number_is_not_the_server() {
        let mut entry = entry(std::process::id());
        entry.began += 1;
        assert!(!entry.is_running());
        entry.stop().unwrap();
    }

    #[test]
    fn what_was_written_is_read_and_no_entries_leave_no_file() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("servers.json");
        assert!(read(&file).unwrap().is_empty());
        let entries = [entry(std::process::id())];
        write(&file, &entries).unwrap();
        assert_eq!(read(&file).unwrap(), entries);
        write(&file, &[]).unwrap();
        assert!(!file.exists());
        fs::remove_dir_all(&entries[0].home).unwrap();
    }
}
