//! Says that the agent is ready, once it knows the flows that lived before it.
//!
//! Until then a packet of such a flow might be taken for one from before the agent. On a machine where the first
//! look takes very long the agent does not keep others waiting for ever.

use std::time::{Duration, Instant};

use super::run::announce;
use crate::config::Config;
use crate::source::Batch;

/// How long those who wait for the agent wait at most.
const PATIENCE: Duration = Duration::from_secs(5);

/// What is to be said, until it was said.
pub(super) struct Readiness<'a> {
    config: &'a Config,
    place: Option<String>,
    began: Instant,
}

impl<'a> Readiness<'a> {
    /// `place` is what the line `ready` tells.
    pub(super) fn new(config: &'a Config, place: String) -> Self {
        Self { config, place: Some(place), began: Instant::now() }
    }

    /// To be called when a batch was delivered.
    pub(super) fn note(&mut self, batch: &Batch) {
        if !batch.settled && self.began.elapsed() < PATIENCE {
            return;
        }
        if let Some(place) = self.place.take() {
            if !batch.settled {
                tracing::warn!(
                    "not all flows from before the agent are known yet: the first look takes longer than {PATIENCE:?}"
                );
            }
            announce(self.config, &place);
        }
    }
}
