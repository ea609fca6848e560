//! A program that user space runs when it wants, and that hangs on nothing.

use std::{io, os::fd::AsFd, time::Instant};

use super::{
    object::LoadedObject,
    program::{LoadError, Program},
    syscall,
};

/// A loaded program to run.
pub(in super::super) struct Runnable(Program);

impl Runnable {
    /// Loads a program of type `raw_tracepoint`.
    pub(in super::super) fn load(object: &LoadedObject, name: &str) -> Result<Self, LoadError> {
        let began = Instant::now();
        let program = Program::load_raw_tracepoint(object, name)?;
        tracing::debug!(
            program = name,
            took_ns = began.elapsed().as_nanos() as u64,
            "the kernel took a program"
        );
        Ok(Self(program))
    }

    /// Loads a program of the object as one of type `syscall` (5.14), which may call what others may not.
    pub(in super::super) fn load_system_call(object: &LoadedObject, name: &str) -> Result<Self, LoadError> {
        Program::load_system_call(object, name).map(Self)
    }

    /// Runs it once, on this CPU with preemption off, until it returns. Allocates nothing. What it found it leaves in
    /// a map.
    ///
    /// # Errors
    /// When the kernel does not run it; the program itself cannot fail.
    pub(in super::super) fn run(&self) -> io::Result<()> {
        syscall::run_program(self.0.as_fd())
    }
}
