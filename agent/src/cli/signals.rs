//! Signals that end the agent: the first asks for an orderly shutdown, the second ends it at once.

use super::logging;
use nix::sys::signal::{SigSet, Signal};
use std::time::{Duration, Instant};
use std::{io, process, thread};
use tokio::sync::watch;

/// Signals that come so shortly after the first are the same request: `timeout` and a terminal signal a process and its
/// group one after the other.
const SAME_REQUEST: Duration = Duration::from_millis(200);

/// How long the second signal waits for its line in the log: who reads that may be what holds up the shutdown.
const TELLING: Duration = Duration::from_millis(100);

const ENDING: [Signal; 3] = [Signal::SIGINT, Signal::SIGTERM, Signal::SIGHUP];

/// Tells when the agent was asked to stop.
#[derive(Clone, Debug)]
pub(super) struct Stop(watch::Receiver<Option<&'static str>>);

impl Stop {
    /// Waits until a signal came, and names it. Cancel safe.
    pub(super) async fn requested(&mut self) -> &'static str {
        match self.0.wait_for(Option::is_some).await {
            Ok(name) => name.unwrap_or_default(),
            // The thread that holds the other end lives as long as the process.
            Err(_) => std::future::pending().await,
        }
    }
}

/// Starts to watch for signals. To be called before any other thread exists: the signals are blocked in the calling
/// thread and in all that it starts, and only a thread of ours takes them. So the second signal works even when
/// every thread of the runtime is busy.
///
/// # Errors
/// When the signals cannot be blocked or the thread cannot be started.
pub(super) fn watch() -> io::Result<Stop> {
    let set: SigSet = ENDING.into_iter().collect();
    set.thread_block()?;
    let (sender, receiver) = watch::channel(None);
    thread::Builder::new().name("signals".into()).spawn(move || wait(set, &sender))?;
    Ok(Stop(receiver))
}

fn wait(set: SigSet, stop: &watch::Sender<Option<&'static str>>) {
    let mut first = None;
    loop {
        let Ok(signal) = set.wait() else { continue };
        if first.get_or_insert_with(Instant::now).elapsed() > SAME_REQUEST {
            tracing::error!(
                "{signal} while shutting down: ends at once; what is not written or delivered is lost, and settings \
                 that were changed stay until the next agent ends"
            );
            logging::flush(TELLING);
            process::exit(128 + signal as i32);
        }
        stop.send_replace(Some(signal.as_str()));
    }
}
