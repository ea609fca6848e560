//! The kernel programs as the agent sees them: loaded, attached where the running kernel calls them, proven to work.
//!
//! BTF, symbols and settings enter; attached programs and their rings leave. Knows nothing of flows.

mod announce;
mod attaching;
mod clock;
mod constants;
mod counted;
mod hooks;
mod loader;
mod log;
mod pinned;
pub mod pins;
mod programs;
mod replaced;
mod ring;
mod selftest;
mod shared;
mod start_error;
mod sweep;
mod table;
mod taken;
mod walk;

pub use hooks::{HookKind, HookPreference, HookReport, Updates};
pub use loader::RingSizes;
pub use programs::{KernelSide, KernelSideOptions, RateStep, Wanted};
pub use ring::Ring;
pub use selftest::is_selftest;
pub use start_error::StartError;
pub use walk::WalkProgress;
