//! What keeps a program attached to a function: while this process holds it, or beyond that once it is pinned.

use std::{
    ffi::CString,
    io,
    os::{
        fd::{AsFd, BorrowedFd, OwnedFd},
        unix::ffi::OsStrExt,
    },
    path::Path,
};

use super::{Probe, Program, Typed, syscall};

/// A program on its function. Dropping it detaches the program, unless it is pinned.
pub(in super::super) enum Link {
    /// A typed program.
    Typed(Typed),
    /// A kprobe.
    Probe(Probe),
    /// One that another process made.
    Pinned(OwnedFd),
}

impl Link {
    /// Opens the pinned link of another process, and its program.
    pub(in super::super) fn open(path: &Path) -> io::Result<(Program, Self)> {
        let link = syscall::open_pin(&c_path(path)?)?;
        let program = Program::of(syscall::linked_program(link.as_fd())?);
        Ok((program, Self::Pinned(link)))
    }

    /// Has it outlive this process.
    ///
    /// # Errors
    /// Also when the kernel has no links for probes (before 5.15).
    pub(in super::super) fn pin(&self, path: &Path) -> io::Result<()> {
        let link = self.descriptor().ok_or_else(|| {
            io::Error::new(
                io::ErrorKind::Unsupported,
                "this kernel keeps probes only while a process holds them",
            )
        })?;
        pin(link, path)
    }

    /// How often the kernel passed over a probe because another one's handler ran on that CPU; `None` for what is no
    /// probe, and where the kernel does not tell.
    pub(in super::super) fn missed(&self) -> Option<u64> {
        syscall::missed_by_probe(self.descriptor()?).ok()?
    }

    fn descriptor(&self) -> Option<BorrowedFd<'_>> {
        match self {
            Self::Typed(typed) => Some(typed.as_fd()),
            Self::Probe(probe) => probe.link(),
            Self::Pinned(link) => Some(link.as_fd()),
        }
    }
}

/// Gives an object of the kernel a name in a bpf file system, so that it outlives this process.
pub(in super::super) fn pin(object: BorrowedFd<'_>, path: &Path) -> io::Result<()> {
    syscall::pin(object, &c_path(path)?)
}

fn c_path(path: &Path) -> io::Result<CString> {
    CString::new(path.as_os_str().as_bytes()).map_err(Into::into)
}
