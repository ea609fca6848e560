//! Has flows announced that a probe could only give a slot, and counts when that is not possible.

/// What came of it so far.
#[derive(Debug, Default)]
pub(super) struct Announcing {
    failures: u64,
}

impl Announcing {
    /// Has flows announced by `announce`. What fails is tried again at the next read, and told of once.
    pub(super) fn run(&mut self, announce: impl FnOnce() -> anyhow::Result<()>) {
        let Err(error) = announce() else { return };
        if self.is_first_failure() {
            tracing::warn!("new flows are reported only at their second packet: {error:#}");
        }
    }

    /// How often it failed.
    pub(super) const fn failures(&self) -> u64 {
        self.failures
    }

    const fn is_first_failure(&mut self) -> bool {
        self.failures += 1;
        self.failures == 1
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

    use tracing::{Event, Metadata, Subscriber, span};

    use super::*;

    /// Counts what is logged.
    struct Lines(Arc<AtomicUsize>);

    impl Subscriber for Lines {
        fn enabled(&self, _: &Metadata<'_>) -> bool {
            true
        }

        fn new_span(&self, _: &span::Attributes<'_>) -> span::Id {
            span::Id::from_u64(1)
        }

        fn record(&self, _: &span::Id, _: &span::Record<'_>) {}

        fn record_follows_from(&self, _: &span::Id, _: &span::Id) {}

        fn event(&self, _: &Event<'_>) {
            self.0.fetch_add(1, Relaxed);
        }

        fn enter(&self, _: &span::Id) {}

        fn exit(&self, _: &span::Id) {}
    }

    #[test]
    fn every_failure_is_counted_and_the_first_is_logged() {
        let lines = Arc::new(AtomicUsize::new(0));
        let mut announcing = Announcing::default();
        tracing::subscriber::with_default(Lines(Arc::clone(&lines)), || {
            announcing.run(|| Ok(()));
            (0..5).for_each(|_| announcing.run(|| Err(anyhow::anyhow!("no"))));
        });
        assert_eq!((announcing.failures(), lines.load(Relaxed)), (5, 1));
    }
}
