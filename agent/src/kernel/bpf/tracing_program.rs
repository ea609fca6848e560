//! Loads and attaches fentry and fexit programs on functions of a module.
//!
//! aya does not set `attach_btf_obj_fd`, without which the kernel looks for the function in vmlinux only. The
//! instructions come relocated from the object; the kernel gets no BTF of ours with them, because these programs
//! need none.

use std::{
    io,
    os::fd::{AsFd, BorrowedFd, OwnedFd},
};

use aya_obj::generated::{bpf_attach_type, bpf_insn};

use super::syscall::{self, TracingProgram};

/// Bytes of verifier log to keep.
const LOG_BYTES: usize = 1 << 18;

/// Where a program sits relative to its function.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Position {
    /// Before the function runs.
    Entry,
    /// After it returned.
    Exit,
}

impl Position {
    const fn attach_type(self) -> bpf_attach_type {
        match self {
            Self::Entry => bpf_attach_type::BPF_TRACE_FENTRY,
            Self::Exit => bpf_attach_type::BPF_TRACE_FEXIT,
        }
    }
}

/// Where the function is described.
#[derive(Clone, Copy)]
pub(super) struct Target<'a> {
    /// Id of the function in its BTF.
    pub(super) id: u32,
    /// The module's BTF; `None` for vmlinux.
    pub(super) module: Option<BorrowedFd<'a>>,
}

/// Why a program could not be loaded or attached.
#[derive(Debug, thiserror::Error)]
pub(super) enum TracingError {
    /// The verifier or the kernel refused it.
    #[error("the kernel refuses program {program}: {error}{log}")]
    Load {
        /// Name of the program.
        program: String,
        /// What the system call said.
        error: io::Error,
        /// The end of the verifier's log, on a line of its own, or nothing.
        log: String,
    },
    /// It was loaded but could not be attached.
    #[error("program {program} cannot be attached: {error}")]
    Attach {
        /// Name of the program.
        program: String,
        /// What the system call said.
        error: io::Error,
    },
}

impl TracingError {
    /// What the system call said.
    pub(super) const fn error(&self) -> &io::Error {
        match self {
            Self::Load { error, .. } | Self::Attach { error, .. } => error,
        }
    }
}

/// Loads a program. The verifier's log is asked for only after a refusal, as it makes loading slower.
pub(super) fn load(
    name: &str,
    instructions: &[bpf_insn],
    position: Position,
    target: Target<'_>,
) -> Result<OwnedFd, TracingError> {
    let attach_type = position.attach_type();
    let program =
        TracingProgram { name, instructions, attach_type, function: target.id, module: target.module };
    syscall::load_tracing_program(&program, None).or_else(|error| {
        let mut log = vec![0u8; LOG_BYTES];
        match syscall::load_tracing_program(&program, Some(&mut log)) {
            Ok(fd) => Ok(fd),
            Err(_) => Err(TracingError::Load { program: name.to_owned(), error, log: last_lines(&log) }),
        }
    })
}

/// Attaches a loaded program; closing the returned descriptor detaches it.
pub(super) fn attach(name: &str, program: &OwnedFd) -> Result<OwnedFd, TracingError> {
    syscall::attach_tracing_program(program.as_fd())
        .map_err(|error| TracingError::Attach { program: name.to_owned(), error })
}

/// The BTF object of a loaded module.
pub(super) fn module_btf(module: &str) -> io::Result<Option<OwnedFd>> {
    let mut id = 0;
    while let Some(next) = syscall::next_btf_id(id)? {
        id = next;
        match syscall::open_btf(id) {
            Ok(object) if object.of_kernel && object.name == module => return Ok(Some(object.fd)),
            // Another program's BTF may vanish between the two calls.
            Ok(_) => {}
            Err(error) if error.raw_os_error() == Some(libc::ENOENT) => {}
            Err(error) => return Err(error),
        }
    }
    Ok(None)
}

fn last_lines(log: &[u8]) -> String {
    let text = log.split(|byte| *byte == 0).next().unwrap_or_default();
    let text = String::from_utf8_lossy(text);
    let lines: Vec<&str> = text.lines().collect();
    let tail = lines.get(lines.len().saturating_sub(12)..).unwrap_or_default();
    if tail.is_empty() { String::new() } else { format!("\n{}", tail.join("\n")) }
}
