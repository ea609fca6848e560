//! A destination.

use super::{Item, Outcome, Request};

/// What every destination can do; the driver does the rest: batches, retries, backoff, spool, drain.
pub trait Sink: Send + Sync + 'static {
    /// What it delivers: records, or sums of groups.
    type Item: Item;

    /// Appends one item, complete in itself.
    fn encode(&self, item: &Self::Item, out: &mut Vec<u8>);

    /// Appends items one after the other, and to `ends` where in `out` each ends. Many at once may be cheaper than each
    /// alone.
    fn encode_all(&self, items: &[Self::Item], out: &mut Vec<u8>, ends: &mut Vec<u32>) {
        for item in items {
            self.encode(item, out);
            ends.push(u32::try_from(out.len()).unwrap_or(u32::MAX));
        }
    }

    /// Tries once to deliver a request. Cancelling it leaves the request in doubt.
    fn deliver(&self, request: &Request) -> impl Future<Output = Outcome> + Send;
}
