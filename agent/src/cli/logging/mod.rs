//! The agent's own log: to standard error, never into the data.

mod queue;

use crate::config::{Choice, LogConfig, LogFormat};
use nix::sys::signal::SigSet;
use queue::Queue;
use std::io::{self, IsTerminal, Write};
use std::thread;
use std::time::Duration;
use tracing_subscriber::EnvFilter;

/// The target of the line that is logged whatever the level.
const READY: &str = "conntally::ready";

static LINES: Queue = Queue::new();

/// Starts logging. Other crates are heard from their warnings on, and fully with `trace`.
///
/// # Errors
/// When the thread that writes cannot be started.
pub(super) fn start(config: &LogConfig) -> io::Result<()> {
    let builder = tracing_subscriber::fmt()
        .with_env_filter(filter(config))
        .with_writer(|| Line)
        .with_ansi(io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none());
    let started = match config.format {
        LogFormat::Text => builder.with_target(false).compact().try_init(),
        LogFormat::Json => builder.json().flatten_event(true).try_init(),
    };
    // A second start (tests) keeps the first subscriber.
    if started.is_ok() { start_writing() } else { Ok(()) }
}

/// The thread takes no signal: those that end the agent have one of their own.
fn start_writing() -> io::Result<()> {
    let before = SigSet::all().thread_swap_mask(nix::sys::signal::SigmaskHow::SIG_BLOCK)?;
    let thread = thread::Builder::new().name("log".into()).spawn(|| {
        loop {
            let left_out = LINES.write_next(&mut io::stderr());
            if left_out > 0 {
                tracing::warn!(
                    "standard error was not read in time: {left_out} lines of this log were left out"
                );
            }
        }
    });
    before.thread_set_mask()?;
    thread.map(drop)
}

/// Waits until what was logged is written, as the process is about to end; no longer than so, as nobody may read it.
pub(super) fn flush(longest: Duration) {
    LINES.flush(longest);
}

/// What a line of the log is formatted into.
struct Line;

impl Write for Line {
    /// One call is one line.
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        LINES.push(line.to_vec());
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn filter(config: &LogConfig) -> EnvFilter {
    use crate::config::LogLevel::{Error, Trace};
    let others = match config.level {
        Error => "error",
        Trace => "trace",
        _ => "warn",
    };
    EnvFilter::new(format!("{others},conntally={},{READY}=info", config.level.name()))
}

/// Says that everything is in place, whatever the level. In text it is a line of its own that begins with `ready`, so
/// that a script can wait for `^ready`; in JSON it is a message that begins so.
pub(super) fn ready(config: &LogConfig, facts: &str) {
    match config.format {
        LogFormat::Json => tracing::info!(target: READY, "ready {facts}"),
        LogFormat::Text => LINES.push(format!("ready {facts}\n").into_bytes()),
    }
}
