//! The way to a running sink.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;

use super::shared::Shared;
use super::voice::Trouble;
use super::{Item, Items, Report};
use crate::model::Waiting;

/// What became of an offer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub enum Offered {
    /// It will be delivered.
    Taken,
    /// There was no room for all of it: what did not fit was dropped and counted.
    Full,
    /// Nothing can be delivered any more: it was dropped and counted.
    Closed,
}

/// Hands items to a driver.
pub struct Handle<I: Item> {
    pub(super) shared: Arc<Shared<I>>,
    /// Its sender is dropped when the driver ends.
    pub(super) ended: watch::Receiver<()>,
    pub(super) trouble: Arc<Trouble>,
}

impl<I: Item> Handle<I> {
    /// Hands over what there is room for. Never waits. `number` is by what [`Handle::oldest`] knows the batch; it never
    /// falls.
    pub fn offer(&self, number: u64, items: &Items<I>) -> Offered {
        self.hand_in(number, items, false, None)
    }

    /// Hands over all of it, unchanged and whatever room there is: for what an earlier agent had taken in already. That
    /// one may have sent it, so requests with something of it are in doubt. Its numbers are lower than all others.
    pub fn inherit(&self, number: u64, items: &Items<I>) -> Offered {
        self.shared.inherit_up_to(number);
        self.admit(number, items)
    }

    /// Hands over all of it, unchanged and whatever room there is: for what waited for room.
    pub fn admit(&self, number: u64, items: &Items<I>) -> Offered {
        self.hand_in(number, items, true, None)
    }

    /// Hands over what there is room for, or all of it. `whole_through`: items were made of whole batches up to that of
    /// this number.
    pub(super) fn hand_in(
        &self,
        number: u64,
        items: &Items<I>,
        whatever_room: bool,
        whole_through: Option<u64>,
    ) -> Offered {
        if self.has_ended() {
            self.shared.count_dropped(items);
            return Offered::Closed;
        }
        let is_in = self.shared.hand_in(number, items, whatever_room, whole_through);
        if is_in { Offered::Taken } else { Offered::Full }
    }

    /// Whether an earlier agent had all that was made of this batch in the spool: it is there, or was delivered.
    pub(super) fn was_spooled(&self, number: u64) -> bool {
        self.shared.was_spooled(number)
    }

    /// Waits until there is room for so many items, or nothing can be delivered any more: for a replay, whose records
    /// are then admitted.
    pub async fn room_for(&self, items: usize) {
        loop {
            let taken_out = self.shared.taken_out.notified();
            tokio::pin!(taken_out);
            taken_out.as_mut().enable();
            if self.has_ended() || self.shared.has_room(items) {
                return;
            }
            tokio::select! {
                () = taken_out => {}
                () = self.ended() => {}
            }
        }
    }

    /// The number of the oldest batch of which something is not delivered yet.
    #[must_use]
    pub fn oldest(&self) -> Option<u64> {
        self.shared.oldest()
    }

    /// What was taken in and is neither delivered nor given up.
    #[must_use]
    pub fn waiting(&self) -> Waiting {
        self.shared.waiting()
    }

    /// What was done until now.
    #[must_use]
    pub fn report(&self) -> Report {
        self.shared.report()
    }

    /// What is wrong with the server, for what goes there beside.
    #[must_use]
    pub fn trouble(&self) -> &Arc<Trouble> {
        &self.trouble
    }

    /// Ends the input: what waits is delivered, then the driver ends.
    pub fn close(&self) {
        self.shared.close();
    }

    /// Somebody waits for the end: from now on tries follow each other sooner, and what is in a spool may stay there,
    /// after so long or as soon as the server does not take it.
    pub fn hurry(&self, patience: Duration) {
        self.shared.hurry();
        let handle = self.clone();
        tokio::spawn(async move {
            if tokio::time::timeout(patience, handle.ended()).await.is_err() {
                handle.shared.leave();
            }
        });
    }

    /// Waits until the driver has ended.
    pub async fn ended(&self) {
        // Nothing is ever sent.
        let _ = self.ended.clone().changed().await;
    }

    fn has_ended(&self) -> bool {
        self.ended.has_changed().is_err()
    }
}

impl<I: Item> Clone for Handle<I> {
    fn clone(&self) -> Self {
        let Self { shared, ended, trouble } = self;
        Self { shared: Arc::clone(shared), ended: ended.clone(), trouble: Arc::clone(trouble) }
    }
}

impl<I: Item> std::fmt::Debug for Handle<I> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Handle").field("report", &self.report()).finish_non_exhaustive()
    }
}
