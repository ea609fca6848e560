//! What the two ends of a sink share: the queue, its counters, what is under way.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::{Notify, watch};
use tokio::time::Instant;

use super::queue::{Held, Pushed, Queue, Run};
use super::spool::{Damaged, Recovered};
use super::spooled_since::SpooledSince;
use super::{Item, Items, Report, Weight};
use crate::config::QueueConfig;
use crate::model::Waiting;

/// Shared by the handle and the driver.
pub(super) struct Shared<I: Item> {
    state: Mutex<State<I>>,
    /// Behind the numbers of all batches that an earlier agent had.
    inherited_end: AtomicU64,
    /// Behind the numbers of those of which all is in the spool or was delivered from there.
    spooled_end: u64,
    /// Something came, or the input ended.
    pub(super) arrived: Notify,
    /// Something was taken out.
    pub(super) taken_out: Notify,
    /// Whether somebody waits for the end. Who waits for a better moment should not wait any longer then.
    hurrying: watch::Sender<bool>,
    /// What is in the spool may stay there.
    leaving: watch::Sender<bool>,
}

struct State<I: Item> {
    queue: Queue<I>,
    is_closed: bool,
    /// Of what something is under way, and how often.
    under_way: BTreeMap<Held, usize>,
    spooled_since: SpooledSince,
    report: Report,
    /// All that was handed in up to the batch of this number is out of the fold before the queue; `None` where that is not
    /// so for all that came.
    whole_through: Option<u64>,
}

/// What there is to take.
pub(super) enum Taken<I> {
    Run(Run<I>),
    /// Nothing now.
    Nothing,
    /// Nothing any more.
    Closed,
}

impl<I: Item> Shared<I> {
    /// `spooled_through`: the number of the last batch of which an earlier agent had all in the spool, with all before it.
    pub(super) fn new(config: &QueueConfig, spooled_through: Option<u64>) -> Self {
        let queue = Queue::new(config.records as usize, config.when_full);
        let report = Report::default();
        let (under_way, spooled_since) = (BTreeMap::new(), SpooledSince::default());
        let state = State { queue, is_closed: false, under_way, spooled_since, report, whole_through: None };
        Self {
            state: Mutex::new(state),
            inherited_end: AtomicU64::new(0),
            spooled_end: spooled_through.map_or(0, |through| through.saturating_add(1)),
            arrived: Notify::new(),
            taken_out: Notify::new(),
            hurrying: watch::Sender::new(false),
            leaving: watch::Sender::new(false),
        }
    }

    /// Hands in what there is room for, or all of it whatever room there is. Returns whether all of it was taken in.
    /// `whole_through`: the number of the last batch, if with these items all is handed in that they are made of.
    pub(super) fn hand_in(
        &self,
        number: u64,
        items: &Items<I>,
        whatever_room: bool,
        whole_through: Option<u64>,
    ) -> bool {
        if items.is_empty() {
            return true;
        }
        let now = Instant::now();
        let mut state = self.lock();
        state.whole_through = whole_through;
        let pushed = if whatever_room {
            state.queue.admit(number, items, now)
        } else {
            state.queue.push(number, items, now)
        };
        let Pushed { taken, merged, dropped } = pushed;
        state.report.taken += taken;
        state.report.merged += merged;
        state.report.dropped += dropped;
        drop(state);
        self.arrived.notify_one();
        dropped.records == 0
    }

    /// The number of the last batch, if all that was handed in was taken out and is whole.
    pub(super) fn whole_through(&self) -> Option<u64> {
        let state = self.lock();
        state.whole_through.filter(|_| state.queue.len() == 0)
    }

    /// Whether an earlier agent had all of this batch in the spool.
    pub(super) fn was_spooled(&self, number: u64) -> bool {
        number < self.spooled_end
    }

    /// An earlier agent had this batch, and all before it.
    pub(super) fn inherit_up_to(&self, number: u64) {
        self.inherited_end.fetch_max(number.saturating_add(1), Relaxed);
    }

    /// Whether an earlier agent had this batch.
    pub(super) fn is_inherited(&self, number: u64) -> bool {
        number < self.inherited_end.load(Relaxed)
    }

    /// Whether so many items may come without anything being dropped; a batch larger than the queue when it is empty.
    pub(super) fn has_room(&self, items: usize) -> bool {
        let state = self.lock();
        items <= state.queue.free() || state.queue.len() == 0
    }

    /// Takes out up to `most` items, which are under way then.
    pub(super) fn take(&self, most: usize) -> Taken<I> {
        let mut state = self.lock();
        let Some(run) = state.queue.take(most) else {
            return if state.is_closed { Taken::Closed } else { Taken::Nothing };
        };
        *state.under_way.entry(run.held()).or_default() += 1;
        drop(state);
        self.taken_out.notify_waiters();
        Taken::Run(run)
    }

    /// Notes that one more thing from there is under way.
    pub(super) fn hold(&self, held: Held) {
        *self.lock().under_way.entry(held).or_default() += 1;
    }

