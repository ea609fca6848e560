//! The way of records to a sink that delivers something made of many of them.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use super::inlet::Wait;
use super::{Handle, Inlet, Item, Items, Offered, Report, Trouble};
use crate::model::{Record, Waiting};

/// Makes other items of records over time: sums of groups.
pub trait Fold: Send + 'static {
    /// What it makes.
    type Item: Item;

    /// Takes in records; what is ready is appended.
    fn take(&mut self, records: &[Record], out: &mut Vec<Self::Item>);

    /// Takes in a flow that lives already, by a record that brings nothing.
    fn meet(&mut self, _living: &Record) {}

    /// Takes in the time, nanoseconds of the wall clock; what is ready by then is appended.
    fn advance(&mut self, now_ns: i64, out: &mut Vec<Self::Item>);

    /// Appends all there is: nothing more comes.
    fn finish(self, now_ns: i64, out: &mut Vec<Self::Item>);
}

/// Folds records before a driver gets them. What has no room is dropped behind that, never before.
pub struct Folded<F: Fold> {
    state: Mutex<State<F>>,
    handle: Handle<F::Item>,
}

/// Items are handed on under its lock: whoever asks for the oldest number finds it on one side or the other.
struct State<F> {
    /// `None` when the input has ended.
    fold: Option<F>,
    /// The number of the oldest batch that is in it.
    number: Option<u64>,
    /// The number of the last batch that came.
    last: u64,
    now_ns: i64,
}

impl<F> State<F> {
    /// The number for all that comes out now: of the oldest batch that it is made of. What is made of none waits behind
    /// the last one, which is none of its business.
    fn take_number(&mut self) -> u64 {
        self.number.take().unwrap_or_else(|| self.last.saturating_add(1))
    }
}

impl<F: Fold> Folded<F> {
    /// Puts a fold before a driver.
    #[must_use]
    pub const fn new(fold: F, handle: Handle<F::Item>, now_ns: i64) -> Self {
        Self { state: Mutex::new(State { fold: Some(fold), number: None, last: 0, now_ns }), handle }
    }

    fn take(&self, number: u64, records: &[Record], whatever_room: bool) -> Offered {
        let mut state = self.lock();
        let State { fold: Some(fold), number: oldest, last, .. } = &mut *state else {
            return Offered::Closed;
        };
        *last = number;
        if records.is_empty() {
            return Offered::Taken;
        }
        let first = *oldest.get_or_insert(number);
        let mut out = Vec::new();
        fold.take(records, &mut out);
        if out.is_empty() {
            return Offered::Taken;
        }
        // The last of these records may be in it still.
        *oldest = Some(number);
        self.handle.hand_in(first, &out.into(), whatever_room, None)
    }

    fn lock(&self) -> MutexGuard<'_, State<F>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<F: Fold> Inlet for Folded<F> {
    fn counts_flows(&self) -> bool {
        true
    }

    fn meet(&self, living: &Record) {
        if let Some(fold) = &mut self.lock().fold {
            fold.meet(living);
        }
    }

    fn offer(&self, number: u64, records: &Items<Record>) -> Offered {
        self.take(number, records, false)
    }

    /// Without a spool nobody can tell what of it is in a sum that was sent already.
    fn inherit(&self, number: u64, records: &Items<Record>) -> Offered {
        if self.handle.was_spooled(number) { Offered::Taken } else { self.take(number, records, true) }
    }

    fn admit(&self, number: u64, records: &Items<Record>) -> Offered {
        self.take(number, records, true)
    }

    fn tick(&self, now_ns: i64, whatever_room: bool) {
        let mut state = self.lock();
        state.now_ns = now_ns;
        let Some(fold) = &mut state.fold else { return };
        let mut out = Vec::new();
        fold.advance(now_ns, &mut out);
        if !out.is_empty() {
            let number = state.take_number();
            // What was dropped is counted.
            let _ = self.handle.hand_in(number, &out.into(), whatever_room, Some(state.last));
        }
    }

    /// What records make is not known before: one may always come when another has gone.
    fn room_for(&self, _: usize) -> Wait<'_> {
        Box::pin(self.handle.room_for(1))
    }

    fn oldest(&self) -> Option<u64> {
        let state = self.lock();
        [state.number, self.handle.oldest()].into_iter().flatten().min()
    }

    fn waiting(&self) -> Waiting {
        self.handle.waiting()
    }

    fn report(&self) -> Report {
        self.handle.report()
    }

    fn trouble(&self) -> &Arc<Trouble> {
        self.handle.trouble()
    }

    fn close(&self) {
        let mut state = self.lock();
        let mut out = Vec::new();
        if let Some(fold) = state.fold.take() {
            fold.finish(state.now_ns, &mut out);
        }
        let number = state.take_number();
        // The last may not be dropped for want of room; where the driver has ended they are counted.
        let _ = self.handle.hand_in(number, &out.into(), true, Some(state.last));
        self.handle.close();
    }

    fn hurry(&self, patience: Duration) {
        self.handle.hurry(patience);
    }

    fn ended(&self) -> Wait<'_> {
        Box::pin(self.handle.ended())
    }
}

