//! The file in which a running agent says how it is doing, for `conntally check --live`.
//!
//! `RUN_DIR/status.PID.json`, one status record, replaced as a whole every ten seconds and at the end. Below
//! `conntally.status` it has:
//!
//! | key | what |
//! |---|---|
//! | `version` | 1 |
//! | `pid` | the agent's process id |
//! | `updated_boot_ns` | when it was written, `CLOCK_BOOTTIME` |
//! | `final` | whether the agent has ended |
//! | `source` | as in the line `ready` |
//! | `whole` | whether nothing is missing, for certain |
//! | `text` | the audit for a person |
//! | `audit` | the audit since the start, with what waits for each sink (`waiting`) |
//! | `window` | the completeness of the last full minute; absent before |
//! | `live_flows` | flows that live now |
//! | `offloaded_uncounted` | those of them that are offloaded without being counted, as far as known |
//! | `longest_sweep_run_us` | the longest single run of the program that looks at flows which are due |
//! | `longest_walk_run_us` | the same of the one that walks the kernel's table |
//!
//! What waits is told as records, what they add up to, and for how many milliseconds the oldest has waited. Both runs
//! are in microseconds, and absent without kernel programs.

use crate::audit::{Statement, Window};
use crate::clock::boot_ns;
use crate::model::Anchor;
use crate::sinks::json::status::record;
use crate::source::LongestRuns;
use serde_json::{Value, json};
use std::fs::{self, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

/// An agent that has not written for so long does not run.
const STALE_NS: u64 = 60_000_000_000;

/// The file is a few kilobytes.
const MAX_BYTES: u64 = 1 << 20;

/// How things stand at this moment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Gauges {
    /// When it was so: wall clock, nanoseconds since the Unix epoch.
    pub(super) real_ns: i64,
    /// Flows that live now.
    pub(super) live_flows: usize,
    /// Those of them that are offloaded without being counted, as far as known.
    pub(super) offloaded_uncounted: usize,
    /// The longest runs of the programs that look at many flows, where there are such.
    pub(super) longest_runs: Option<LongestRuns>,
}

/// The status file of this process.
#[derive(Debug)]
pub(super) struct StatusFile {
    path: PathBuf,
    host: String,
    source: String,
    /// Whether a failure was told: once is enough.
    has_failed: bool,
}

impl StatusFile {
    /// The file of this process in the given directory; those of agents that are gone are removed.
    pub(super) fn new(run_dir: &Path, host: &str, source: &str) -> Self {
        let now = boot_ns();
        for path in paths(run_dir) {
            let is_gone = match read(&path) {
                Ok(status) => !is_fresh(&status, now),
                Err(_) => is_old(&path),
            };
            if is_gone {
                // Whoever cannot remove it cannot be hurt by it either.
                let _ = fs::remove_file(path);
            }
        }
        let path = run_dir.join(format!("status.{}.json", std::process::id()));
        Self { path, host: host.to_owned(), source: source.to_owned(), has_failed: false }
    }

    /// Replaces what it says. A failure is logged once.
    pub(super) fn write(
        &mut self,
        statement: &Statement,
        window: Option<&Window>,
        gauges: Gauges,
        is_final: bool,
    ) {
        let Ok(now) = Anchor::now() else { return };
        let longest_us = |of: fn(LongestRuns) -> u64| gauges.longest_runs.map(|runs| of(runs).div_ceil(1000));
        let status = json!({
            "version": 1,
            "pid": std::process::id(),
            "updated_boot_ns": now.boot_ns,
            "final": is_final,
            "source": self.source,
            "whole": statement.completeness.is_whole(),
            "text": statement.to_string(),
            "audit": statement.to_json(),
            "window": window.map(Window::to_json),
            "window_text": window.map(ToString::to_string),
            "live_flows": gauges.live_flows,
            "offloaded_uncounted": gauges.offloaded_uncounted,
            "longest_sweep_run_us": longest_us(|runs| runs.sweep_ns),
            "longest_walk_run_us": longest_us(|runs| runs.walk_ns),
        });
        if let Err(error) = replace(&self.path, &record(&status, &self.host, now.real_ns))
            && !std::mem::replace(&mut self.has_failed, true)
        {
            tracing::warn!("`conntally check --live` cannot work: {}: {error}", self.path.display());
        }
    }
}

/// What each agent of this directory that runs says.
pub(super) fn running(run_dir: &Path) -> io::Result<Vec<Value>> {
    let now = Anchor::now()?.boot_ns;
    let fresh = |status: &Value| is_fresh(status, now) && status.get("final") == Some(&Value::Bool(false));
    Ok(paths(run_dir).filter_map(|path| read(&path).ok()).filter(fresh).collect())
}

