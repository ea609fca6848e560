//! A flow that is due to be looked at although no packet made it speak.

use super::{Status, Totals};

/// What the flow table knows of a flow that is due. A source that can reads its counters and observes what changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Visit {
    /// Address of the kernel's entry.
    pub conntrack: u64,
    /// When the kernel programs first met the flow; with the address it says which flow is meant.
    pub born_ns: u64,
    /// [`super::Tuple::fingerprint`] of its original tuple.
    pub fingerprint: u32,
    /// The totals known.
    pub totals: Totals,
    /// The mark known.
    pub mark: u32,
    /// The labels known.
    pub labels: [u8; 16],
    /// The status bits known.
    pub status: Status,
}
