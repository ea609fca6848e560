//! Whether conntrack is there, and loading it when it is not.

use std::{fs, io, os::unix::fs::MetadataExt, path::Path};

use super::tool::tool;

/// Exists while conntrack runs, as a module or built in.
const PRESENT: &str = "/proc/sys/net/netfilter/nf_conntrack_max";

/// The module's folder in sysfs; each load makes a new one.
const FOLDER: &str = "/sys/module/nf_conntrack";

/// Which load of the module is there: a number that the next load does not have. `None` while it is not loaded.
#[must_use]
pub fn incarnation() -> Option<u64> {
    Some(fs::metadata(FOLDER).ok()?.ino())
}

/// Whether the kernel can track connections now.
#[must_use]
pub fn is_present() -> bool {
    Path::new(PRESENT).exists()
}

/// Loads the module `nf_conntrack`, by modprobe(8).
///
/// # Errors
/// When there is no modprobe, or it refuses; the error has its words.
pub fn load() -> io::Result<()> {
    let output = tool("modprobe").arg("nf_conntrack").output()?;
    if output.status.success() && is_present() {
        return Ok(());
    }
    let words = String::from_utf8_lossy(&output.stderr).trim().to_owned();
    let words = if words.is_empty() { format!("modprobe: {}", output.status) } else { words };
    Err(io::Error::other(words))
}
