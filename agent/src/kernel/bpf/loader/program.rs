//! Loads programs of every type, and attaches typed ones (fentry, fexit), also to functions of a module.

use std::{
    io,
    os::fd::{AsFd, BorrowedFd, OwnedFd},
};

use aya_obj::generated::{bpf_attach_type, bpf_prog_type};

use super::{
    object::LoadedObject,
    subprograms::Declared,
    syscall::{self, Functions, ProgramToLoad, TypedProgram},
};

/// Bytes of verifier log to keep.
const LOG_BYTES: usize = 1 << 18;

/// Where a program sits relative to its function.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in super::super) enum Position {
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
pub(in super::super) struct Target<'a> {
    /// Id of the function in its BTF.
    pub(in super::super) id: u32,
    /// The module's BTF; `None` for vmlinux.
    pub(in super::super) module: Option<BorrowedFd<'a>>,
}

/// A loaded program. It is gone when nothing is attached to it and this is dropped.
pub(in super::super) struct Program(OwnedFd);

/// A typed program on its function. Dropping it detaches the program, unless it is pinned.
pub(in super::super) struct Typed(OwnedFd);

/// Why a program could not be loaded or attached.
#[derive(Debug, thiserror::Error)]
pub(in super::super) enum LoadError {
    /// The object has no such program.
    #[error("the kernel programs have no program {0}")]
    Missing(String),
    /// What is to be said of its functions was refused.
    #[error("the kernel refuses the types of program {0}")]
    Types(String, #[source] io::Error),
    /// A kernel that is locked down has no helper that reads its memory.
    #[error("the kernel lets no program read its memory, as it is locked down (refused: {0})")]
    LockedDown(String),
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

impl LoadError {
    /// What the system call said, if one was made and that is what matters.
    pub(in super::super) const fn error(&self) -> Option<&io::Error> {
        match self {
            Self::Missing(_) | Self::LockedDown(_) => None,
            Self::Types(_, error) | Self::Load { error, .. } | Self::Attach { error, .. } => Some(error),
        }
    }
}

impl Program {
    /// Loads a program for the entry or exit of a function.
    pub(in super::super) fn load_typed(
        object: &LoadedObject,
        name: &str,
        position: Position,
        target: Target<'_>,
    ) -> Result<Self, LoadError> {
        let typed =
            TypedProgram { attach_type: position.attach_type(), function: target.id, module: target.module };
        Self::load(object, name, bpf_prog_type::BPF_PROG_TYPE_TRACING, Some(typed))
    }

    /// Loads a program for a probe.
    pub(in super::super) fn load_kprobe(object: &LoadedObject, name: &str) -> Result<Self, LoadError> {
        Self::load(object, name, bpf_prog_type::BPF_PROG_TYPE_KPROBE, None)
    }

    /// Loads a program that user space runs.
    pub(super) fn load_raw_tracepoint(object: &LoadedObject, name: &str) -> Result<Self, LoadError> {
        Self::load(object, name, bpf_prog_type::BPF_PROG_TYPE_RAW_TRACEPOINT, None)
    }

    /// Loads a program that user space runs and that may sleep.
    pub(super) fn load_system_call(object: &LoadedObject, name: &str) -> Result<Self, LoadError> {
        Self::load(object, name, bpf_prog_type::BPF_PROG_TYPE_SYSCALL, None)
    }

    /// One that is loaded already.
    pub(super) const fn of(program: OwnedFd) -> Self {
        Self(program)
    }

    /// Attaches a typed program.
    pub(in super::super) fn attach_typed(&self, name: &str) -> Result<Typed, LoadError> {
        syscall::attach_tracing_program(self.as_fd())
            .map(Typed)
            .map_err(|error| LoadError::Attach { program: name.to_owned(), error })
    }

    /// How often the kernel skipped it because another program was running on that CPU, since it was loaded; `None`
    /// where the kernel does not count that (before 5.12).
    pub(in super::super) fn skipped(&self) -> Option<u64> {
        syscall::program_info(self.as_fd()).ok()?.recursion_misses
    }

    /// The number by which the kernel knows it.
    pub(in super::super) fn id(&self) -> Option<u32> {
        syscall::program_info(self.as_fd()).ok().map(|info| info.id)
    }

    /// Whether the kernel has a program of this number, attached or held by anybody; `None` where it does not say.
    pub(in super::super) fn is_there(id: u32) -> Option<bool> {
        syscall::has_program(id).ok()
    }

    fn load(
        object: &LoadedObject,
        name: &str,
        program_type: bpf_prog_type,
        typed: Option<TypedProgram<'_>>,
    ) -> Result<Self, LoadError> {
        let code = object.program(name).ok_or_else(|| LoadError::Missing(name.to_owned()))?;
        let declared = object.declare_functions(name, &code);
        let btf = load_types(name, declared.as_ref())?;
        let functions = btf.as_ref().zip(declared.as_ref());
        let program = ProgramToLoad {
            name,
            instructions: code.instructions,
            program_type,
            typed,
            functions: functions
                .map(|(btf, declared)| Functions { btf: btf.as_fd(), records: &declared.records }),
        };
        load(&program).map(Self)
    }
}

impl AsFd for Typed {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

impl AsFd for Program {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

fn load_types(program: &str, declared: Option<&Declared>) -> Result<Option<OwnedFd>, LoadError> {
    let Some(declared) = declared else { return Ok(None) };
    let btf = syscall::load_btf(&declared.btf);
    btf.map(Some).map_err(|error| LoadError::Types(program.to_owned(), error))
}

/// Loads a program. The verifier's log is asked for only after a refusal, as it makes loading slower.
fn load(program: &ProgramToLoad<'_>) -> Result<OwnedFd, LoadError> {
    syscall::load_program(program, None).or_else(|error| {
        let mut log = vec![0u8; LOG_BYTES];
        syscall::load_program(program, Some(&mut log))
            .map_err(|_| refusal(program.name.to_owned(), error, last_lines(&log)))
    })
}

fn refusal(program: String, error: io::Error, log: String) -> LoadError {
    // Since 6.9 the verifier tells apart what it does not know and what it does not give.
    let lacks = |log: &str| log.contains("unknown func ") || log.contains(" cannot use helper ");
    let lacks_reading =
        |log: &str| log.lines().any(|line| line.contains("bpf_probe_read_kernel#") && lacks(line));
    if error.raw_os_error() == Some(libc::EINVAL) && lacks_reading(&log) {
        return LoadError::LockedDown(program);
    }
    LoadError::Load { program, error, log }
}

/// The BTF object of a loaded module.
pub(in super::super) fn module_btf(module: &str) -> io::Result<Option<OwnedFd>> {
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

#[cfg(test)]
mod tests {
    use super::*;

    /// What 6.1 and 6.12 say when they are locked down, and 6.12 when a program is wrong; recorded.
    #[test]
    fn a_kernel_that_is_locked_down_is_told_from_one_that_finds_a_program_wrong() {
        let said =
            |log: &str| refusal("destroy".into(), io::Error::from_raw_os_error(libc::EINVAL), log.into());
        let call = "\n144: (85) call bpf_probe_read_kernel#113\n";
        for refused in [
            "unknown func bpf_probe_read_kernel#113",
            "program of this type cannot use helper bpf_probe_read_kernel#113",
        ] {
            let error = said(&format!("{call}{refused}\nprocessed 142 insns"));
            assert!(matches!(&error, LoadError::LockedDown(program) if program == "destroy"), "{error}");
        }
        assert!(matches!(said(&format!("{call}R2 min value is negative")), LoadError::Load { .. }));
    }
}
