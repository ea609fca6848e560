//! Where records are handed to, whatever a sink makes of them.

use std::fmt::Debug;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use super::{Handle, Items, Offered, Report, Trouble};
use crate::model::{Record, Waiting};

/// What waits for something to happen at a sink.
pub type Wait<'a> = Pin<Box<dyn Future<Output = ()> + Send + 'a>>;

/// The way of records to a driver.
pub trait Inlet: Debug + Send + Sync {
    /// Whether what is delivered tells how many flows there are.
    fn counts_flows(&self) -> bool {
        false
    }

    /// Tells those who count flows of one that lives already, by a record that brings nothing.
    fn meet(&self, _living: &Record) {}

    /// Hands over what there is room for. Never waits. `number` is by what [`Inlet::oldest`] knows the batch; it never
    /// falls.
    fn offer(&self, number: u64, records: &Items<Record>) -> Offered;

    /// Hands over all of it, unchanged and whatever room there is. An earlier agent had taken it in, and may have
    /// delivered it. Its numbers are lower than all others.
    fn inherit(&self, number: u64, records: &Items<Record>) -> Offered;

    /// Hands over all of it, unchanged and whatever room there is.
    fn admit(&self, number: u64, records: &Items<Record>) -> Offered;

    /// Tells the time, nanoseconds of the wall clock; to be called often, also when nothing comes. What is ready by then
    /// goes where there is room, or whatever room there is.
    fn tick(&self, now_ns: i64, whatever_room: bool);

    /// Waits until there is room for so many records, or nothing can be delivered any more.
    fn room_for(&self, records: usize) -> Wait<'_>;

    /// The number of the oldest batch of which something is not delivered yet.
    fn oldest(&self) -> Option<u64>;

    /// What was taken in and is neither delivered nor given up, but for what is still to become a sum.
    fn waiting(&self) -> Waiting;

    /// What was done until now.
    fn report(&self) -> Report;

    /// What is wrong with the server, for what goes there beside.
    fn trouble(&self) -> &Arc<Trouble>;

    /// Ends the input: what waits is delivered, then the driver ends.
    fn close(&self);

    /// Somebody waits for the end: see [`Handle::hurry`].
    fn hurry(&self, patience: Duration);

    /// Waits until the driver has ended.
    fn ended(&self) -> Wait<'_>;
}

impl Inlet for Handle<Record> {
    fn offer(&self, number: u64, records: &Items<Record>) -> Offered {
        Self::offer(self, number, records)
    }

    fn inherit(&self, number: u64, records: &Items<Record>) -> Offered {
        Self::inherit(self, number, records)
    }

    fn admit(&self, number: u64, records: &Items<Record>) -> Offered {
        Self::admit(self, number, records)
    }

    fn tick(&self, _: i64, _: bool) {}

    fn room_for(&self, records: usize) -> Wait<'_> {
        Box::pin(Self::room_for(self, records))
    }

    fn oldest(&self) -> Option<u64> {
        Self::oldest(self)
    }

    fn waiting(&self) -> Waiting {
        Self::waiting(self)
    }

    fn report(&self) -> Report {
        Self::report(self)
    }

    fn trouble(&self) -> &Arc<Trouble> {
        Self::trouble(self)
    }

    fn close(&self) {
        Self::close(self);
    }

    fn hurry(&self, patience: Duration) {
        Self::hurry(self, patience);
    }

    fn ended(&self) -> Wait<'_> {
        Box::pin(Self::ended(self))
    }
}
