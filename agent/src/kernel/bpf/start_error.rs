//! Why the kernel side cannot run, and whether that is a matter of policy.

use std::io;

use anyhow::anyhow;

use super::loader::LoadError;
use crate::causes::told;
use crate::kernel::layout::LayoutError;

/// Why the kernel side cannot run.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The process or the kernel's policy does not allow tracing.
    #[error("tracing is not permitted here: {}", told(.0))]
    NotPermitted(anyhow::Error),
    /// The kernel lacks something.
    #[error(transparent)]
    Layout(#[from] LayoutError),
    /// No set of hooks sees every packet exactly once.
    #[error("no hook sees every packet exactly once: {0}")]
    NoHook(String),
    /// Anything else.
    #[error("the kernel programs cannot run: {}", told(.0))]
    Other(anyhow::Error),
}

impl StartError {
    pub(super) fn of(error: impl Into<anyhow::Error>) -> Self {
        let error = error.into();
        let is_io = |cause: &(dyn std::error::Error + 'static)| cause.downcast_ref().is_some_and(is_refusal);
        let is_load =
            |cause: &(dyn std::error::Error + 'static)| cause.downcast_ref().is_some_and(is_refused);
        let refused = error.chain().any(|cause| is_io(cause) || is_load(cause));
        if refused { Self::NotPermitted(error) } else { Self::Other(error) }
    }

    /// Both kinds of hook failed. If one is not permitted, that is what matters.
    pub(super) fn and(self, kprobe: &Self) -> Self {
        let both = anyhow!("fentry: {self}; kprobe: {kprobe}");
        let is_refused = [&self, kprobe].iter().any(|error| matches!(error, Self::NotPermitted(_)));
        if is_refused { Self::NotPermitted(both) } else { Self::Other(both) }
    }
}

impl From<LoadError> for StartError {
    fn from(error: LoadError) -> Self {
        if is_refused(&error) { Self::NotPermitted(error.into()) } else { Self::Other(error.into()) }
    }
}

fn is_refused(error: &LoadError) -> bool {
    matches!(error, LoadError::LockedDown(_)) || error.error().is_some_and(is_refusal)
}

/// EPERM is a matter of policy. EACCES is the verifier's word for a program that it does not accept.
fn is_refusal(error: &io::Error) -> bool {
    error.raw_os_error() == Some(libc::EPERM)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernel::btf::{BtfError, ReadError};

    #[test]
    fn what_is_wrong_with_the_types_is_told_once() {
        let cause = BtfError::Section { section: "type", len: 2_000_000 };
        let error = StartError::of(ReadError::Content { path: "/sys/kernel/btf/vmlinux", cause });
        assert_eq!(
            error.to_string(),
            "the kernel programs cannot run: /sys/kernel/btf/vmlinux: the type section of the BTF lies outside its \
             2000000 bytes"
        );
    }
}
