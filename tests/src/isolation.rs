//! A turn on a host that others use: one test at a time, with named network namespaces that nobody else sees.

use std::env;
use std::fs::{self, File};

use anyhow::{Context, Result, ensure};
use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, unshare};

/// Where `ip netns` puts its names, and where agents look for namespaces.
const NAMES: &str = "/run/netns";

/// Ends when dropped.
#[derive(Debug)]
pub struct Turn {
    _lock: File,
}

impl Turn {
    /// [`Turn::take`] for root; `None`, with the reason said, for others.
    ///
    /// # Errors
    /// Those of [`Turn::take`], and for others than root where `REQUIRE_ROOT_TESTS` says that nothing may be skipped.
    pub fn take_or_skip() -> Result<Option<Self>> {
        if nix::unistd::geteuid().is_root() {
            return Self::take().map(Some);
        }
        ensure!(
            env::var_os("REQUIRE_ROOT_TESTS").is_none(),
            "not root, and REQUIRE_ROOT_TESTS forbids to skip"
        );
        eprintln!("skipped: needs root for network namespaces and packet sockets");
        Ok(None)
    }

    /// Waits until no other test of any checkout has its turn, then gives the calling thread, its threads and its
    /// children a mount namespace with names of their own.
    ///
    /// An agent that others run on this host adopts every namespace it finds, and turns accounting on in it.
    ///
    /// # Errors
    /// When the lock or the mounts fail, which need root.
    pub fn take() -> Result<Self> {
        let path = env::temp_dir().join("conntally-tests.lock");
        let lock = File::create(&path).with_context(|| format!("cannot create {}", path.display()))?;
        lock.lock().with_context(|| format!("cannot lock {}", path.display()))?;
        hide_names()?;
        Ok(Self { _lock: lock })
    }
}

fn hide_names() -> Result<()> {
    const NO: Option<&str> = None;
    fs::create_dir_all(NAMES).with_context(|| format!("cannot create {NAMES}"))?;
    unshare(CloneFlags::CLONE_NEWNS).context("cannot make a mount namespace")?;
    mount(NO, "/", NO, MsFlags::MS_REC | MsFlags::MS_PRIVATE, NO).context("cannot make mounts private")?;
    mount(Some("tmpfs"), NAMES, Some("tmpfs"), MsFlags::empty(), NO)
        .with_context(|| format!("cannot mount over {NAMES}"))
}
