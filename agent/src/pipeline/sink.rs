//! A destination.

use super::{Item, Outcome, Request};

/// What every destination can do; the driver does the rest: batches, retries, backoff, spool, drain.
pub trait Sink: Send + Sync + 'static {
    /// What it delivers: records, or sums of groups.
    type Item: Item;

    /// Appends one item, complete in itself.
    fn encode(&self, item: &Self::Item, out: &mut Vec<u8>);

    /// Tries once to deliver a request. Cancelling it leaves the request in doubt.
    fn deliver(&self, request: &Request) -> impl Future<Output = Outcome> + Send;
}