fn is_fresh(status: &Value, now: u64) -> bool {
    let updated = status.get("updated_boot_ns").and_then(Value::as_u64);
    updated.is_some_and(|updated| updated <= now && now - updated < STALE_NS)
}

/// Of a file that says nothing: whether it was last written so long ago that no agent replaces it any more.
fn is_old(path: &Path) -> bool {
    let written = path.symlink_metadata().and_then(|file| file.modified()).ok();
    let age = written.and_then(|written| written.elapsed().ok());
    age.is_some_and(|age| age.as_nanos() >= STALE_NS.into())
}

/// The files by their names, whatever is in them.
fn paths(run_dir: &Path) -> impl Iterator<Item = PathBuf> {
    let paths = fs::read_dir(run_dir).into_iter().flatten().flatten().map(|entry| entry.path());
    paths.filter(|path| is_status(path))
}

fn is_status(path: &Path) -> bool {
    let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
    name.strip_prefix("status.").is_some_and(|rest| rest.ends_with(".json"))
}

fn read(path: &Path) -> io::Result<Value> {
    let file = OpenOptions::new().read(true).custom_flags(libc::O_NOFOLLOW | libc::O_NONBLOCK).open(path)?;
    let mut text = String::new();
    file.take(MAX_BYTES).read_to_string(&mut text)?;
    let mut record: Value = serde_json::from_str(&text)?;
    record.pointer_mut("/conntally/status").map(Value::take).ok_or(io::ErrorKind::InvalidData.into())
}

fn replace(path: &Path, record: &Value) -> io::Result<()> {
    let beside = path.with_extension("new");
    match fs::remove_file(&beside) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&beside)?;
    writeln!(file, "{record}")?;
    fs::rename(&beside, path)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::audit::{Auditor, Evidence};

    #[test]
    fn a_running_agent_is_found_and_one_that_ended_or_was_killed_is_not() {
        let dir = tempfile::tempdir().unwrap();
        let statement = Auditor::default().audit(&Evidence::default());
        let mut file = StatusFile::new(dir.path(), "gw1", "source=bpf");
        let longest_runs = Some(LongestRuns { sweep_ns: 301_200, walk_ns: 5_000 });
        let gauges = Gauges { real_ns: 0, live_flows: 12, offloaded_uncounted: 3, longest_runs };
        file.write(&statement, None, gauges, false);
        let agents = running(dir.path()).unwrap();
        assert_eq!(agents.len(), 1);
        assert_eq!(
            (agents[0]["pid"].as_u64(), agents[0]["whole"].as_bool()),
            (Some(std::process::id().into()), Some(true))
        );
        let gauge = |key: &str| agents[0][key].as_u64();
        assert_eq!((gauge("live_flows"), gauge("offloaded_uncounted")), (Some(12), Some(3)));
        let longest = (gauge("longest_sweep_run_us"), gauge("longest_walk_run_us"));
        assert_eq!(longest, (Some(302), Some(5)), "never told shorter than it was");
        let window = Auditor::default().turn_window(&statement);
        file.write(&statement, Some(&window), gauges, true);
        assert_eq!(running(dir.path()).unwrap(), Vec::<Value>::new());

        let killed = dir.path().join("status.1.json");
        let status = json!({ "updated_boot_ns": 1, "final": false });
        replace(&killed, &record(&status, "gw1", 0)).unwrap();
        assert_eq!(running(dir.path()).unwrap().len(), 0);
        StatusFile::new(dir.path(), "gw1", "");
        assert!(!killed.exists());
    }

    #[test]
    fn an_old_file_that_says_nothing_is_removed_and_a_new_one_is_not() {
        let dir = tempfile::tempdir().unwrap();
        let (old, new) = (dir.path().join("status.5.json"), dir.path().join("status.6.json"));
        for path in [&old, &new] {
            fs::write(path, "{").unwrap();
        }
        let long_ago = std::time::SystemTime::now() - std::time::Duration::from_secs(61);
        fs::File::options().write(true).open(&old).unwrap().set_modified(long_ago).unwrap();
        StatusFile::new(dir.path(), "gw1", "");
        assert_eq!((old.exists(), new.exists()), (false, true));
    }

    #[test]
    fn nonsense_and_links_in_the_directory_do_no_harm() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("status.5.json"), "{").unwrap();
        fs::write(dir.path().join("agents.lock"), "").unwrap();
        std::os::unix::fs::symlink("/dev/zero", dir.path().join("status.6.json")).unwrap();
        assert_eq!(running(dir.path()).unwrap().len(), 0);
        assert_eq!(running(&dir.path().join("absent")).unwrap().len(), 0);
    }
}
