//! The vocabulary: observations enter the flow table, records leave it. Knows no source, no sink, no kernel call.

mod anchor;
mod backlog;
mod observation;
mod rate_curve;
mod record;
mod status;
mod sum;
mod tuple;
mod visit;
mod waiting;

pub use anchor::Anchor;
pub use backlog::{Backlog, NumberedBatch, Records};
pub use observation::{EndReason, Observation, ObservationKind, ProtocolState};
pub use rate_curve::RateCurve;
pub use record::{FlowId, NatKind, Record, RecordFlags, RecordKind};
pub use status::Status;
pub use sum::Sum;
pub use tuple::{Family, Tuple, protocol};
pub use visit::Visit;
pub use waiting::Waiting;

/// Packets and bytes of one direction.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counter {
    /// IP packets.
    pub packets: u64,
    /// Bytes, IP headers included.
    pub bytes: u64,
}

/// Packets and bytes of both directions.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Totals {
    /// From the opener of the flow.
    pub original: Counter,
    /// Towards the opener of the flow.
    pub reply: Counter,
}
