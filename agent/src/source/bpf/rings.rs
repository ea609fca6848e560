//! Reads the rings in the order in which their events may be applied.
#![expect(unsafe_code, reason = "tokio asks for a promise about the descriptors that it polls")]

use std::{
    io,
    os::fd::{AsFd, OwnedFd},
};

use conntally_common::Event;
use tokio::io::{Interest, unix::AsyncFd};
use zerocopy::FromBytes;

use super::decode;
use crate::{
    kernel::bpf::{KernelSide, Ring},
    model::Observation,
    source::Batch,
};

/// Events that one read takes from a ring at most, so that a flood cannot starve the rest of the agent.
const READ_LIMIT: usize = 16_384;

/// The state of reading; the rings themselves belong to the kernel side.
pub(super) struct Rings {
    updates_woken: AsyncFd<OwnedFd>,
    ends_woken: AsyncFd<OwnedFd>,
    ends: Vec<Observation>,
    emptied: bool,
    held_up: bool,
}

impl Rings {
    pub(super) fn open(side: &mut KernelSide) -> io::Result<Self> {
        let mut rings = Self {
            updates_woken: wakeable(side.updates())?,
            ends_woken: wakeable(side.ends())?,
            ends: Vec::new(),
            emptied: false,
            held_up: false,
        };
        let others = side.take_set_aside();
        others.iter().for_each(|event| decode::report(event, &mut rings.ends));
        Ok(rings)
    }

    /// Whether the last read left nothing behind.
    pub(super) const fn was_emptied(&self) -> bool {
        self.emptied
    }

    /// Whether the last read took all that had been submitted before it. Where a program was stopped while it wrote, what
    /// others wrote later waits behind it.
    pub(super) const fn was_settled(&self) -> bool {
        self.emptied && !self.held_up
    }

    /// Waits until the kernel side asks to be read before the next tick.
    pub(super) async fn woken(&self) {
        tokio::select! {
            ready = self.updates_woken.readable() => clear(ready),
            ready = self.ends_woken.readable() => clear(ready),
        }
    }

    /// Takes what is there. The ends are taken out first and handed over last: every update of a flow was
    /// submitted before its end, so it comes before it unless more updates wait than one read takes. Ends never
    /// wait for those.
    ///
    /// `sights` are what was seen just before by other ways; they go between the two.
    pub(super) fn read(&mut self, side: &mut KernelSide, sights: &mut Vec<Observation>, batch: &mut Batch) {
        let ends_emptied = take(side.ends(), &mut self.ends) & take(side.overflow(), &mut self.ends);
        let updates_emptied = take(side.updates(), &mut batch.observations);
        self.emptied = ends_emptied && updates_emptied;
        self.held_up = side.is_held_up();
        batch.observations.append(sights);
        batch.observations.append(&mut self.ends);
    }
}

fn wakeable(ring: &Ring) -> io::Result<AsyncFd<OwnedFd>> {
    let fd = ring.as_fd().try_clone_to_owned()?;
    // SAFETY: the descriptor is owned by the `AsyncFd`, so it stays open and the same while it is registered.
    unsafe { AsyncFd::register_with_interest(fd, Interest::READABLE) }.map_err(Into::into)
}

fn clear(ready: io::Result<tokio::io::unix::AsyncFdReadyGuard<'_, OwnedFd>>) {
    if let Ok(mut guard) = ready {
        guard.clear_ready();
    }
}

/// Takes at most 16,384 events from a ring and appends what they say; true when the ring was emptied.
pub fn take(ring: &mut Ring, observations: &mut Vec<Observation>) -> bool {
    for _ in 0..READ_LIMIT {
        let Some(record) = ring.take() else { return true };
        match Event::ref_from_bytes(record) {
            Ok(event) => decode::report(event, observations),
            Err(_) => tracing::error!(
                bytes = record.len(),
                expected = size_of::<Event>(),
                "an event of the wrong size came from the kernel side and is lost"
            ),
        }
    }
    false
}
