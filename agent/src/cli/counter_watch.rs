//! Says that there are flows which the kernel does not count, once for each way in which that comes about.

use crate::model::Record;

/// What was said already.
#[derive(Debug, Default)]
pub(super) struct CounterWatch {
    before: bool,
    now: bool,
}

/// What there is to say of a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum News {
    /// A flow began before the agent came.
    Before,
    /// A flow began while the agent watched.
    Now,
}

impl CounterWatch {
    /// Looks at the records of one batch.
    pub(super) fn look(&mut self, records: &[Record]) {
        if self.before && self.now {
            return;
        }
        for record in records.iter().filter(|record| record.flags.no_counters) {
            match self.news(record) {
                Some(News::Before) => tracing::warn!(
                    netns = record.netns,
                    flow = %record.flow_id,
                    "flows that began while accounting was off have no counters until they end: their records have \
                     the flag no_counters and no bytes. Flows that begin from now on are counted if \
                     net.netfilter.nf_conntrack_acct is 1 in their network namespace"
                ),
                Some(News::Now) => tracing::warn!(
                    netns = record.netns,
                    flow = %record.flow_id,
                    "the kernel does not count new flows, so their records have no bytes: accounting is off in this \
                     network namespace. Turn it on there by `sysctl -w net.netfilter.nf_conntrack_acct=1`, or let the \
                     agent do so at its start by source.manage_sysctls = true"
                ),
                None => {}
            }
        }
    }

    fn news(&mut self, record: &Record) -> Option<News> {
        let (said, news) = if record.flags.first_seen_midlife {
            (&mut self.before, News::Before)
        } else {
            (&mut self.now, News::Now)
        };
        (!std::mem::replace(said, true)).then_some(news)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sinks::samples::end_of_tcp;

    #[test]
    fn each_way_of_not_being_counted_is_told_once() {
        let uncounted = |midlife| {
            let mut record = end_of_tcp();
            (record.flags.no_counters, record.flags.first_seen_midlife) = (true, midlife);
            record
        };
        let mut watch = CounterWatch::default();
        assert_eq!(watch.news(&uncounted(true)), Some(News::Before));
        assert_eq!(watch.news(&uncounted(true)), None);
        assert_eq!(watch.news(&uncounted(false)), Some(News::Now));
        assert_eq!(watch.news(&uncounted(false)), None);
        watch.look(&[end_of_tcp()]);
    }
}
