//! A running agent: started as a user would, its records and its log gathered, stopped by a signal.

use std::collections::HashSet;
use std::io::{BufRead, BufReader, Read};
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, bail};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::audit::Audit;
use crate::key::Totals;
use crate::records::Records;

/// An emulated guest takes its time to read the kernel's types and to load programs.
pub(crate) const READY_WITHIN: Duration = Duration::from_secs(60);

/// The agent promises an orderly shutdown in 10 seconds.
pub(crate) const STOP_WITHIN: Duration = Duration::from_secs(20);

const POLL: Duration = Duration::from_millis(20);

/// How the agent gets at the kernel.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Hook {
    /// Its own choice.
    Auto,
    /// Trampolines.
    Fentry,
    /// Probes.
    Kprobe,
    /// No tracing at all: ctnetlink.
    Netlink,
}

impl Hook {
    /// Its name on the command line.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Auto => "auto",
            Self::Fentry => "fentry",
            Self::Kprobe => "kprobe",
            Self::Netlink => "netlink",
        }
    }

    const fn flags(self) -> &'static [&'static str] {
        match self {
            Self::Auto => &["--hook", "auto"],
            Self::Fentry => &["--source", "bpf", "--hook", "fentry"],
            Self::Kprobe => &["--source", "bpf", "--hook", "kprobe"],
            Self::Netlink => &["--source", "netlink"],
        }
    }
}

/// How the agent hears of flows that move.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Updates {
    /// By a hook on each packet.
    Packet,
    /// By visits to living flows, without a hook on packets.
    Sweep,
}

impl Updates {
    /// Its name in the configuration.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Packet => "packet",
            Self::Sweep => "sweep",
        }
    }
}

/// How to start an agent.
#[derive(Clone, Debug)]
pub struct Options {
    /// The binary.
    pub program: PathBuf,
    /// How it gets at the kernel.
    pub hook: Hook,
    /// Configuration keys as variables of the environment.
    pub environment: Vec<(&'static str, &'static str)>,
}

impl Options {
    /// The command that runs the agent with this output format and its defaults, whatever is configured here.
    #[must_use]
    pub fn command(&self, output: &str) -> Command {
        let mut command = Command::new(&self.program);
        command.args(["run", "--config", "/dev/null", "--output", output]);
        self.complete(command)
    }

    /// The command that runs it with the sinks of a configuration.
    #[must_use]
    pub fn configured(&self, configuration: &Path) -> Command {
        let mut command = Command::new(&self.program);
        command.arg("run").arg("--config").arg(configuration);
        self.complete(command)
    }

    fn complete(&self, mut command: Command) -> Command {
        command.args(self.hook.flags());
        for (name, _) in std::env::vars_os() {
            if name.as_encoded_bytes().starts_with(b"CONNTALLY_") {
                command.env_remove(name);
            }
        }
        command.envs(self.environment.iter().copied()).env("NO_COLOR", "1").stdin(Stdio::null());
        command
    }
}

/// An agent that is ready. Stopped when dropped, if need be by force.
#[derive(Debug)]
pub struct Agent {
    process: Process,
    output: Arc<Mutex<Output>>,
    readers: Vec<JoinHandle<()>>,
    /// Its line that begins with `ready`.
    pub ready_line: String,
    /// From its start to that line.
    pub ready_after: Duration,
}

/// What an agent has said.
#[derive(Debug, Default)]
pub struct Output {
    /// Its records, read.
    pub records: Records,
    /// Its records as they came.
    pub lines: Vec<String>,
    /// Its log.
    pub log: Vec<String>,
    /// Lines that an agent before it had written already, word for word; they count once.
    pub repeated: usize,
    /// What agents before it had said of this, if any.
    pub earlier: Option<Earlier>,
    /// Whether it was killed.
    pub was_killed: bool,
}

/// What agents had said when the next one started.
#[derive(Clone, Copy, Debug)]
pub struct Earlier {
    /// What their records billed.
    pub billed: Totals,
    /// Lines of their logs.
    pub log: usize,
    /// Whether the last of them was killed, so that the next one may hand on some records that it did not draw up.
    pub was_killed: bool,
}

impl Output {
    /// What the next agent adds to.
    fn handed_on(self) -> Self {
        let Self { records, log, was_killed, .. } = &self;
        let earlier = Earlier { billed: records.billed(), log: log.len(), was_killed: *was_killed };
        let is_first = self.lines.is_empty() && self.log.is_empty();
        Self { earlier: (!is_first).then_some(earlier), was_killed: false, ..self }
    }

    /// The log of the last agent alone.
    pub fn last_log(&self) -> &[String] {
        self.log.get(self.earlier.map_or(0, |earlier| earlier.log)..).unwrap_or_default()
    }
}

