//! The BTF of the running kernel, as files.

use std::fs::File;
use std::io::{self, Read};

use super::{Btf, BtfError, Bytes};

/// The types of the kernel image (since Linux 5.4, `CONFIG_DEBUG_INFO_BTF`).
pub const VMLINUX: &str = "/sys/kernel/btf/vmlinux";

/// The types of conntrack when it is a loaded module (since Linux 5.11, `CONFIG_DEBUG_INFO_BTF_MODULES`).
pub const MODULE: &str = "/sys/kernel/btf/nf_conntrack";

/// Why a kernel's BTF is not to be had.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// The kernel was built without, or the module is not loaded.
    #[error("{path} does not exist")]
    Absent {
        /// The file.
        path: &'static str,
    },
    /// It exists and cannot be read.
    #[error("cannot read {path}: {cause}")]
    Io {
        /// The file.
        path: &'static str,
        /// What went wrong.
        #[source]
        cause: io::Error,
    },
    /// What is in it makes no sense.
    #[error("{path}: {cause}")]
    Content {
        /// The file.
        path: &'static str,
        /// What is wrong.
        #[source]
        cause: BtfError,
    },
}

/// Reads the BTF of the kernel image.
///
/// # Errors
/// When there is none, or it cannot be read.
pub fn read_vmlinux() -> Result<Btf, ReadError> {
    Btf::parse(read(VMLINUX)?).map_err(|cause| ReadError::Content { path: VMLINUX, cause })
}

/// Reads the BTF of the module `nf_conntrack` on top of the image's.
///
/// # Errors
/// [`ReadError::Absent`] when conntrack is built in, not loaded, or the kernel has no BTF of modules; else when it
/// cannot be read.
pub fn read_module(vmlinux: &Btf) -> Result<Btf, ReadError> {
    Btf::parse_split(read(MODULE)?, vmlinux).map_err(|cause| ReadError::Content { path: MODULE, cause })
}

fn read(path: &'static str) -> Result<Bytes, ReadError> {
    open(path).map_err(|cause| match cause.kind() {
        io::ErrorKind::NotFound => ReadError::Absent { path },
        _ => ReadError::Io { path, cause },
    })
}

fn open(path: &str) -> io::Result<Bytes> {
    let mut file = File::open(path)?;
    Bytes::map(&file).or_else(|_| {
        let len = usize::try_from(file.metadata()?.len()).unwrap_or(0);
        let mut bytes = Vec::with_capacity(len);
        file.read_to_end(&mut bytes)?;
        Ok(bytes.into())
    })
}
