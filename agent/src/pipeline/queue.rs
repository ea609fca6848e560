//! What waits for a sink: bounded by items, with a policy for what does not fit.
//!
//! Batches stay as they were handed in, shared with the other sinks, as long as all of them fits. Above a quarter of
//! the room the policy `coalesce` merges what comes for a key that waits already. The last quarter is for last items,
//! for which nothing that comes later makes up.

use std::collections::VecDeque;
use std::ops::Range;
use std::sync::Arc;

use hashbrown::HashMap;
use tokio::time::Instant;

use super::{Item, Items, Weight};
use crate::config::WhenFull;

/// Items of one batch that were taken in.
struct Segment<I> {
    /// The batch's number.
    number: u64,
    /// When they came.
    since: Instant,
    items: Items<I>,
}

/// Items taken out, in their order.
#[derive(Debug)]
pub(super) struct Run<I> {
    /// The number of the batch in which the first of what they hold was handed in.
    pub(super) number: u64,
    /// When they came.
    pub(super) since: Instant,
    items: Items<I>,
    range: Range<usize>,
}

impl<I> Run<I> {
    /// Those that are left.
    pub(super) fn items(&self) -> &[I] {
        self.items.get(self.range.clone()).unwrap_or_default()
    }

    /// By what the queue's owner knows that something of it is under way.
    pub(super) const fn held(&self) -> Held {
        Held { number: self.number, since: self.since }
    }

    /// Passes over the first ones.
    pub(super) fn advance(&mut self, items: usize) {
        self.range.start = (self.range.start + items).min(self.range.end);
    }
}

/// Where something comes from that is under way.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Held {
    /// The number of the batch in which the first of it was handed in.
    pub(super) number: u64,
    /// When that came.
    pub(super) since: Instant,
}

/// What became of a batch that was handed in.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Pushed {
    /// Taken in, merged ones included.
    pub(super) taken: Weight,
    /// Of those, how many records fewer they are because they were merged into what waited already.
    pub(super) merged: u64,
    /// Had no room.
    pub(super) dropped: Weight,
}

/// Where an item waits: the serial number of its segment, and its position in it.
type Seat = (u64, usize);

/// The queue of one sink.
pub(super) struct Queue<I: Item> {
    room: usize,
    when_full: WhenFull,
    segments: VecDeque<Segment<I>>,
    /// The serial number of the first segment.
    first: u64,
    /// How many items of the first segment were taken out.
    taken_out: usize,
    len: usize,
    /// The last item of each key; only kept while merging goes on.
    seats: Option<HashMap<I::Key, Seat>>,
}

impl<I: Item> Queue<I> {
    /// An empty one with room for so many items.
    pub(super) fn new(room: usize, when_full: WhenFull) -> Self {
        let (segments, room) = (VecDeque::new(), room.max(1));
        Self { room, when_full, segments, first: 0, taken_out: 0, len: 0, seats: None }
    }

    /// Items that wait.
    pub(super) const fn len(&self) -> usize {
        self.len
    }

    /// Room that any item may take.
    pub(super) const fn free(&self) -> usize {
        self.common_room().saturating_sub(self.len)
    }

    /// The number of the oldest batch of which something waits.
    pub(super) fn oldest(&self) -> Option<u64> {
        self.segments.front().map(|segment| segment.number)
    }

    /// When the oldest came that waits.
    pub(super) fn oldest_since(&self) -> Option<Instant> {
        self.segments.front().map(|segment| segment.since)
    }

    /// Takes in what there is room for.
    pub(super) fn push(&mut self, number: u64, items: &Items<I>, now: Instant) -> Pushed {
        let all_fit = self.len + items.len() <= self.common_room();
        // It goes on for a while below where it began: to begin costs a look at all that waits.
        let much = if self.seats.is_some() { self.room / 8 } else { self.room / 4 };
        let is_merging = self.when_full != WhenFull::DropNewest && (self.len > much || !all_fit);
        if !is_merging {
            self.seats = None;
        } else if self.seats.is_none() {
            self.seats = Some(self.all_seats());
        }
        if all_fit && !is_merging {
            return self.admit(number, items, now);
        }
        let mut pushed = Pushed::default();
        let mut kept = Vec::new();
        // Where the segment will be that they make.
        let serial = self.first + self.segments.len() as u64;
        for item in items.iter() {
            let weight = item.weight();
            if let Some(merged) = self.merge(item, &mut kept, serial) {
                pushed.merged += merged;
                pushed.taken += weight;
            } else if self.len + kept.len() < self.room_for(item) {
                if let Some(seats) = &mut self.seats {
                    seats.insert(item.key(), (serial, kept.len()));
                }
                kept.push(item.clone());
                pushed.taken += weight;
            } else {
                pushed.dropped += weight;
            }
        }
        self.append(number, kept.into(), now);
        pushed
    }

