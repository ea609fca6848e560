//! Flows that are due to be looked at, until the kernel side has looked at them.

use std::{
    collections::VecDeque,
    time::{Duration, Instant},
};

use conntally_common::{Event, Runs, SHOWN_STATUS, VISITS, Visit, VisitVerdict, joined_labels};

use super::decode;
use crate::{
    kernel::bpf::KernelSide,
    model::{self, Observation},
};

const _: () = assert!(model::Status::SHOWN == SHOWN_STATUS);

/// Flows that may wait; whoever has more asks again later.
const ROOM: usize = 1 << 16;

/// How long looking may keep the reader from the rings. Single looks are far shorter.
const GO: Duration = Duration::from_millis(2);

/// How long flows wait after a look that failed.
const REST: Duration = Duration::from_secs(1);

/// The flows that wait.
#[derive(Default)]
pub(super) struct Visits {
    waiting: VecDeque<Visit>,
    list: Vec<Visit>,
    /// Until when none is looked at, as the last look failed.
    resting: Option<Instant>,
    looked_at: u64,
    changed: u64,
    /// Sights at whose address the flow was not any more although its slot was: its end was skipped.
    foreign: u64,
}

impl Visits {
    /// Takes as many as there is room for; returns how many those are.
    pub(super) fn take(&mut self, due: &[model::Visit]) -> usize {
        let taken = due.len().min(ROOM.saturating_sub(self.waiting.len()));
        self.waiting.extend(due.iter().take(taken).map(kernel_visit));
        taken
    }

    /// Whether some wait that can be looked at now.
    pub(super) fn are_ready(&self) -> bool {
        !self.waiting.is_empty() && self.resting.is_none_or(|until| Instant::now() >= until)
    }

    /// Forgets those that wait.
    pub(super) fn clear(&mut self) {
        self.waiting.clear();
    }

    /// Has flows looked at until none wait or the time is over, and observes those that changed.
    pub(super) fn run(&mut self, side: &mut KernelSide, observations: &mut Vec<Observation>) {
        let started = Instant::now();
        while self.are_ready() && started.elapsed() < GO {
            self.next_list();
            let foreign = &mut self.foreign;
            let swept = side.sweep(&mut self.list, |visit, event| match sight(visit, event) {
                Some(sight) => observations.push(sight),
                None => *foreign += 1,
            });
            self.put_back();
            self.rest_if_failed(swept.map(drop));
        }
    }

    fn next_list(&mut self) {
        let len = self.waiting.len().min(VISITS as usize);
        self.list.clear();
        self.list.extend(self.waiting.drain(..len));
    }

    /// Lets those wait again for which the run had no time.
    fn put_back(&mut self) {
        for visit in self.list.iter().rev() {
            if visit.verdict == VisitVerdict::LEFT {
                self.waiting.push_front(*visit);
            } else {
                self.looked_at += 1;
                self.changed += u64::from(visit.verdict == VisitVerdict::CHANGED);
            }
        }
    }

    /// Tells what it came to.
    pub(super) fn report(&self, runs: Runs) {
        let Self { looked_at, changed, foreign, .. } = self;
        let Runs { runs, longest_ns, spent_ns } = runs;
        tracing::debug!(
            looked_at,
            changed,
            foreign,
            runs,
            spent_ns,
            longest_ns,
            "looked at flows that were due"
        );
    }

    /// Nothing is lost by a look that failed: the flows wait, and whoever finds no room asks again.
    fn rest_if_failed(&mut self, looked: anyhow::Result<()>) {
        let was_resting = self.resting.is_some();
        self.resting = looked.is_err().then(|| Instant::now() + REST);
        match looked {
            Err(error) if !was_resting => tracing::error!(
                "flows that are due cannot be looked at, which is tried again every second. Until then the last bytes of \
                 those that went quiet come with their end, and with updates = \"sweep\" there are no updates at all: \
                 {error:#}"
            ),
            Ok(()) if was_resting => tracing::info!("flows that are due are looked at again"),
            _ => {}
        }
    }
}

/// What a visit saw, if that was the flow that was meant.
#[inline(always)]
fn sight(visit: &Visit, event: &Event) -> Option<Observation> {
    let sight = decode::observation(event);
    (sight.original.fingerprint() == visit.fingerprint).then_some(sight)
}

