//! Notices that the kernel may track more flows than there are slots for.

use std::time::{Duration, Instant};

use tokio::task::{JoinHandle, spawn_blocking};

use crate::kernel::{limits, netns};

/// How often namespaces are counted: that goes over all processes.
const COUNT_EVERY: Duration = Duration::from_secs(60);

/// Remembers for how many flows there is room, and what was said about it.
pub(super) struct SlotWatch {
    slots: u32,
    /// For how many flows room was lacking when that was said last.
    said: u32,
    /// The limit when namespaces were counted last, and when that was.
    counted: (u32, Instant),
    /// A count under way.
    counting: Option<JoinHandle<usize>>,
}

impl SlotWatch {
    /// The slots have room for what there is now.
    pub(super) fn new(slots: u32) -> Self {
        let max = limits::conntrack_max().unwrap_or(0);
        Self { slots, said: 0, counted: (max, Instant::now()), counting: None }
    }

    /// Warns when `nf_conntrack_max` was raised, or there are so many more network namespaces, that flows may lack
    /// slots. Whoever reads the rings does not wait for the count.
    pub(super) async fn look(&mut self) {
        let (max, since) = self.counted;
        if let Some(count) = self.counting.take_if(|count| count.is_finished()) {
            if let Ok(namespaces) = count.await {
                self.judge(max, namespaces);
            }
        } else if self.counting.is_none()
            && let Some(now) = limits::conntrack_max()
            && (now != max || since.elapsed() >= COUNT_EVERY)
        {
            self.counted = (now, Instant::now());
            self.counting = Some(spawn_blocking(|| netns::reachable_inodes().len()));
        }
    }

    fn judge(&mut self, max: u32, namespaces: usize) {
        if self.is_news(limits::flows(max, namespaces)) {
            tracing::warn!(
                nf_conntrack_max = max,
                namespaces,
                slots = self.slots,
                "the kernel may track more flows than there are slots: flows without a slot have no updates, only \
                 their end; restart the agent or set source.slots"
            );
        }
    }

    /// Namespaces may come one by one: only when twice as many flows may live it is said again.
    fn is_news(&mut self, flows: u32) -> bool {
        let is_news = flows > self.slots && flows / 2 >= self.said;
        if is_news {
            self.said = flows;
        }
        is_news
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lack_of_slots_is_told_once_and_again_when_it_doubles() {
        let mut watch = SlotWatch::new(1000);
        assert!(!watch.is_news(1000));
        assert!(watch.is_news(1500));
        assert!(!watch.is_news(2500));
        assert!(!watch.is_news(500));
        assert!(watch.is_news(3000));
    }
}
