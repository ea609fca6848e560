//! Notices that the kernel may track more flows than there are slots for.

use crate::kernel::limits;

/// Remembers for how many flows of one namespace there is room, and what was said about it.
pub(super) struct SlotWatch {
    slots: u32,
    said: Option<u32>,
}

impl SlotWatch {
    pub(super) const fn new(slots: u32) -> Self {
        Self { slots, said: None }
    }

    /// Warns when `nf_conntrack_max` was raised past the slots.
    pub(super) fn look(&mut self) {
        if let Some(max) = limits::conntrack_max()
            && self.is_news(max)
        {
            tracing::warn!(
                nf_conntrack_max = max,
                slots = self.slots,
                "the kernel may track more flows than there are slots: flows without a slot have no updates, only \
                 their end; restart the agent or set source.slots"
            );
        }
    }

    fn is_news(&mut self, max: u32) -> bool {
        let news = max > self.slots && self.said != Some(max);
        if news {
            self.said = Some(max);
        }
        news
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_raise_past_the_slots_is_told_once() {
        let mut watch = SlotWatch::new(1000);
        assert!(!watch.is_news(1000));
        assert!(watch.is_news(2000));
        assert!(!watch.is_news(2000));
        assert!(watch.is_news(3000));
        assert!(!watch.is_news(500));
    }
}