    /// Takes in all of it, as it is, whatever room there is.
    pub(super) fn admit(&mut self, number: u64, items: &Items<I>, now: Instant) -> Pushed {
        let taken = items.iter().fold(Weight::default(), |mut sum, item| {
            sum += item.weight();
            sum
        });
        // Whoever merges next has to know of these, too.
        self.seats = None;
        self.append(number, Arc::clone(items), now);
        Pushed { taken, ..Pushed::default() }
    }

    /// Takes out up to `most` of the oldest items, which all came as one batch; `None` when nothing waits.
    pub(super) fn take(&mut self, most: usize) -> Option<Run<I>> {
        let segment = self.segments.front()?;
        let end = (self.taken_out + most).min(segment.items.len());
        let range = self.taken_out..end;
        let (number, since, items) = (segment.number, segment.since, Arc::clone(&segment.items));
        self.forget_seats(range.clone());
        self.len -= range.len();
        self.taken_out = end;
        if end == items.len() {
            self.segments.pop_front();
            (self.first, self.taken_out) = (self.first + 1, 0);
        }
        if self.len == 0 {
            self.seats = None;
            self.segments.shrink_to(64);
        }
        Some(Run { number, since, items, range })
    }

    fn append(&mut self, number: u64, items: Items<I>, since: Instant) {
        if !items.is_empty() {
            self.len += items.len();
            self.segments.push_back(Segment { number, since, items });
        }
    }

    const fn common_room(&self) -> usize {
        self.room - self.room / 4
    }

    fn room_for(&self, item: &I) -> usize {
        if item.is_last() { self.room } else { self.common_room() }
    }

    fn all_seats(&self) -> HashMap<I::Key, Seat> {
        let mut seats = HashMap::with_capacity(self.len);
        for (serial, segment) in (self.first..).zip(&self.segments) {
            let skip = if serial == self.first { self.taken_out } else { 0 };
            let waiting = segment.items.iter().enumerate().skip(skip);
            seats.extend(waiting.map(|(position, item)| (item.key(), (serial, position))));
        }
        seats
    }

    /// Adds an item to the last one of its key, if both can be one; tells how many records fewer that is. `kept` will
    /// be the segment `serial`.
    fn merge(&mut self, item: &I, kept: &mut [I], serial: u64) -> Option<u64> {
        let (at, position) = *self.seats.as_ref()?.get(&item.key())?;
        let waiting = if at == serial {
            kept.get_mut(position)?
        } else {
            let index = usize::try_from(at - self.first).ok()?;
            let segment = self.segments.get_mut(index)?;
            // Other sinks may share the batch: then this one gets a copy of its own.
            Arc::make_mut(&mut segment.items).get_mut(position)?
        };
        let apart = waiting.weight().records + item.weight().records;
        waiting.merge(item).then(|| apart.saturating_sub(waiting.weight().records))
    }

