//! Audits while the agent runs: for the status file every ten seconds, for the log every minute and at the end.

use super::reporters::Reporters;
use super::service;
use super::status_file::{Gauges, StatusFile};
use crate::audit::{Auditor, Evidence, Window};
use std::time::{Duration, Instant};

/// Time between two audits.
const EVERY: Duration = Duration::from_secs(10);

/// Audits in a window.
const AUDITS: u32 = 6;

/// The running audit and who hears of it.
#[derive(Debug)]
pub(super) struct Auditing {
    auditor: Auditor,
    file: Option<StatusFile>,
    reporters: Reporters,
    next: Instant,
    /// Audits in the window that is under way.
    audits: u32,
    /// The last full one.
    window: Option<Window>,
}

impl Auditing {
    /// `file`: none for a replay, which nobody asks how it is doing.
    pub(super) fn new(file: Option<StatusFile>) -> Self {
        let (auditor, reporters) = (Auditor::default(), Reporters::default());
        Self { auditor, file, reporters, next: Instant::now(), audits: 0, window: None }
    }

    /// Has every audit told there, too.
    pub(super) fn report_to(&mut self, reporters: Reporters) {
        self.reporters = reporters;
    }

    /// Audits if it is time. To be called after each batch.
    pub(super) fn tick(&mut self, look: impl FnOnce() -> (Evidence, Gauges)) {
        let now = Instant::now();
        if now < self.next {
            return;
        }
        self.next = now + EVERY;
        let (evidence, gauges) = look();
        let statement = self.auditor.audit(&evidence);
        self.audits += 1;
        if self.audits >= AUDITS {
            self.audits = 0;
            let window = self.auditor.turn_window(&statement);
            if !window.completeness.is_whole() {
                tracing::warn!(
                    "audit: something is missing of the last minute: {window}. Since the start: {statement}"
                );
            }
            self.window = Some(window);
        }
        self.reporters.tell(&statement, gauges.live_flows, gauges.real_ns);
        if let Some(file) = &mut self.file {
            service::status(gauges.live_flows, &statement);
            file.write(&statement, self.window.as_ref(), gauges, false);
        }
    }

    /// The last audit.
    pub(super) fn finish(mut self, evidence: &Evidence, gauges: Gauges) {
        let statement = self.auditor.audit(evidence);
        self.reporters.tell(&statement, gauges.live_flows, gauges.real_ns);
        if let Some(file) = &mut self.file {
            file.write(&statement, self.window.as_ref(), gauges, true);
        }
        if (statement.completeness.is_whole() || statement.lacks_only_readers()) && statement.balances() {
            tracing::info!("audit: {statement}");
        } else {
            tracing::warn!("audit: {statement}");
        }
    }
}