/// What is left of an agent that has ended.
#[derive(Debug)]
pub struct Ended {
    /// How it ended.
    pub status: ExitStatus,
    /// Everything it said.
    pub output: Output,
}

impl Ended {
    /// The audit at its end, by agents that give one. It covers the time of one agent.
    #[must_use]
    pub fn audit(&self) -> Option<Audit> {
        Audit::of_log(self.output.last_log())
    }

    /// What the agent said at its end that it had lost of this kind; 0 when it named no such loss.
    #[must_use]
    pub fn lost(&self, reason: &str) -> u64 {
        let told = self.output.log.iter().rev().find(|line| line.contains("account: "));
        told.and_then(|line| figure(line, reason)).unwrap_or(0)
    }

    /// Lines of its log that tell of a loss or of a fault of its own.
    pub fn alarms(&self) -> impl Iterator<Item = &String> {
        self.output.log.iter().filter(|line| line.contains("ERROR") || line.contains("panicked"))
    }
}

/// The number after a word.
fn figure(line: &str, name: &str) -> Option<u64> {
    let mut words = line.split_whitespace();
    words.find(|word| *word == name)?;
    words.next()?.trim_end_matches(',').parse().ok()
}

impl Agent {
    /// Starts it and waits until it is ready.
    ///
    /// # Errors
    /// When it cannot be started, ends, or is not ready in time; with its log.
    pub fn start(options: &Options) -> Result<Self> {
        Self::start_after(Output::default(), options.command("json"), &options.program)
    }

    /// Starts the one that goes on where another ended, which had said `earlier`.
    ///
    /// # Errors
    /// See [`Agent::start`].
    pub fn start_after(earlier: Output, command: Command, program: &Path) -> Result<Self> {
        let started = Instant::now();
        let (mut agent, ready) = Self::spawn(earlier, command, program)?;
        agent.ready_line = await_ready(&ready, &agent.output)?;
        agent.ready_after = started.elapsed();
        Ok(agent)
    }

    /// Starts one likewise and kills it so long after, ready or not. Returns what was said by then.
    ///
    /// # Errors
    /// When it cannot be started, or has ended by itself; with its log.
    pub fn start_and_kill(
        earlier: Output,
        command: Command,
        program: &Path,
        after: Duration,
    ) -> Result<Output> {
        let (mut agent, _ready) = Self::spawn(earlier, command, program)?;
        thread::sleep(after);
        let Ended { status, output } = agent.kill()?;
        if status.signal().is_none() {
            bail!("the agent ended with {status} while it started; its log:\n{}", output.log.join("\n"));
        }
        Ok(output)
    }

    /// It may say that it is ready some time.
    fn spawn(earlier: Output, mut command: Command, program: &Path) -> Result<(Self, Receiver<String>)> {
        // Ctrl-C is for whoever started it, who stops it in good order.
        command.process_group(0).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut process = Process::spawn(&mut command, program)?;
        let output = Arc::new(Mutex::new(earlier.handed_on()));
        let (say_ready, ready) = channel();
        let stdout = process.child.stdout.take().context("the agent has no standard output")?;
        let stderr = process.child.stderr.take().context("the agent has no standard error")?;
        let readers = vec![read_records(stdout, &output), read_log(stderr, &output, say_ready)];
        let (ready_line, ready_after) = (String::new(), Duration::ZERO);
        Ok((Self { process, output, readers, ready_line, ready_after }, ready))
    }

    /// What it has said so far.
    pub fn output(&self) -> MutexGuard<'_, Output> {
        lock(&self.output)
    }

    /// Waits until `done` says so of the records; `false` when that took too long.
    pub fn wait(&self, within: Duration, done: impl Fn(&Records) -> bool) -> bool {
        let deadline = Instant::now() + within;
        loop {
            if done(&self.output().records) {
                return true;
            }
            if Instant::now() > deadline {
                return false;
            }
            thread::sleep(POLL);
        }
    }

    /// Its process.
    #[must_use]
    pub fn id(&self) -> u32 {
        self.process.child.id()
    }

    /// Stops it from running until [`Agent::resume`].
    ///
    /// # Errors
    /// When the process is gone.
    pub fn pause(&self) -> Result<()> {
        self.process.signal(Signal::SIGSTOP)
    }

    /// Lets it go on.
    ///
    /// # Errors
    /// When the process is gone.
    pub fn resume(&self) -> Result<()> {
        self.process.signal(Signal::SIGCONT)
    }

    /// Sends SIGTERM, waits for the end, and hands out what the agent said; to be called once.
    ///
    /// # Errors
    /// When it does not end in time.
    pub fn stop(&mut self) -> Result<Ended> {
        self.end(Signal::SIGTERM)
    }

    /// Kills it, waits for the end, and hands out what the agent said; to be called once. A last line that it could
    /// not write whole is left out.
    ///
    /// # Errors
    /// When it does not end in time.
    pub fn kill(&mut self) -> Result<Ended> {
        let mut ended = self.end(Signal::SIGKILL)?;
        let Output { records, lines, .. } = &mut ended.output;
        if lines.last().is_some_and(|line| serde_json::from_str::<serde_json::Value>(line).is_err()) {
            lines.pop();
            records.bad_lines.pop();
        }
        ended.output.was_killed = true;
        Ok(ended)
    }

    fn end(&mut self, signal: Signal) -> Result<Ended> {
        self.process.signal(signal)?;
        let status = self.process.wait(STOP_WITHIN)?;
        for reader in self.readers.drain(..) {
            reader.join().map_err(|_| anyhow!("a reader of the agent's output panicked"))?;
        }
        let output = std::mem::take(&mut *lock(&self.output));
        Ok(Ended { status, output })
    }
}