    fn forget_seats(&mut self, range: Range<usize>) {
        let (Some(seats), Some(segment)) = (&mut self.seats, self.segments.front()) else { return };
        for (position, item) in segment.items.iter().enumerate().take(range.end).skip(range.start) {
            let key = item.key();
            if seats.get(&key) == Some(&(self.first, position)) {
                seats.remove(&key);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{FlowId, Record, RecordKind};
    use crate::sinks::samples::{end_of_tcp, ping};
    use proptest::prelude::*;

    fn record(flow: u128, kind: RecordKind, bytes: u64) -> Record {
        let mut record = if kind == RecordKind::End { end_of_tcp() } else { ping() };
        (record.flow_id, record.kind) = (FlowId(flow), kind);
        record.delta.original.bytes = bytes;
        record
    }

    fn updates(flows: std::ops::Range<u128>) -> Items<Record> {
        flows.map(|flow| record(flow, RecordKind::Update, 1)).collect::<Vec<_>>().into()
    }

    fn ends(flows: std::ops::Range<u128>) -> Items<Record> {
        flows.map(|flow| record(flow, RecordKind::End, 1)).collect::<Vec<_>>().into()
    }

    fn push(queue: &mut Queue<Record>, items: &Items<Record>) -> Pushed {
        queue.push(0, items, Instant::now())
    }

    /// Taken, merged, dropped, in records.
    fn fates(pushed: Pushed) -> (u64, u64, u64) {
        (pushed.taken.records, pushed.merged, pushed.dropped.records)
    }

    fn drain(queue: &mut Queue<Record>) -> Vec<Record> {
        std::iter::from_fn(|| queue.take(3)).flat_map(|run| run.items().to_vec()).collect()
    }

    #[test]
    fn a_batch_that_fits_is_shared_and_not_copied() {
        let mut queue = Queue::new(100, WhenFull::Coalesce);
        let batch = updates(0..20);
        assert_eq!(fates(push(&mut queue, &batch)), (20, 0, 0));
        let run = queue.take(100).unwrap();
        assert!(std::ptr::eq(run.items(), batch.as_slice()));
        assert_eq!((queue.len(), queue.oldest()), (0, None));
    }

    #[test]
    fn above_a_quarter_updates_of_a_flow_are_merged_and_nothing_of_them_is_lost() {
        let mut queue = Queue::new(100, WhenFull::Coalesce);
        let shared = updates(0..30);
        push(&mut queue, &shared);
        assert_eq!(fates(push(&mut queue, &updates(20..40))), (20, 10, 0));
        assert_eq!(fates(push(&mut queue, &updates(20..40))), (20, 20, 0));
        assert_eq!(queue.len(), 40);
        assert!(shared.iter().all(|record| record.delta.original.bytes == 1), "of other sinks, too");
        let bytes: Vec<_> = drain(&mut queue).iter().map(|record| record.delta.original.bytes).collect();
        assert_eq!(bytes, [vec![1; 20], vec![3; 10], vec![2; 10]].concat());
    }

    #[test]
    fn an_end_stays_an_end_and_what_follows_it_is_not_merged_with_what_was_before() {
        let mut queue = Queue::new(8, WhenFull::Coalesce);
        push(&mut queue, &updates(0..3));
        assert_eq!(fates(push(&mut queue, &ends(1..2))), (1, 0, 0));
        assert_eq!(fates(push(&mut queue, &updates(1..2))), (1, 0, 0));
        let kinds: Vec<_> = drain(&mut queue).iter().map(|record| (record.flow_id.0, record.kind)).collect();
        let (update, end) = (RecordKind::Update, RecordKind::End);
        assert_eq!(kinds, [(0, update), (1, update), (2, update), (1, end), (1, update)]);
    }

    #[test]
    fn the_last_quarter_is_for_ends() {
        for when_full in [WhenFull::Coalesce, WhenFull::DropNewest] {
            let mut queue = Queue::new(100, when_full);
            assert_eq!(fates(push(&mut queue, &updates(0..70))), (70, 0, 0));
            assert_eq!(fates(push(&mut queue, &updates(100..110))), (5, 0, 5));
            assert_eq!(fates(push(&mut queue, &ends(200..220))), (20, 0, 0));
            assert_eq!(fates(push(&mut queue, &ends(300..310))), (5, 0, 5));
            assert_eq!(fates(push(&mut queue, &updates(400..401))), (0, 0, 1));
            assert_eq!((queue.len(), queue.free()), (100, 0));
        }
    }

    #[test]
    fn drop_newest_merges_nothing() {
        let mut queue = Queue::new(8, WhenFull::DropNewest);
        push(&mut queue, &updates(0..5));
        assert_eq!(fates(push(&mut queue, &updates(0..5))), (1, 0, 4));
    }

    #[test]
    fn a_batch_larger_than_the_queue_is_merged_within_itself() {
        let mut queue = Queue::new(8, WhenFull::Coalesce);
        let twice = [updates(0..6).to_vec(), updates(0..7).to_vec()].concat();
        assert_eq!(fates(push(&mut queue, &twice.into())), (12, 6, 1));
    }

    #[test]
    fn the_oldest_number_is_that_of_the_first_that_waits() {
        let mut queue = Queue::new(100, WhenFull::Coalesce);
        queue.push(7, &updates(0..4), Instant::now());
        queue.push(8, &updates(4..8), Instant::now());
        assert_eq!(queue.take(3).unwrap().number, 7);
        assert_eq!(queue.oldest(), Some(7));
        queue.take(3);
        assert_eq!(queue.oldest(), Some(8));
        let mut rest = queue.take(9).unwrap();
        rest.advance(1);
        assert_eq!((rest.number, rest.items().len(), queue.oldest()), (8, 3, None));
    }

    #[derive(Clone, Debug)]
    enum Step {
        Push(Vec<(u128, u8)>),
        Take(usize),
    }

    fn steps() -> impl Strategy<Value = Vec<Step>> {
        let item = (0_u128..12, 0_u8..4);
        let step = prop_oneof![
            prop::collection::vec(item, 0..14).prop_map(Step::Push),
            (1_usize..9).prop_map(Step::Take),
        ];
        prop::collection::vec(step, 1..60)
    }

    /// Each record with an amount of its own.
    fn batch(items: &[(u128, u8)], bytes: &mut u64) -> Items<Record> {
        let kinds = [RecordKind::New, RecordKind::Update, RecordKind::Update, RecordKind::End];
        let mut one = |(flow, kind): &(u128, u8)| {
            *bytes += 1;
            record(*flow, kinds[usize::from(*kind)], *bytes)
        };
        items.iter().map(&mut one).collect::<Vec<_>>().into()
    }

    fn weigh(records: &[Record]) -> Weight {
        records.iter().fold(Weight::default(), |mut sum, record| {
            sum += record.weight();
            sum
        })
    }

    proptest! {
        #[test]
        fn what_is_offered_is_delivered_dropped_or_merged_and_firsts_and_ends_stay_themselves(
            steps in steps(),
            coalesces in any::<bool>(),
        ) {
            let when_full = if coalesces { WhenFull::Coalesce } else { WhenFull::DropNewest };
            let mut queue = Queue::new(16, when_full);
            let (mut offered, mut taken, mut dropped) = (Weight::default(), Weight::default(), Weight::default());
            let (mut merged, mut bytes, mut out) = (0, 0, Vec::new());
            let mut kept_whole = 0;
            for step in steps {
                match step {
                    Step::Push(items) => {
                        let batch = batch(&items, &mut bytes);
                        offered += weigh(&batch);
                        let pushed = push(&mut queue, &batch);
                        taken += pushed.taken;
                        dropped += pushed.dropped;
                        merged += pushed.merged;
                        kept_whole += pushed.taken.records - pushed.merged;
                        prop_assert!(queue.len() <= 16);
                    }
                    Step::Take(most) => {
                        out.extend(queue.take(most).iter().flat_map(|run| run.items().to_vec()));
                    }
                }
            }
            out.extend(drain(&mut queue));
            let delivered = weigh(&out);
            prop_assert_eq!(delivered.moved + dropped.moved, offered.moved);
            prop_assert_eq!(delivered.moved, taken.moved);
            prop_assert_eq!(delivered.records + dropped.records + merged, offered.records);
            prop_assert_eq!((delivered.ends, delivered.records), (taken.ends, kept_whole));
            prop_assert!(coalesces || merged == 0);
        }

        #[test]
        fn records_of_a_flow_keep_their_order(steps in steps()) {
            let mut queue = Queue::new(16, WhenFull::Coalesce);
            let (mut bytes, mut out, mut at) = (0_u64, Vec::<Record>::new(), 0);
            for step in steps {
                match step {
                    Step::Push(items) => {
                        let records: Vec<_> = batch(&items, &mut bytes).iter().map(|record| {
                            at += 1;
                            Record { observed_ns: at, ..*record }
                        }).collect();
                        push(&mut queue, &records.into());
                    }
                    Step::Take(most) => {
                        out.extend(queue.take(most).iter().flat_map(|run| run.items().to_vec()));
                    }
                }
            }
            out.extend(drain(&mut queue));
            for flow in 0..12 {
                let times = out.iter().filter(|record| record.flow_id == FlowId(flow));
                prop_assert!(times.map(|record| record.observed_ns).is_sorted());
            }
        }
    }
}
