//! A name that the resolver knows, or does not.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use nix::mount::{MsFlags, mount};

use crate::proxy::NAME;

/// Nobody listens there for questions.
const NO_SERVER: &str = "nameserver 127.0.0.1\noptions timeout:1 attempts:1\n";

/// The host's file of names as the calling thread and its children see it.
#[derive(Debug)]
pub(super) struct Names(PathBuf);

impl Names {
    /// Replaces it, in a mount namespace of the thread's own.
    ///
    /// # Errors
    /// When that cannot be done, which takes root.
    pub(super) fn replace(folder: &Path) -> Result<Self> {
        let names = Self(folder.join("hosts"));
        names.know(true)?;
        let resolver = folder.join("resolv.conf");
        fs::write(&resolver, NO_SERVER)?;
        for (own, of_host) in [(&names.0, "/etc/hosts"), (&resolver, "/etc/resolv.conf")] {
            mount(Some(own), of_host, None::<&str>, MsFlags::MS_BIND, None::<&str>)
                .with_context(|| format!("cannot mount over {of_host}"))?;
        }
        Ok(names)
    }

    /// Whether the proxy's name is known from now on.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub(super) fn know(&self, is_known: bool) -> Result<()> {
        let line = if is_known { format!("127.0.0.1 {NAME}\n") } else { String::new() };
        // The same file: a new one would not be mounted.
        fs::write(&self.0, format!("127.0.0.1 localhost\n{line}"))
            .with_context(|| format!("cannot write {}", self.0.display()))
    }
}