impl Drop for Agent {
    /// A scenario that breaks off must not leave its agent's traces to the next one.
    fn drop(&mut self) {
        if matches!(self.process.child.try_wait(), Ok(None)) {
            // It is killed in any case.
            let _ = self.process.signal(Signal::SIGTERM).and_then(|()| self.process.signal(Signal::SIGCONT));
            let _ = self.process.wait(STOP_WITHIN);
        }
    }
}

/// A child that is killed when dropped.
#[derive(Debug)]
pub struct Process {
    /// The child.
    pub child: Child,
}

impl Process {
    /// Starts it.
    ///
    /// # Errors
    /// When it cannot be started.
    pub fn spawn(command: &mut Command, program: &Path) -> Result<Self> {
        let child = command.spawn().with_context(|| format!("cannot start {}", program.display()))?;
        Ok(Self { child })
    }

    /// Sends a signal.
    ///
    /// # Errors
    /// When the process is gone.
    pub fn signal(&self, signal: Signal) -> Result<()> {
        let pid = i32::try_from(self.child.id()).context("process id out of range")?;
        kill(Pid::from_raw(pid), signal).context("cannot signal the agent")
    }

    /// Waits for its end.
    ///
    /// # Errors
    /// When it does not end in time.
    pub fn wait(&mut self, within: Duration) -> Result<ExitStatus> {
        let deadline = Instant::now() + within;
        while Instant::now() < deadline {
            if let Some(status) = self.child.try_wait()? {
                return Ok(status);
            }
            thread::sleep(POLL);
        }
        bail!("the agent did not end within {} s", within.as_secs())
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        if !matches!(self.child.try_wait(), Ok(Some(_))) {
            let _ = self.child.kill();
            let _ = self.child.wait();
        }
    }
}

fn read_records(stdout: impl Read + Send + 'static, output: &Arc<Mutex<Output>>) -> JoinHandle<()> {
    let output = Arc::clone(output);
    let earlier: HashSet<String> = lock(&output).lines.iter().cloned().collect();
    let (pass, lines) = channel();
    thread::spawn(move || {
        for line in BufReader::new(stdout).lines().map_while(Result::ok) {
            // The other thread ends after this one.
            let _ = pass.send(line);
        }
    });
    // The agent must not wait until its records are understood.
    thread::spawn(move || {
        for line in lines {
            let mut output = lock(&output);
            if earlier.contains(&line) {
                output.repeated += 1;
                continue;
            }
            output.records.add_line(&line);
            output.lines.push(line);
        }
    })
}

fn read_log(
    stderr: impl Read + Send + 'static,
    output: &Arc<Mutex<Output>>,
    say_ready: Sender<String>,
) -> JoinHandle<()> {
    let output = Arc::clone(output);
    thread::spawn(move || {
        for line in BufReader::new(stderr).lines().map_while(Result::ok) {
            if line.starts_with("ready") {
                // Nobody waits for a second one.
                let _ = say_ready.send(line.clone());
            }
            lock(&output).log.push(line);
        }
    })
}

/// The sender is dropped when the agent closes its standard error, so its death is noticed at once.
fn await_ready(ready: &Receiver<String>, output: &Arc<Mutex<Output>>) -> Result<String> {
    ready.recv_timeout(READY_WITHIN).map_err(|cause| {
        let log = lock(output).log.join("\n");
        anyhow!("the agent did not become ready ({cause}); its log:\n{log}")
    })
}

fn lock(output: &Arc<Mutex<Output>>) -> MutexGuard<'_, Output> {
    output.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_loss_is_read_from_the_account() {
        let line = "2026-11-21T08:00:00Z  WARN account: lost end_lost 12, no_slot 3 flows=5 ends=4";
        assert_eq!(figure(line, "end_lost"), Some(12));
        assert_eq!(figure(line, "no_slot"), Some(3));
        assert_eq!(figure(line, "hook_skipped"), None);
    }
}
