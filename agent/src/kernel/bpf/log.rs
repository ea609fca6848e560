//! Hands what the kernel programs log to this process's log.

use std::os::fd::{AsFd, BorrowedFd};

use aya_log::EbpfLogger;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

/// The ring of log lines. It is opened when something stands in it, which is never on a healthy machine: opening
/// it looks at every program and map that the kernel has.
pub(super) struct KernelLog {
    logger: Option<EbpfLogger<&'static dyn log::Log>>,
    gave_up: bool,
}

impl KernelLog {
    pub(super) const fn new() -> Self {
        Self { logger: None, gave_up: false }
    }

    /// Hands on what is there. `ring` is the map that the lines are in, `program` the id of a program that uses it.
    pub(super) fn flush(&mut self, ring: BorrowedFd<'_>, program: impl FnOnce() -> Option<u32>) {
        if self.logger.is_none() && !self.gave_up && has_lines(ring) {
            self.open(program());
        }
        if let Some(logger) = &mut self.logger {
            logger.flush();
        }
    }

    fn open(&mut self, program: Option<u32>) {
        let Some(program) = program else { return };
        match EbpfLogger::init_from_id(program) {
            Ok(logger) => self.logger = Some(logger),
            Err(error) => {
                self.gave_up = true;
                tracing::warn!("what the kernel programs log cannot be shown: {error}");
            }
        }
    }
}

fn has_lines(ring: BorrowedFd<'_>) -> bool {
    let mut fds = [PollFd::new(ring.as_fd(), PollFlags::POLLIN)];
    poll(&mut fds, PollTimeout::ZERO).is_ok_and(|ready| ready > 0)
}
