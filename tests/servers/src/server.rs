//! A server that runs: started, found ready, stopped, killed, started again on the same data.

use std::fs;
use std::io;
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::process::{CommandExt as _, ExitStatusExt as _};
use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::kind::{Access, Kind, Place};
use crate::ports::free_ports;
use crate::shell;

const POLL: Duration = Duration::from_millis(50);

/// Servers write what they hold when they are asked to stop.
const STOPS_WITHIN: Duration = Duration::from_secs(30);

/// A server, stopped when dropped.
pub struct Server {
    kind: &'static dyn Kind,
    place: Place,
    access: Access,
    log: PathBuf,
    child: Option<Child>,
}

impl Server {
    /// Starts a built server with its data below a folder of its own, and waits until it is ready.
    ///
    /// # Errors
    /// When it does not start; the message has the end of its log.
    pub fn start(kind: &'static dyn Kind, installed: &Path, home: &Path, settings: &[&str]) -> Result<Self> {
        fs::create_dir_all(home).with_context(|| format!("cannot create {}", home.display()))?;
        // One of them runs as another user.
        fs::set_permissions(home, fs::Permissions::from_mode(0o755))?;
        let place = Place {
            installed: installed.to_owned(),
            home: home.to_owned(),
            port: free_ports(kind.ports())?,
            settings: settings.iter().map(|&setting| setting.to_owned()).collect(),
        };
        let log = home.with_extension("log");
        let mut server = Self { kind, place, access: Access::new(), log, child: None };
        server.resume()?;
        server.access = server.kind.prepare(&server.place).context("it runs, but cannot be set up")?;
        Ok(server)
    }

    /// What a client has to know.
    #[must_use]
    pub const fn access(&self) -> &Access {
        &self.access
    }

    /// What it is.
    #[must_use]
    pub const fn kind(&self) -> &'static dyn Kind {
        self.kind
    }

    /// Where it is.
    #[must_use]
    pub const fn place(&self) -> &Place {
        &self.place
    }

    /// What it said.
    #[must_use]
    pub fn log(&self) -> &Path {
        &self.log
    }

    /// The process, while it runs.
    #[must_use]
    pub fn pid(&self) -> Option<u32> {
        self.child.as_ref().map(Child::id)
    }

    /// Starts it again after [`Server::stop`] or [`Server::kill`], with its data and ports.
    ///
    /// # Errors
    /// See [`Server::start`].
    pub fn resume(&mut self) -> Result<()> {
        let to = shell::append(&self.log)?;
        let mut command = self.kind.command(&self.place)?;
        // A group of its own: Ctrl-C is for whoever started it.
        command.stdin(Stdio::null()).stdout(to.try_clone()?).stderr(to).process_group(0);
        let name = self.kind.name();
        self.child = Some(command.spawn().with_context(|| format!("cannot start {name}"))?);
        self.wait_until_ready()
    }

    /// Asks it to stop and waits for it.
    ///
    /// # Errors
    /// When it does not; it is killed then.
    pub fn stop(&mut self) -> Result<()> {
        let Some(mut child) = self.child.take() else { return Ok(()) };
        signal(&child, Signal::SIGTERM)?;
        let deadline = Instant::now() + STOPS_WITHIN;
        while Instant::now() < deadline {
            if child.try_wait()?.is_some() {
                return Ok(());
            }
            sleep(POLL);
        }
        child.kill()?;
        child.wait()?;
        bail!("{} did not stop in {} s and was killed", self.kind.name(), STOPS_WITHIN.as_secs())
    }

    /// Stops it for good, and removes its data and what it said.
    ///
    /// # Errors
    /// When it does not stop, or something cannot be removed.
    pub fn discard(mut self) -> Result<()> {
        self.stop()?;
        remove(&self.place.home, &self.log)
    }

    /// Where somebody looks who wants to know why a test with it failed.
    #[must_use]
    pub fn remains(&self) -> String {
        format!("the data of {} stay in {}", self.kind.name(), self.place.home.display())
            + &format!(", what it said in {}", self.log.display())
    }

    /// Ends it as a crash would.
    ///
    /// # Errors
    /// When it cannot be signalled.
    pub fn kill(&mut self) -> Result<()> {
        let Some(mut child) = self.child.take() else { return Ok(()) };
        signal_all(&child, Signal::SIGKILL)?;
        child.wait()?;
        Ok(())
    }

    /// Holds it without ending it, as a machine would that has too much to do.
    ///
    /// # Errors
    /// When it cannot be signalled.
    pub fn freeze(&self) -> Result<()> {
        self.child.as_ref().map_or(Ok(()), |child| signal_all(child, Signal::SIGSTOP))
    }

    /// Lets it go on after [`Server::freeze`].
    ///
    /// # Errors
    /// When it cannot be signalled.
    pub fn thaw(&self) -> Result<()> {
        self.child.as_ref().map_or(Ok(()), |child| signal_all(child, Signal::SIGCONT))
    }

    /// Lets it run on when this is dropped.
    pub(crate) fn leave(&mut self) {
        self.child = None;
    }

    fn wait_until_ready(&mut self) -> Result<()> {
        let deadline = Instant::now() + self.kind.starts_within();
        while !self.kind.is_ready(&self.place) {
            let Some(child) = &mut self.child else { bail!("{} does not run", self.kind.name()) };
            if let Some(status) = child.try_wait()? {
                let how =
                    status.signal().map_or_else(|| status.to_string(), |signal| format!("signal {signal}"));
                bail!("{} ended at once ({how}): {}", self.kind.name(), self.last_words());
            }
            if Instant::now() > deadline {
                bail!("{} is not ready: {}", self.kind.name(), self.last_words());
            }
            sleep(POLL);
        }
        Ok(())
    }

    fn last_words(&self) -> String {
        format!("the end of {}:\n{}", self.log.display(), shell::last_lines(&self.log))
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // Nobody is there to be told.
        drop(self.stop());
    }
}

impl std::fmt::Debug for Server {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Server").field("name", &self.kind.name()).field("place", &self.place).finish()
    }
}

/// Removes what a server had, as far as it is there.
pub(crate) fn remove(home: &Path, log: &Path) -> Result<()> {
    let is_gone = |error: &io::Error| error.kind() == io::ErrorKind::NotFound;
    for (path, removed) in [(home, fs::remove_dir_all(home)), (log, fs::remove_file(log))] {
        match removed {
            Err(error) if !is_gone(&error) => {
                return Err(error).with_context(|| format!("cannot remove {}", path.display()));
            }
            _ => {}
        }
    }
    Ok(())
}

fn signal(child: &Child, signal: Signal) -> Result<()> {
    kill(Pid::from_raw(i32::try_from(child.id())?), signal).context("cannot signal the server")
}

/// Signals its group: the real distribution of Elasticsearch has a launcher that waits for the server.
fn signal_all(child: &Child, signal: Signal) -> Result<()> {
    kill(Pid::from_raw(-i32::try_from(child.id())?), signal).context("cannot signal the server")
}