/// The flow as the kernel programs compare it.
fn kernel_visit(visit: &model::Visit) -> Visit {
    let (low, high) = visit.labels.split_at(8);
    let word = |bytes: &[u8]| bytes.try_into().map_or(0, u64::from_ne_bytes);
    Visit {
        conntrack: visit.conntrack,
        born_ns: visit.born_ns,
        packets: visit.totals.original.packets.wrapping_add(visit.totals.reply.packets),
        labels: joined_labels(word(low), word(high)),
        mark: visit.mark,
        status: visit.status.0,
        verdict: VisitVerdict::LEFT,
        fingerprint: visit.fingerprint,
    }
}

#[cfg(test)]
mod tests {
    use conntally_common::KernelTuple;

    use super::*;
    use crate::model::{Counter, Status, Totals};

    fn due(conntrack: u64) -> model::Visit {
        let mut labels = [0; 16];
        (labels[0], labels[8]) = (5, 6);
        let counter = |packets| Counter { packets, bytes: 0 };
        let totals = Totals { original: counter(3), reply: counter(4) };
        model::Visit { conntrack, born_ns: 1, fingerprint: 10, totals, mark: 9, labels, status: Status(8) }
    }

    fn waiting(visits: &Visits) -> Vec<u64> {
        visits.waiting.iter().map(|visit| visit.conntrack).collect()
    }

    #[test]
    fn totals_and_labels_are_told_in_one_word_each() {
        let visit = kernel_visit(&due(1));
        assert_eq!((visit.packets, visit.labels), (7, joined_labels(5, 6)));
        assert_ne!(joined_labels(1, 1), joined_labels(0, 0));
        assert_ne!(joined_labels(1 << 3, 0), joined_labels(0, 1 << 3));
        assert_eq!((visit.mark, visit.status, visit.verdict, visit.fingerprint), (9, 8, 0, 10));
    }

    #[test]
    fn another_tuple_at_the_address_of_a_flow_is_not_seen() {
        let event = decode::tests::event();
        let original = decode::observation(&event).original;
        let visit = kernel_visit(&model::Visit { fingerprint: original.fingerprint(), ..due(1) });
        assert_eq!(sight(&visit, &event).map(|sight| sight.original), Some(original));
        let garbage = Event { tuples: [KernelTuple { dst_port: [0, 54], ..event.tuples[0] }; 2], ..event };
        assert_eq!(sight(&visit, &garbage), None);
    }

    #[test]
    fn only_what_was_not_looked_at_waits_again_and_comes_first() {
        let mut visits = Visits::default();
        visits.take(&[due(1), due(2), due(3), due(4)]);
        visits.next_list();
        visits.take(&[due(5)]);
        let verdicts = [VisitVerdict::CHANGED, VisitVerdict::LEFT, VisitVerdict::GONE, VisitVerdict::LEFT];
        for (visit, verdict) in visits.list.iter_mut().zip(verdicts) {
            visit.verdict = verdict;
        }
        visits.put_back();
        assert_eq!(waiting(&visits), [2, 4, 5]);
        assert_eq!((visits.looked_at, visits.changed), (2, 1));
    }

    #[test]
    fn what_could_not_be_looked_at_waits_for_a_while() {
        let mut visits = Visits::default();
        visits.take(&[due(1), due(2)]);
        assert!(visits.are_ready());
        visits.next_list();
        visits.put_back();
        visits.rest_if_failed(Err(anyhow::anyhow!("no")));
        assert!(!visits.are_ready());
        assert_eq!(waiting(&visits), [1, 2]);
        visits.resting = Some(Instant::now());
        assert!(visits.are_ready());
        visits.rest_if_failed(Ok(()));
        assert!(visits.are_ready());
    }

    #[test]
    fn a_full_waiting_room_takes_no_more() {
        let mut visits = Visits::default();
        let many = vec![due(1); ROOM - 1];
        assert_eq!(visits.take(&many), ROOM - 1);
        assert_eq!(visits.take(&[due(2), due(3)]), 1);
        assert_eq!(visits.take(&[due(3)]), 0);
    }
}
