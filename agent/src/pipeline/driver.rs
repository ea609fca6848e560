//! The task behind each sink: takes from its queue, makes requests, has them delivered.

use std::sync::Arc;

use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::sleep_until;

use super::batch::{Added, Batch, Limits};
use super::delivery::Delivery;
use super::queue::Run;
use super::shared::{Shared, Taken};
use super::spool::Spool;
use super::voice::{Trouble, Voice};
use super::{Handle, Sink};
use crate::config::{DeliveryConfig, QueueConfig};

/// Starts a sink in the current Tokio runtime.
#[must_use]
pub fn spawn<S: Sink>(name: &str, sink: S, queue: &QueueConfig, config: &DeliveryConfig) -> Handle<S::Item> {
    spawn_with(name, sink, queue, config, None)
}

/// The same of what goes to a server beside the records of a sink, whose trouble it is: what they say of the server it
/// does not say again.
#[must_use]
pub fn spawn_beside<S: Sink>(
    name: &str,
    sink: S,
    queue: &QueueConfig,
    config: &DeliveryConfig,
    trouble: &Arc<Trouble>,
) -> Handle<S::Item> {
    start(Voice::beside(name, trouble), sink, queue, config, None)
}

/// The same with a spool, if there is one: every request goes through it.
#[must_use]
pub fn spawn_with<S: Sink>(
    name: &str,
    sink: S,
    queue: &QueueConfig,
    config: &DeliveryConfig,
    spool: Option<Arc<Spool>>,
) -> Handle<S::Item> {
    start(Voice::new(name), sink, queue, config, spool)
}

fn start<S: Sink>(
    voice: Voice,
    sink: S,
    queue: &QueueConfig,
    config: &DeliveryConfig,
    spool: Option<Arc<Spool>>,
) -> Handle<S::Item> {
    let (name, trouble) = (voice.name().to_owned(), voice.trouble());
    let spooled_through = spool.as_ref().and_then(|spool| spool.sealed_through());
    let shared = Arc::new(Shared::new(queue, spooled_through));
    if let Some(spool) = &spool {
        shared.count_recovered(&spool.recovered());
    }
    let delivery = Arc::new(Delivery::new(voice, sink, Arc::clone(&shared), config, spool));
    let (alive, ended) = watch::channel(());
    let driver = Driver { delivery, hand: None, under_way: JoinSet::new() };
    tokio::spawn(async move {
        // In a task of its own, so that a fault of the driver itself is noticed, too.
        if let Err(fault) = tokio::spawn(driver.run()).await {
            tracing::error!("sink {name}: its driver failed ({fault}); nothing more goes there");
        }
        drop(alive);
    });
    Handle { shared, ended, trouble }
}

pub(super) struct Driver<S: Sink> {
    pub(super) delivery: Arc<Delivery<S>>,
    /// Taken out of the queue, and in no request yet.
    pub(super) hand: Option<Run<S::Item>>,
    under_way: JoinSet<()>,
}

impl<S: Sink> Driver<S> {
    /// Until the input has ended and all of it is delivered.
    async fn run(mut self) {
        match self.delivery.spool.clone() {
            Some(spool) => self.run_through(&spool).await,
            None => self.run_directly().await,
        }
        self.delivery.conclude();
    }

    async fn run_directly(&mut self) {
        while let Some(Batch { request, held, .. }) = self.gather().await {
            self.under_way.spawn(Arc::clone(&self.delivery).deliver(request, held));
            // What waits meanwhile can still be merged.
            while self.under_way.len() >= self.delivery.config.concurrency as usize {
                self.one_done().await;
            }
        }
        while !self.under_way.is_empty() {
            self.one_done().await;
        }
    }

    async fn one_done(&mut self) {
        if let Some(Err(fault)) = self.under_way.join_next().await {
            tracing::error!("a delivery failed ({fault}); its records count as not written");
        }
    }

    /// The next request, when it is full or its first item has waited long enough; `None` when nothing comes any more.
    pub(super) async fn gather(&mut self) -> Option<Batch> {
        let shared = Arc::clone(&self.delivery.shared);
        let mut batch = Batch::default();
        loop {
            match self.fill(&mut batch) {
                Filled::Full => return Some(batch),
                Filled::Last => return (!batch.is_empty()).then_some(batch),
                Filled::More => {}
            }
            let due = batch.due(self.delivery.config.batch_age).filter(|_| !batch.is_empty());
            let Some(due) = due else {
                shared.arrived.notified().await;
                continue;
            };
            tokio::select! {
                () = shared.arrived.notified() => {}
                () = sleep_until(due) => return Some(batch),
            }
        }
    }

    /// Adds what there is.
    fn fill(&mut self, batch: &mut Batch) -> Filled {
        let most = self.delivery.config.batch_records as usize;
        let limits = Limits { items: most, bytes: self.delivery.most_bytes() };
        loop {
            if batch.room(limits) == 0 {
                return Filled::Full;
            }
            let mut run = match self.hand.take().map_or_else(|| self.take(batch.room(limits)), Taken::Run) {
                Taken::Run(run) => run,
                Taken::Nothing => return Filled::More,
                Taken::Closed => return Filled::Last,
            };
            let is_full = self.encode(&mut run, batch, limits);
            if run.items().is_empty() {
                self.delivery.shared.release(run.held());
            } else {
                self.hand = Some(run);
            }
            if is_full {
                return Filled::Full;
            }
        }
    }

    fn take(&self, most: usize) -> Taken<S::Item> {
        self.delivery.shared.take(most)
    }

    /// Adds items of a run until the request is full; returns whether it is.
    fn encode(&self, run: &mut Run<S::Item>, batch: &mut Batch, limits: Limits) -> bool {
        let Delivery { sink, shared, .. } = &*self.delivery;
        let (mut done, mut is_full, was_empty) = (0, false, batch.is_empty());
        while !is_full && done < run.items().len() {
            let most = TOGETHER.min(batch.room(limits));
            let next = run.items().get(done..).unwrap_or_default();
            let next = next.get(..most).unwrap_or(next);
            let added = batch.add_all(next, limits, |items, body, ends| sink.encode_all(items, body, ends));
            let added = added.unwrap_or_else(|_| self.encode_each(next, batch, limits));
            is_full = added < next.len() || most == 0;
            done += added;
        }
        if !batch.is_empty() {
            batch.note(run.held());
            batch.request.in_doubt |= shared.is_inherited(run.number);
        }
        // What comes first is oldest: until it is delivered, that is under way.
        if was_empty && !batch.is_empty() {
            shared.hold(run.held());
        }
        run.advance(done);
        is_full
    }

    /// Adds items one by one, so that one which cannot be encoded harms no other; returns how many are done with.
    fn encode_each(&self, items: &[S::Item], batch: &mut Batch, limits: Limits) -> usize {
        let sink = &self.delivery.sink;
        for (done, item) in items.iter().enumerate() {
            match batch.add(item, limits, |item, body| sink.encode(item, body)) {
                Added::Yes => {}
                Added::Panicked(panicked) => self.delivery.refuse(item, &panicked),
                Added::TooMuch => return done,
            }
        }
        items.len()
    }
}

/// Items that are encoded at once. What does not fit the request of them is encoded again for the next one.
const TOGETHER: usize = 64;

/// What is to be done with a request after it was filled.
enum Filled {
    /// It goes.
    Full,
    /// More may come.
    More,
    /// Nothing more comes.
    Last,
}
