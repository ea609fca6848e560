//! Flags flows whose packets take a way around conntrack on which nobody counts them, and says so once.

use crate::check::flowtables::{Counting, counting};
use crate::model::{FlowId, Record, RecordKind};
use std::collections::{HashMap, HashSet};
use std::sync::mpsc::{Receiver, TryRecvError, channel};
use std::thread;
use std::time::{Duration, Instant};

/// Rules change; they are listed anew when another flow is offloaded, at most so often in each namespace.
const LIST_EVERY: Duration = Duration::from_secs(60);

/// What is known of a namespace that has no offloaded flow is forgotten after so long: another one may have its number by
/// then, and is told of, too.
const FORGET_AFTER: Duration = Duration::from_hours(1);

/// Offloaded flows, by the namespaces they are in.
#[derive(Debug)]
pub(super) struct OffloadWatch {
    /// Flows that were seen offloaded and have not ended. The kernel takes the mark off before their end.
    flows: HashMap<u32, HashSet<FlowId>>,
    places: HashMap<u32, Place>,
    look: fn(u32) -> Counting,
}

/// What is known of a namespace's flowtables.
#[derive(Debug)]
struct Place {
    asked: Instant,
    answer: Option<Receiver<Counting>>,
    /// Whether the kernel is known not to count, or nothing can be known.
    uncounted: bool,
    told: bool,
}

impl Default for OffloadWatch {
    fn default() -> Self {
        Self { flows: HashMap::new(), places: HashMap::new(), look: counting }
    }
}

impl OffloadWatch {
    /// Sets the flag in the records that need it. Never waits: the rules are listed meanwhile, and until they are
    /// known no record has the flag.
    pub(super) fn flag(&mut self, records: &mut [Record]) {
        for record in records {
            if record.status.is_offloaded() {
                self.meet(record.netns, record.flow_id);
            }
            // In nearly all networks there is none.
            if !self.flows.is_empty() {
                self.judge(record);
            }
        }
    }

    /// How many living flows are offloaded without being counted, as far as known.
    pub(super) fn uncounted(&self) -> usize {
        let blind = |netns: &u32| self.places.get(netns).is_some_and(|place| place.uncounted);
        self.flows.iter().filter(|(netns, _)| blind(netns)).map(|(_, flows)| flows.len()).sum()
    }

    /// Says in the end how many there are.
    pub(super) fn conclude(&self) {
        let uncounted = self.uncounted();
        if uncounted > 0 {
            tracing::warn!(
                uncounted,
                "living flows are offloaded without being counted: their totals are too low"
            );
        }
    }

    fn meet(&mut self, netns: u32, flow: FlowId) {
        if !self.flows.entry(netns).or_default().insert(flow) {
            return;
        }
        if !self.places.contains_key(&netns) {
            let is_in_use = |netns: &u32| self.flows.contains_key(netns);
            self.places.retain(|netns, place| is_in_use(netns) || place.asked.elapsed() < FORGET_AFTER);
        }
        let place = self.places.entry(netns).or_insert_with(|| Place::asked(self.look, netns));
        if place.answer.is_none() && place.asked.elapsed() >= LIST_EVERY {
            place.asked = Instant::now();
            place.answer = Some(ask(self.look, netns));
        }
    }

    fn judge(&mut self, record: &mut Record) {
        let Some(flows) = self.flows.get_mut(&record.netns) else { return };
        if let Some(place) = self.places.get_mut(&record.netns) {
            record.flags.offloaded = flows.contains(&record.flow_id) && place.learn(record.netns);
        }
        if record.kind == RecordKind::End {
            flows.remove(&record.flow_id);
            if flows.is_empty() {
                self.flows.remove(&record.netns);
            }
        }
    }
}

impl Place {
    fn asked(look: fn(u32) -> Counting, netns: u32) -> Self {
        Self { asked: Instant::now(), answer: Some(ask(look, netns)), uncounted: false, told: false }
    }

