//! How long an agent takes from its start to its `ready` line, then to its first record.

use std::io::{BufRead, BufReader, Read};
use std::net::{Ipv4Addr, UdpSocket};
use std::path::Path;
use std::process::Stdio;
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use nix::sys::signal::Signal;
use serde::Serialize;

use crate::agent::{Hook, Options, Process, READY_WITHIN, STOP_WITHIN};

/// Between two new flows: the error of the time to the first record.
const PAUSE: Duration = Duration::from_millis(5);

/// Milliseconds of this machine's clock since the agent was started.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Times {
    /// To its `ready` line.
    pub ready_ms: f64,
    /// To the first line on its standard output.
    pub first_record_ms: f64,
}

/// Runs `conntally run --track` in this network namespace while new flows begin on its loopback.
///
/// # Errors
/// When the agent does not start, is not ready or writes no record in time, or does not end well.
pub fn measure(program: &Path, hook: Hook) -> Result<Times> {
    let options = Options { program: program.to_owned(), hook, environment: Vec::new() };
    let mut command = options.command("json");
    command.arg("--track").stdout(Stdio::piped()).stderr(Stdio::piped());
    let started = Instant::now();
    let mut process = Process::spawn(&mut command, program)?;
    let stdout = process.child.stdout.take().context("the agent has no standard output")?;
    let stderr = process.child.stderr.take().context("the agent has no standard error")?;
    let record = first_line(stdout, |_| true);
    let ready = first_line(stderr, |line| line.starts_with("ready"));
    let first_record = while_flows_begin(&record).context("no record came")?;
    let ready = ready.recv_timeout(READY_WITHIN).context("the agent did not become ready")?;
    process.signal(Signal::SIGTERM)?;
    let status = process.wait(STOP_WITHIN)?;
    ensure!(status.success(), "the agent ended with {status}");
    Ok(Times {
        ready_ms: milliseconds(ready - started),
        first_record_ms: milliseconds(first_record - started),
    })
}

/// When the first line came that is `wanted`. Reads on to the end, so that the agent can write on.
fn first_line(from: impl Read + Send + 'static, wanted: fn(&str) -> bool) -> Receiver<Instant> {
    let (say, told) = channel();
    thread::spawn(move || {
        let mut say = Some(say);
        for line in BufReader::new(from).lines().map_while(Result::ok) {
            if wanted(&line)
                && let Some(say) = say.take()
            {
                // Nobody may wait any more.
                let _ = say.send(Instant::now());
            }
        }
    });
    told
}

/// Begins a flow after the other until the agent has written.
fn while_flows_begin(record: &Receiver<Instant>) -> Result<Instant> {
    let deadline = Instant::now() + READY_WITHIN;
    loop {
        let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).context("cannot make traffic")?;
        // To itself, so that the kernel has nobody to complain to.
        socket.send_to(&[0; 64], socket.local_addr()?).context("cannot make traffic")?;
        match record.recv_timeout(PAUSE) {
            Err(RecvTimeoutError::Timeout) if Instant::now() < deadline => {}
            told => return Ok(told?),
        }
    }
}

fn milliseconds(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1000.0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_wanted_line_is_told_once() {
        let told = first_line(&b"reading\nready a\nready b\n"[..], |line| line.starts_with("ready"));
        assert!(told.recv().is_ok());
        assert!(told.recv().is_err());
    }

    #[test]
    fn an_end_without_the_wanted_line_is_noticed() {
        assert!(first_line(&b"reading\n"[..], |line| line.starts_with("ready")).recv().is_err());
    }
}
