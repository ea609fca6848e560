//! Loads the kernel programs: an object's bytes and constants enter; maps and attached programs leave.
//!
//! Linking is aya-obj's and reading maps is aya's; creating, loading and attaching is done here, because aya reads
//! the kernel's types anew with each loader, attaches no typed program to a function of a module, and gives no
//! program types of its own making.

mod code;
mod link;
mod maps;
mod object;
mod perf;
mod probe;
mod program;
mod runnable;
mod subprograms;
mod syscall;

pub(super) use link::{Link, pin};
pub(super) use maps::{descriptor, ring, set_whole, shared};
pub use object::RingSizes;
pub(super) use object::{Constants, LoadedObject, object_digest};
pub(super) use probe::Probe;
pub(super) use program::{LoadError, Position, Program, Target, Typed, module_btf};
pub(super) use runnable::Runnable;
pub(super) use syscall::wait_for_programs;