    /// Notes that one thing less from there is.
    pub(super) fn release(&self, held: Held) {
        let mut state = self.lock();
        if let Some(count) = state.under_way.get_mut(&held) {
            *count = count.saturating_sub(1);
        }
        if state.under_way.get(&held) == Some(&0) {
            state.under_way.remove(&held);
        }
    }

    /// The number of the oldest batch of which something waits or is under way.
    pub(super) fn oldest(&self) -> Option<u64> {
        let state = self.lock();
        let under_way = state.under_way.keys().next().map(|held| held.number);
        [under_way, state.queue.oldest()].into_iter().flatten().min()
    }

    /// What was taken in and has no fate yet, in memory or in the spool.
    pub(super) fn waiting(&self) -> Waiting {
        let state = self.lock();
        let mut weight = state.report.unwritten();
        weight += state.report.spooled;
        // There are as many as requests under way, a few.
        let under_way = state.under_way.keys().map(|held| held.since).min();
        let oldest = [under_way, state.queue.oldest_since(), state.spooled_since.oldest()];
        let oldest = oldest.into_iter().flatten().min().map_or(Duration::ZERO, |since| since.elapsed());
        Waiting { records: weight.records, moved: weight.moved, oldest }
    }

    pub(super) fn report(&self) -> Report {
        self.lock().report
    }

    pub(super) fn count_try(&self) {
        self.lock().report.tries += 1;
    }

    pub(super) fn count_panic(&self) {
        self.lock().report.panics += 1;
    }

    pub(super) fn count_delivered(&self, weight: Weight) {
        self.lock().report.delivered += weight;
    }

    pub(super) fn count_given_up(&self, weight: Weight) {
        self.lock().report.given_up += weight;
    }

    /// Counts what was in the spool from the start, and what of it cannot be read.
    pub(super) fn count_recovered(&self, found: &Recovered) {
        let mut state = self.lock();
        state.report.taken += found.weight;
        state.report.taken += found.damaged;
        state.report.spooled += found.weight;
        state.report.damaged += found.damaged;
        state.report.inherited += found.damaged;
        state.report.missing = found.missing;
        if found.requests > 0 {
            state.spooled_since.push(Instant::now(), found.weight.records);
        }
    }

    /// Counts a request that goes into the spool, and whose oldest item came then.
    pub(super) fn count_spooled(&self, weight: Weight, since: Instant) {
        let mut state = self.lock();
        state.report.spooled += weight;
        state.spooled_since.push(since, weight.records);
    }

    /// Counts that the spool did not take the request that was counted last.
    pub(super) fn count_refused(&self, weight: Weight) {
        let mut state = self.lock();
        state.report.spooled -= weight;
        state.spooled_since.take_back();
    }

    /// Notes that the oldest request in the spool is under way; returns by what [`Shared::end_spooled`] knows it.
    pub(super) fn begin_spooled(&self, weight: Weight) -> Option<Instant> {
        self.lock().spooled_since.begin(weight.records)
    }

    /// Notes that all of a request is stored or given up that was in the spool.
    pub(super) fn end_spooled(&self, since: Option<Instant>) {
        if let Some(since) = since {
            self.lock().spooled_since.end(since);
        }
    }

    pub(super) fn count_unspooled(&self, weight: Weight) {
        self.lock().report.spooled -= weight;
    }

    pub(super) fn count_damaged(&self, damaged: &Damaged) {
        let mut state = self.lock();
        state.report.spooled -= damaged.weight;
        state.report.damaged += damaged.weight;
        state.report.inherited += damaged.inherited;
        if damaged.weight.records > 0 {
            state.spooled_since.skip(damaged.weight.records);
        }
    }

    /// Notes that some of what is given up was taken in by an earlier agent.
    pub(super) fn count_inherited(&self, weight: Weight) {
        self.lock().report.inherited += weight;
    }

    /// What is in the spool stays there from now on.
    pub(super) fn leave(&self) {
        self.leaving.send_replace(true);
    }

    /// Waits for that.
    pub(super) async fn left(&self) {
        until(&self.leaving).await;
    }

    /// Counts what comes when nobody takes anything out any more.
    pub(super) fn count_dropped(&self, items: &[I]) {
        let mut state = self.lock();
        items.iter().for_each(|item| state.report.dropped += item.weight());
    }

    /// Ends the input.
    pub(super) fn close(&self) {
        self.lock().is_closed = true;
        self.arrived.notify_one();
    }

    /// Notes that somebody waits for the end.
    pub(super) fn hurry(&self) {
        self.hurrying.send_replace(true);
    }

    pub(super) fn is_hurried(&self) -> bool {
        *self.hurrying.borrow()
    }

    /// Waits until somebody waits for the end.
    pub(super) async fn hurried(&self) {
        until(&self.hurrying).await;
    }

    fn lock(&self) -> MutexGuard<'_, State<I>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

async fn until(flag: &watch::Sender<bool>) {
    // It cannot fail: the sender is here.
    let _ = flag.subscribe().wait_for(|set| *set).await;
}