    /// Takes the answer if it has come; whether flows of the namespace are not counted.
    fn learn(&mut self, netns: u32) -> bool {
        match self.answer.as_ref().map(Receiver::try_recv) {
            None | Some(Err(TryRecvError::Empty)) => {}
            Some(Ok(counting)) => self.take(netns, &counting),
            Some(Err(TryRecvError::Disconnected)) => self.take(netns, &Counting::Unknown),
        }
        self.uncounted
    }

    fn take(&mut self, netns: u32, counting: &Counting) {
        self.answer = None;
        self.uncounted = *counting != Counting::Counted;
        if !self.uncounted || std::mem::replace(&mut self.told, true) {
            return;
        }
        match counting {
            Counting::Uncounted(mend) => tracing::warn!(
                netns,
                "flows are offloaded by a flowtable without counter, their totals stand still: {mend}"
            ),
            _ => tracing::warn!(
                netns,
                "flows are offloaded, and whether their flowtable has a counter is unknown: nft cannot list the rules \
                 there"
            ),
        }
    }
}

fn ask(look: fn(u32) -> Counting, netns: u32) -> Receiver<Counting> {
    let (say, answer) = channel();
    // Without the thread there is no answer, which is told as unknown; nobody may wait for it any more.
    let _ = thread::Builder::new().name("flowtables".to_owned()).spawn(move || say.send(look(netns)));
    answer
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Status;
    use crate::sinks::samples::end_of_tcp;

    const BLIND: u32 = 1;
    const COUNTED: u32 = 2;

    fn watch() -> OffloadWatch {
        let look = |netns| {
            if netns == COUNTED { Counting::Counted } else { Counting::Uncounted("do this".to_owned()) }
        };
        OffloadWatch { look, ..OffloadWatch::default() }
    }

    fn record(netns: u32, kind: RecordKind, status: u32) -> Record {
        Record { netns, kind, status: Status(status), ..end_of_tcp() }
    }

    /// Whether the flag is set in the record, once the rules were listed.
    fn flagged(watch: &mut OffloadWatch, record: Record) -> bool {
        let mut records = [record];
        watch.flag(&mut records);
        let deadline = Instant::now() + Duration::from_secs(10);
        while watch.places.values_mut().any(|place| place.answer.is_some()) && Instant::now() < deadline {
            for (netns, place) in &mut watch.places {
                place.learn(*netns);
            }
        }
        let mut records = [record];
        if record.kind != RecordKind::End {
            watch.flag(&mut records);
        }
        records[0].flags.offloaded
    }

    #[test]
    fn a_flow_that_was_offloaded_uncounted_is_flagged_to_its_end() {
        let mut watch = watch();
        assert!(!flagged(&mut watch, record(BLIND, RecordKind::New, 0)));
        assert!(flagged(&mut watch, record(BLIND, RecordKind::Update, Status::OFFLOAD)));
        assert_eq!(watch.uncounted(), 1);
        let mut end = [record(BLIND, RecordKind::End, 0)];
        watch.flag(&mut end);
        assert!(end[0].flags.offloaded);
        assert_eq!((watch.uncounted(), watch.flows.len()), (0, 0));
    }

    #[test]
    fn namespaces_that_were_left_long_ago_are_forgotten() {
        let mut watch = watch();
        for (netns, is_old) in [(5, true), (6, false), (7, true)] {
            flagged(&mut watch, record(netns, RecordKind::Update, Status::OFFLOAD));
            if netns != 7 {
                watch.flag(&mut [record(netns, RecordKind::End, 0)]);
            }
            if is_old {
                let place = watch.places.get_mut(&netns).unwrap();
                place.asked = place.asked.checked_sub(FORGET_AFTER).unwrap();
            }
        }
        flagged(&mut watch, record(BLIND, RecordKind::Update, Status::OFFLOAD));
        let mut kept: Vec<_> = watch.places.into_keys().collect();
        kept.sort_unstable();
        assert_eq!(kept, [BLIND, 6, 7]);
    }

    #[test]
    fn a_flow_that_is_counted_is_not_flagged() {
        let mut watch = watch();
        assert!(!flagged(&mut watch, record(COUNTED, RecordKind::Update, Status::OFFLOAD)));
        assert_eq!(watch.uncounted(), 0);
    }
}
