//! The main loop: reads a source until it ends or someone asks to stop.

use crate::source::{Batch, Progress, Source, SourceError};
use std::ops::ControlFlow;

/// Whether to go on after a batch, or why not.
pub(super) type Flow = ControlFlow<&'static str>;

/// Why the loop ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Ended {
    /// Someone asked; the reason.
    Stopped(&'static str),
    /// The source has no more.
    Finished,
}

/// Hands every batch to `deliver` until the source ends, `stop` does, or `deliver` wants no more.
///
/// # Errors
/// When the source cannot go on. What it read before was delivered.
pub(super) async fn pump<S: Source>(
    source: &mut S,
    stop: impl Future<Output = &'static str>,
    mut deliver: impl AsyncFnMut(&mut S, &Batch) -> Flow,
) -> Result<Ended, SourceError> {
    let mut batch = Batch::default();
    let mut stop = std::pin::pin!(stop);
    loop {
        batch.clear();
        let progress = tokio::select! {
            biased;
            reason = &mut stop => return Ok(Ended::Stopped(reason)),
            progress = source.read(&mut batch) => progress,
        };
        if let Flow::Break(reason) = deliver(source, &batch).await {
            return Ok(Ended::Stopped(reason));
        }
        if progress? == Progress::Finished {
            return Ok(Ended::Finished);
        }
        // A source that always has something must not starve the other tasks of this thread.
        tokio::task::yield_now().await;
    }
}

/// Stops the source and delivers what was still under way, until `deliver` wants no more.
///
/// # Errors
/// When it cannot be read. What was read before was delivered.
pub(super) async fn drain<S: Source>(
    source: &mut S,
    mut deliver: impl AsyncFnMut(&S, &Batch) -> Flow,
) -> Result<(), SourceError> {
    let mut batch = Batch::default();
    loop {
        batch.clear();
        let progress = source.drain(&mut batch).await;
        let wanted = deliver(source, &batch).await;
        if progress? == Progress::Finished || wanted.is_break() {
            return Ok(());
        }
        tokio::task::yield_now().await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::source::Losses;

    /// Gives `reads` settled batches, then ends, or fails if told so; has two more to drain.
    struct Script {
        reads: usize,
        fails: bool,
        drains: usize,
    }

    impl Source for Script {
        async fn read(&mut self, batch: &mut Batch) -> Result<Progress, SourceError> {
            assert!(!batch.settled, "the batch is cleared before each read");
            batch.settled = true;
            match (self.reads, self.fails) {
                (0, true) => Err(SourceError { what: "read".into(), cause: anyhow::anyhow!("broken") }),
                (0, false) => Ok(Progress::Finished),
                _ => {
                    self.reads -= 1;
                    Ok(Progress::More)
                }
            }
        }

        async fn drain(&mut self, batch: &mut Batch) -> Result<Progress, SourceError> {
            batch.settled = true;
            self.drains -= 1;
            Ok(if self.drains == 0 { Progress::Finished } else { Progress::More })
        }

        fn losses(&self) -> Losses {
            Vec::new()
        }
    }

    const fn script(reads: usize, fails: bool) -> Script {
        Script { reads, fails, drains: 2 }
    }

    fn count(delivered: &mut usize) -> Flow {
        *delivered += 1;
        Flow::Continue(())
    }

    #[tokio::test]
    async fn whoever_wants_no_more_gets_no_more() {
        let full = Flow::Break("full");
        let ended =
            pump(&mut script(3, false), std::future::pending(), async |_: &mut Script, _: &Batch| full)
                .await
                .unwrap();
        assert_eq!(ended, Ended::Stopped("full"));
        let mut source = script(0, false);
        drain(&mut source, async |_: &Script, _: &Batch| full).await.unwrap();
        assert_eq!(source.drains, 1);
    }

    #[tokio::test]
    async fn every_batch_is_delivered_the_last_one_too() {
        let mut delivered = 0;
        let ended = pump(&mut script(3, false), std::future::pending(), async |_: &mut Script, _: &Batch| {
            count(&mut delivered)
        })
        .await
        .unwrap();
        assert_eq!((ended, delivered), (Ended::Finished, 4));
    }

    #[tokio::test]
    async fn a_request_to_stop_ends_the_loop_even_when_the_source_always_has_more() {
        let mut delivered = 0;
        let stop = async {
            tokio::task::yield_now().await;
            "SIGTERM"
        };
        let ended = pump(&mut script(usize::MAX, false), stop, async |_: &mut Script, _: &Batch| {
            count(&mut delivered)
        })
        .await
        .unwrap();
        assert_eq!(ended, Ended::Stopped("SIGTERM"));
        assert!(delivered >= 1);
    }

    #[tokio::test]
    async fn what_a_failing_source_read_is_delivered() {
        let mut delivered = 0;
        let result = pump(&mut script(1, true), std::future::pending(), async |_: &mut Script, _: &Batch| {
            count(&mut delivered)
        })
        .await;
        let error = result.unwrap_err();
        assert_eq!((error.to_string(), error.cause.to_string()), ("read".into(), "broken".into()));
        assert_eq!(delivered, 2);
    }

    #[tokio::test]
    async fn draining_delivers_until_nothing_is_under_way() {
        let mut delivered = 0;
        drain(&mut script(0, false), async |_: &Script, _: &Batch| count(&mut delivered)).await.unwrap();
        assert_eq!(delivered, 2);
    }
}
