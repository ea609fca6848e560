//! What the agent changes on the machine while it runs, and undoes at its end.

use super::accounting::Accounting;
use crate::config::Config;
use crate::kernel::tracking::Tracking;
use anyhow::Context;

/// The changes; to be undone when the last counter was read. Dropping it undoes them, too.
#[derive(Debug)]
pub(super) struct Machine {
    tracking: Option<Tracking>,
    accounting: Accounting,
}

impl Machine {
    /// Makes the changes that are configured. To be called before the source opens: what begins while accounting is
    /// off is never counted.
    pub(super) fn prepare(config: &Config) -> anyhow::Result<Self> {
        let accounting = Accounting::begin(config);
        let tracking = config.source.enable_tracking.then(Tracking::enable).transpose();
        Ok(Self { tracking: tracking.context("enable_tracking (--track)")?, accounting })
    }

    /// Undoes them.
    pub(super) fn restore(self) {
        if let Some(Err(error)) = self.tracking.map(Tracking::disable) {
            tracing::error!("cannot remove the nftables table of --track: {error}; do it by hand");
        }
        drop(self.accounting);
    }
}