impl<F: Fold> std::fmt::Debug for Folded<F> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Folded").field("handle", &self.handle).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::config::{DeliveryConfig, QueueConfig, WhenFull};
    use crate::pipeline::spawn;
    use crate::sinks::null::NullSink;
    use crate::sinks::samples::ping;

    /// Keeps records until a time that ends in 0, or until there are ten.
    #[derive(Default)]
    struct Tens(Vec<Record>);

    impl Fold for Tens {
        type Item = Record;

        fn take(&mut self, records: &[Record], out: &mut Vec<Record>) {
            self.0.extend_from_slice(records);
            let whole = self.0.len() / 10 * 10;
            out.extend(self.0.drain(..whole));
        }

        fn advance(&mut self, now_ns: i64, out: &mut Vec<Record>) {
            if now_ns % 10 == 0 {
                out.append(&mut self.0);
            }
        }

        fn finish(mut self, _: i64, out: &mut Vec<Record>) {
            out.append(&mut self.0);
        }
    }

    fn tens(room: u32) -> Folded<Tens> {
        let queue = QueueConfig { records: room, when_full: WhenFull::DropNewest };
        Folded::new(Tens::default(), spawn("a", NullSink, &queue, &DeliveryConfig::default()), 0)
    }

    fn batch(records: usize) -> Items<Record> {
        Arc::from(vec![ping(); records])
    }

    #[tokio::test(start_paused = true)]
    async fn records_come_out_when_it_is_time_and_their_batch_is_not_delivered_before() {
        let folded = tens(100);
        assert_eq!(folded.offer(4, &batch(3)), Offered::Taken);
        assert_eq!(folded.offer(5, &batch(3)), Offered::Taken);
        folded.tick(7, false);
        assert_eq!((folded.oldest(), folded.report().taken.records), (Some(4), 0));
        folded.tick(10, false);
        assert_eq!((folded.oldest(), folded.report().taken.records), (Some(4), 6), "in the driver now");
        tokio::time::sleep(Duration::from_secs(1)).await;
        assert_eq!((folded.oldest(), folded.report().delivered.records), (None, 6));
    }

    #[tokio::test(start_paused = true)]
    async fn what_comes_out_early_leaves_the_rest_of_its_batch_undelivered() {
        let folded = tens(100);
        assert_eq!(folded.offer(4, &batch(3)), Offered::Taken);
        assert_eq!(folded.offer(5, &batch(8)), Offered::Taken);
        tokio::time::sleep(Duration::from_secs(1)).await;
        assert_eq!((folded.oldest(), folded.report().delivered.records), (Some(5), 10));
    }

    #[tokio::test(start_paused = true)]
    async fn the_end_of_the_input_brings_out_everything_whatever_room_there_is() {
        let folded = tens(4);
        assert_eq!(folded.offer(0, &batch(9)), Offered::Taken);
        folded.close();
        assert_eq!(folded.offer(0, &batch(1)), Offered::Closed);
        folded.ended().await;
        assert_eq!((folded.report().delivered.records, folded.report().dropped.records), (9, 0));
    }

    /// Tells of something at each tick, whether or not records came.
    struct Gauge;

    impl Fold for Gauge {
        type Item = Record;

        fn take(&mut self, _: &[Record], _: &mut Vec<Record>) {}

        fn advance(&mut self, _: i64, out: &mut Vec<Record>) {
            out.push(ping());
        }

        fn finish(self, _: i64, _: &mut Vec<Record>) {}
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_made_of_no_record_keeps_no_batch_from_being_delivered() {
        let queue = QueueConfig { records: 100, when_full: WhenFull::DropNewest };
        let folded = Folded::new(Gauge, spawn("a", NullSink, &queue, &DeliveryConfig::default()), 0);
        assert_eq!(folded.offer(4, &batch(3)), Offered::Taken);
        folded.tick(10, false);
        folded.tick(20, false);
        assert_eq!(folded.oldest(), Some(4));
        tokio::time::sleep(Duration::from_secs(1)).await;
        assert_eq!((folded.oldest(), folded.report().tries), (None, 1));
        folded.tick(30, false);
        assert_eq!(folded.oldest(), Some(5), "all of the last batch is delivered");
    }

    #[tokio::test(start_paused = true)]
    async fn a_batch_of_which_nothing_is_wanted_is_not_waited_for() {
        let folded = tens(100);
        assert_eq!(folded.offer(4, &batch(0)), Offered::Taken);
        assert_eq!(folded.oldest(), None);
        assert_eq!(folded.offer(5, &batch(1)), Offered::Taken);
        assert_eq!(folded.offer(6, &batch(0)), Offered::Taken);
        assert_eq!(folded.oldest(), Some(5));
    }

    #[tokio::test(start_paused = true)]
    async fn without_room_what_was_made_is_dropped_and_counted_or_waits() {
        let folded = tens(4);
        assert_eq!(folded.offer(0, &batch(9)), Offered::Taken);
        folded.tick(10, false);
        assert_eq!(folded.report().dropped.records, 6, "a quarter is for ends");
        assert_eq!(folded.admit(0, &batch(9)), Offered::Taken);
        folded.tick(20, true);
        folded.close();
        folded.ended().await;
        assert_eq!((folded.report().delivered.records, folded.report().dropped.records), (12, 6));
    }
}
