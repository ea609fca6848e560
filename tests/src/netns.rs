//! A network namespace made for a test, and removed after it.

use std::fs::{self, File};
use std::io::Write;
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;
use std::process::{Command, Output, Stdio};
use std::thread;

use anyhow::{Context, Result, anyhow, bail};
use nix::sched::{CloneFlags, setns};

/// A namespace of our own.
#[derive(Debug)]
pub struct Namespace {
    name: String,
    inode: u32,
    handle: File,
}

impl Namespace {
    /// Makes it, with its loopback up.
    ///
    /// # Errors
    /// When `ip netns add` fails, which needs root.
    pub fn create(name: String) -> Result<Self> {
        run("ip", &["netns", "add", &name])?;
        let path = PathBuf::from("/run/netns").join(&name);
        let handle = File::open(&path).with_context(|| format!("cannot open {}", path.display()))?;
        let inode = u32::try_from(handle.metadata()?.ino()).context("namespace inode above 32 bits")?;
        let namespace = Self { name, inode, handle };
        namespace.ip(&["link", "set", "lo", "up"])?;
        Ok(namespace)
    }

    /// Its name in `ip netns`.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Its inode, by which records name it.
    #[must_use]
    pub const fn inode(&self) -> u32 {
        self.inode
    }

    /// Runs `work` on a thread that lives in the namespace. Sockets made there stay in it wherever they are used.
    ///
    /// # Errors
    /// When the namespace cannot be entered, and those of `work`.
    pub fn within<T: Send>(&self, work: impl FnOnce() -> Result<T> + Send) -> Result<T> {
        let entered = || {
            setns(&self.handle, CloneFlags::CLONE_NEWNET)
                .with_context(|| format!("cannot enter namespace {}", self.name))?;
            work()
        };
        thread::scope(|scope| scope.spawn(entered).join())
            .map_err(|_| anyhow!("the work in namespace {} panicked", self.name))?
    }

    /// Runs a program inside, and returns what it printed.
    ///
    /// # Errors
    /// When it cannot be started or fails.
    pub fn exec(&self, program: &str, arguments: &[&str]) -> Result<String> {
        self.within(|| run(program, arguments))
    }

    /// Runs a program inside that has to see this namespace under `/sys`, too.
    ///
    /// # Errors
    /// When it cannot be started or fails.
    pub fn exec_with_sys(&self, program: &str, arguments: &[&str]) -> Result<String> {
        let mut all = vec!["netns", "exec", &self.name, program];
        all.extend_from_slice(arguments);
        run("ip", &all)
    }

    /// Runs `ip` for this namespace once for several commands.
    ///
    /// # Errors
    /// When one of them fails.
    pub fn ip_all(&self, commands: &[String]) -> Result<()> {
        let mut child = Command::new("ip")
            .args(["-n", &self.name, "-batch", "-"])
            .stdin(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .context("cannot start ip")?;
        let mut stdin = child.stdin.take().context("ip has no standard input")?;
        stdin.write_all(commands.join("\n").as_bytes()).context("cannot write to ip")?;
        drop(stdin);
        let output = child.wait_with_output().context("cannot wait for ip")?;
        if !output.status.success() {
            bail!(
                "`ip -batch` failed: {}: {}",
                commands.join("; "),
                String::from_utf8_lossy(&output.stderr).trim()
            );
        }
        Ok(())
    }

    /// Runs `ip` for this namespace.
    ///
    /// # Errors
    /// When it fails.
    pub fn ip(&self, arguments: &[&str]) -> Result<String> {
        let mut all = vec!["-n", &self.name];
        all.extend_from_slice(arguments);
        run("ip", &all)
    }

    /// Reads `net.netfilter.KEY`, the namespace's own.
    ///
    /// # Errors
    /// When the key does not exist here.
    pub fn netfilter_value(&self, key: &str) -> Result<String> {
        self.within(|| {
            let path = format!("/proc/sys/net/netfilter/{key}");
            let text = fs::read_to_string(&path).with_context(|| format!("cannot read {path}"))?;
            Ok(text.trim().to_owned())
        })
    }

    /// Sets `net.netfilter.KEY`, the namespace's own.
    ///
    /// # Errors
    /// When the key does not exist or is read-only here.
    pub fn netfilter(&self, key: &str, value: u64) -> Result<()> {
        self.within(|| {
            let path = format!("/proc/sys/net/netfilter/{key}");
            fs::write(&path, value.to_string()).with_context(|| format!("cannot write {path}"))
        })
    }
}

impl Drop for Namespace {
    fn drop(&mut self) {
        // Nothing can be done about a failure here; the name says whose leftover it is.
        let _ = Command::new("ip").args(["netns", "del", &self.name]).output();
    }
}

/// Runs a program to its end, and returns what it printed.
///
/// # Errors
/// When it cannot be started or fails; the message has its standard error.
pub fn run(program: &str, arguments: &[&str]) -> Result<String> {
    let Output { status, stdout, stderr } =
        Command::new(program).args(arguments).output().with_context(|| format!("cannot start {program}"))?;
    if !status.success() {
        let said = String::from_utf8_lossy(&stderr);
        bail!("`{program} {}` failed ({status}): {}", arguments.join(" "), said.trim());
    }
    Ok(String::from_utf8_lossy(&stdout).into_owned())
}
