//! The agent under test: replays a recording, or follows live traffic, into the sinks of a configuration.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

const READ_TO_ITS_END: &str = "the recording was read to its end";
const POLL: Duration = Duration::from_millis(10);

/// A log may be long.
const LOOK_EVERY: Duration = Duration::from_millis(250);

/// A live agent reads the kernel's table before it is ready, and where it follows another one, what that left.
const READY_WITHIN: Duration = Duration::from_secs(60);

/// An agent that runs; killed when dropped.
#[derive(Debug)]
pub struct Agent {
    child: Child,
    log: PathBuf,
    output: PathBuf,
}

/// What an agent left.
#[derive(Debug)]
pub struct Ended {
    /// Whether its exit code was 0.
    pub success: bool,
    /// Its log.
    pub log: String,
    /// Its standard output.
    pub output: String,
}

impl Agent {
    /// Starts it. Log and output go below the folder.
    ///
    /// # Errors
    /// When it cannot be started.
    pub fn replay(program: &Path, recording: &Path, configuration: &Path, folder: &Path) -> Result<Self> {
        let mut command = Command::new(program);
        command.arg("replay").arg(recording);
        Self::spawn(command, configuration, folder)
    }

    /// Starts one that follows live traffic by netlink with its state in a directory, and waits until it does.
    ///
    /// # Errors
    /// When it cannot be started or is not ready in time; the message has its log.
    pub fn live(program: &Path, state: &Path, configuration: &Path, folder: &Path) -> Result<Self> {
        let mut command = Command::new(program);
        command.args(["run", "--source", "netlink", "--state-dir"]).arg(state);
        let mut agent = Self::spawn(command, configuration, folder)?;
        let deadline = Instant::now() + READY_WITHIN;
        while !agent.log().lines().any(|line| line.starts_with("ready")) {
            if agent.child.try_wait()?.is_some() || Instant::now() > deadline {
                bail!("the agent does not become ready; its log:\n{}", agent.log());
            }
            sleep(POLL);
        }
        Ok(agent)
    }

    fn spawn(mut command: Command, configuration: &Path, folder: &Path) -> Result<Self> {
        let (log, output) = (folder.join("agent.log"), folder.join("agent.out"));
        let child = command
            .arg("-vv")
            .arg("--config")
            .arg(configuration)
            .env("NO_COLOR", "1")
            .stdin(Stdio::null())
            .stdout(File::create(&output)?)
            .stderr(File::create(&log)?)
            .spawn()
            .with_context(|| format!("cannot start {}", command.get_program().display()))?;
        Ok(Self { child, log, output })
    }

    /// Its log so far.
    #[must_use]
    pub fn log(&self) -> String {
        text(&self.log)
    }

    /// Asks it to stop.
    ///
    /// # Errors
    /// When it cannot be signalled.
    pub fn terminate(&self) -> Result<()> {
        let pid = Pid::from_raw(i32::try_from(self.child.id())?);
        kill(pid, Signal::SIGTERM).context("cannot signal the agent")
    }

    /// Waits for its end. A replay that has read its recording is asked to stop: some sink may never deliver.
    ///
    /// # Errors
    /// When it does not end in time; the message has its log.
    pub fn wait(mut self, within: Duration) -> Result<Ended> {
        let deadline = Instant::now() + within;
        let mut look_at = Instant::now() + LOOK_EVERY;
        let status = loop {
            if let Some(status) = self.child.try_wait()? {
                break status;
            }
            if Instant::now() > deadline {
                bail!("the agent did not end in {} s; its log:\n{}", within.as_secs(), self.log());
            }
            if Instant::now() > look_at {
                // Asked once.
                let is_read = self.log().contains(READ_TO_ITS_END);
                look_at = if is_read { deadline + LOOK_EVERY } else { Instant::now() + LOOK_EVERY };
                if is_read {
                    self.terminate()?;
                }
            }
            sleep(POLL);
        };
        Ok(Ended { success: status.success(), log: self.log(), output: text(&self.output) })
    }
}

impl Drop for Agent {
    fn drop(&mut self) {
        // It may have ended.
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

fn text(file: &Path) -> String {
    String::from_utf8_lossy(&fs::read(file).unwrap_or_default()).into_owned()
}
