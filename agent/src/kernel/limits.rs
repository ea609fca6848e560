//! How many flows the kernel may track, and in how large a table.

use std::fs;

/// The limit of every network namespace, by itself.
const MAX: &str = "/proc/sys/net/netfilter/nf_conntrack_max";

/// The number of buckets, as the kernel uses it.
///
/// <https://github.com/torvalds/linux/blob/v6.12/net/netfilter/nf_conntrack_proto.c>
const BUCKETS: &str = "/sys/module/nf_conntrack/parameters/hashsize";

/// `nf_conntrack_max`, which is one number for all namespaces and holds for each of them; `None` while conntrack is
/// not loaded. 0 means no limit.
#[must_use]
pub fn conntrack_max() -> Option<u32> {
    parse(&fs::read_to_string(MAX).ok()?)
}

/// Buckets that the kernel's table has now; `None` while conntrack is not loaded, or when this may not be read.
/// `nf_conntrack_buckets` would not do: it does not follow when this parameter is set.
#[must_use]
pub fn buckets() -> Option<u32> {
    parse(&fs::read_to_string(BUCKETS).ok()?)
}

/// Flows that may live at the same time in so many namespaces.
#[must_use]
pub fn flows(conntrack_max: u32, namespaces: usize) -> u32 {
    /// Their slots take 100 MB of kernel memory; more has to be asked for.
    const MOST: u32 = 1 << 20;
    let namespaces = u32::try_from(namespaces).unwrap_or(u32::MAX).max(1);
    match conntrack_max {
        0 => MOST,
        max => max.saturating_mul(namespaces).min(MOST.max(max)),
    }
}

fn parse(text: &str) -> Option<u32> {
    text.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_namespace_may_fill_its_own_limit() {
        assert_eq!(flows(8192, 3), 24_576);
        assert_eq!(flows(8192, 0), 8192);
    }

    #[test]
    fn many_namespaces_do_not_take_all_memory_but_one_gets_what_it_may_use() {
        assert_eq!(flows(1 << 18, 1000), 1 << 20);
        assert_eq!(flows(1 << 24, 2), 1 << 24);
        assert_eq!(flows(0, 1), 1 << 20);
    }

    #[test]
    fn nonsense_is_no_number() {
        assert_eq!(parse("262144\n"), Some(262_144));
        assert_eq!(parse("many"), None);
    }
}
