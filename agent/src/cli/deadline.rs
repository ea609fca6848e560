//! One deadline for all steps of the shutdown, which remembers the steps that missed it.

use std::time::Duration;
use tokio::time::{Instant, timeout_at};

/// What a last word may take.
const GRACE: Duration = Duration::from_secs(1);

/// The moment at which the shutdown has to be done.
#[derive(Debug)]
pub(super) struct Deadline {
    at: Instant,
    stragglers: Vec<&'static str>,
}

impl Deadline {
    /// The deadline that ends `after` from now.
    pub(super) fn new(after: Duration) -> Self {
        Self { at: Instant::now() + after, stragglers: Vec::new() }
    }

    /// Runs one step; `None` when it did not finish in time. A step is begun even after the deadline, so that what
    /// needs no waiting still gets done.
    pub(super) async fn step<T>(&mut self, name: &'static str, work: impl Future<Output = T>) -> Option<T> {
        let result = timeout_at(self.at, work).await.ok();
        if result.is_none() {
            self.stragglers.push(name);
        }
        result
    }

    /// Runs what may be left undone; a moment is given even after the deadline, as it tells of what missed that.
    pub(super) async fn offer(&self, work: impl Future<Output = ()>) {
        if timeout_at(self.at.max(Instant::now() + GRACE), work).await.is_err() {
            tracing::debug!("the last status was not delivered");
        }
    }

    /// Whether all steps finished.
    ///
    /// # Errors
    /// Names those that did not, and how long they had.
    pub(super) fn verdict(&self, given: Duration) -> anyhow::Result<()> {
        anyhow::ensure!(
            self.stragglers.is_empty(),
            "the shutdown did not finish within {given:?} (shutdown_timeout): {}",
            self.stragglers.join(", ")
        );
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_step_that_hangs_is_named_and_later_ones_still_run() {
        let mut deadline = Deadline::new(Duration::from_millis(20));
        assert_eq!(deadline.step("quick", async { 1 }).await, Some(1));
        assert_eq!(deadline.step("stuck", std::future::pending::<()>()).await, None);
        assert_eq!(deadline.step("late but immediate", async { 2 }).await, Some(2));
        let verdict = deadline.verdict(Duration::from_millis(20)).unwrap_err().to_string();
        assert_eq!(verdict, "the shutdown did not finish within 20ms (shutdown_timeout): stuck");
    }
}
