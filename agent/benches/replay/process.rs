//! What a running process has taken so far, see proc(5).

use std::fs;
use std::process::{Child, ExitStatus};
use std::thread;
use std::time::Duration;

use anyhow::Result;

const POLL: Duration = Duration::from_millis(5);

/// The most that it had or took.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Peak {
    /// Resident memory, KiB.
    pub(super) rss_kib: u64,
    /// CPU of all its threads, in ticks of the kernel.
    pub(super) cpu_ticks: u64,
}

/// Waits for a process to end.
pub(super) fn followed(process: &mut Child) -> Result<(ExitStatus, Peak)> {
    let pid = process.id();
    let mut peak = Peak::default();
    loop {
        // A process that has ended has neither.
        peak.rss_kib = highest_rss(pid).unwrap_or(peak.rss_kib);
        peak.cpu_ticks = cpu_ticks(pid).unwrap_or(peak.cpu_ticks);
        match process.try_wait()? {
            Some(status) => return Ok((status, peak)),
            None => thread::sleep(POLL),
        }
    }
}

fn highest_rss(pid: u32) -> Option<u64> {
    let text = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    text.lines().find_map(|line| line.strip_prefix("VmHWM:")?.trim().strip_suffix(" kB")?.parse().ok())
}

/// CPU of all threads of a process, in ticks of the kernel.
pub(super) fn cpu_ticks(pid: u32) -> Option<u64> {
    let text = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The name in parentheses may hold anything.
    let mut fields = text.rsplit_once(") ")?.1.split(' ');
    let user: u64 = fields.nth(11)?.parse().ok()?;
    let system: u64 = fields.next()?.parse().ok()?;
    Some(user + system)
}
