//! Ends that were told a moment ago, to recognise one that is told again.
//!
//! When any listener in a namespace asked for reliable delivery and its buffer is full, the kernel repeats the
//! event of the end to all of them until that one has it, so this agent may read it many times.
//! <https://github.com/torvalds/linux/blob/v6.12/net/netlink/af_netlink.c#L1425>

use std::hash::{BuildHasher, Hash};

use hashbrown::{DefaultHashBuilder, HashSet};

/// An end is remembered for at least this time after it was last told, in nanoseconds. The kernel repeats it every
/// few milliseconds.
const MEMORY: u64 = 5_000_000_000;

/// With more ends than this in that time the oldest are forgotten sooner: 18 MB at most.
const LIMIT: usize = 1 << 20;

/// Two generations of 64-bit hashes.
#[derive(Debug, Default)]
pub(super) struct RecentEnds {
    hasher: DefaultHashBuilder,
    current: HashSet<u64>,
    previous: HashSet<u64>,
    current_since_ns: u64,
}

impl RecentEnds {
    /// Remembers an end. Returns whether it was remembered already.
    pub(super) fn remember(&mut self, end: impl Hash, boot_ns: u64) -> bool {
        if boot_ns.saturating_sub(self.current_since_ns) > MEMORY || self.current.len() >= LIMIT {
            self.previous = std::mem::take(&mut self.current);
            self.current_since_ns = boot_ns;
        }
        let hash = self.hasher.hash_one(end);
        !self.current.insert(hash) || self.previous.contains(&hash)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_end_is_recognised_for_as_long_as_it_is_repeated() {
        let mut recent = RecentEnds::default();
        assert!(!recent.remember(1, 0));
        for second in 1..60 {
            assert!(recent.remember(1, second * 1_000_000_000));
        }
        assert!(!recent.remember(2, 60_000_000_000));
    }

    #[test]
    fn an_end_is_forgotten_in_time() {
        let mut recent = RecentEnds::default();
        recent.remember(1, 0);
        recent.remember(2, MEMORY + 1);
        recent.remember(3, 2 * MEMORY + 2);
        assert!(!recent.remember(1, 2 * MEMORY + 3));
    }

    #[test]
    fn memory_is_bounded() {
        let mut recent = RecentEnds::default();
        for end in 0..=(2 * LIMIT) {
            recent.remember(end, 1);
        }
        assert!(recent.current.len() + recent.previous.len() <= 2 * LIMIT);
    }
}
