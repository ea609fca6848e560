//! The agent's own log: to standard error, never into the data.

use crate::config::{Choice, LogConfig, LogFormat};
use std::io::{self, IsTerminal, Write};
use tracing_subscriber::EnvFilter;

/// Starts logging. Other crates are heard from their warnings on, and fully with `trace`.
pub(super) fn start(config: &LogConfig) {
    let builder = tracing_subscriber::fmt()
        .with_env_filter(filter(config))
        .with_writer(io::stderr)
        .with_ansi(io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none());
    // A second start (tests) keeps the first subscriber.
    let _ = match config.format {
        LogFormat::Text => builder.with_target(false).compact().try_init(),
        LogFormat::Json => builder.json().flatten_event(true).try_init(),
    };
}

fn filter(config: &LogConfig) -> EnvFilter {
    use crate::config::LogLevel::{Error, Trace};
    let others = match config.level {
        Error => "error",
        Trace => "trace",
        _ => "warn",
    };
    EnvFilter::new(format!("{others},conntally={}", config.level.name()))
}

/// Says that everything is in place. In text it is a line of its own that begins with `ready`, whatever the level,
/// so that a script can wait for `^ready`; in JSON it is a message that begins so.
pub(super) fn ready(config: &LogConfig, facts: &str) {
    match config.format {
        LogFormat::Json => tracing::info!("ready {facts}"),
        LogFormat::Text => {
            // Nobody is left to tell when standard error is closed.
            let _ = writeln!(io::stderr(), "ready {facts}");
        }
    }
}
