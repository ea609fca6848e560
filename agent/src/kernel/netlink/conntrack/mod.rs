//! Conntrack messages (`nfnetlink_conntrack.h`): what the kernel says of a flow, and what can be asked of it.

mod decode;
mod end;
mod request;
mod tuple;

pub use decode::decode;
pub use end::{end_reason, is_closing};
pub use request::{dump, entries, flush};

use crate::model::{Observation, ObservationKind, ProtocolState, Status, Totals, Tuple};

/// `NFNL_SUBSYS_CTNETLINK << 8`
const SUBSYSTEM: u16 = 1 << 8;

/// `nlmsg_type` of a flow that exists: in dumps and in events of new flows.
pub const MESSAGE_NEW: u16 = SUBSYSTEM;

/// `nlmsg_type` of the event of a flow's end, and of the request to delete flows.
pub const MESSAGE_DELETE: u16 = SUBSYSTEM | 2;

/// One flow as the kernel described it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ConntrackMessage {
    /// Whether this is the event of the flow's end.
    pub destroyed: bool,
    /// Port of the netlink socket that asked for what the event tells; 0 for the kernel itself.
    pub requested_by: u32,
    /// Tuple of the original direction.
    pub original: Tuple,
    /// Tuple of the reply direction.
    pub reply: Tuple,
    /// `enum ip_conntrack_status`
    pub status: Status,
    /// Seconds until the entry expires; `None` in the event of an end when less than one was left.
    pub timeout: Option<u32>,
    /// Totals; `None` when the kernel does not count this flow, and in events of new flows.
    pub counters: Option<Totals>,
    /// Connection mark.
    pub mark: u32,
    /// Conntrack zone of either direction.
    pub zone: u16,
    /// `CTA_ID`: a keyed hash of the entry's address and tuple, the same for the life of the entry.
    pub id: u32,
    /// When it was confirmed, `CLOCK_REALTIME` nanoseconds; 0 when the kernel keeps no timestamps.
    pub start_ns: u64,
    /// When it was deleted, likewise.
    pub stop_ns: u64,
    /// State of the protocol tracker.
    pub protocol_state: ProtocolState,
    /// Connection labels.
    pub labels: [u8; 16],
}

impl ConntrackMessage {
    /// The observation that this message amounts to; `boot_ns` is when it was read.
    #[must_use]
    pub fn observation(&self, kind: ObservationKind, netns: u32, boot_ns: u64) -> Observation {
        Observation {
            kind,
            boot_ns,
            conntrack: 0,
            born_ns: 0,
            start_ns: self.start_ns,
            netns,
            zone: self.zone,
            protocol_state: self.protocol_state,
            has_counters: self.counters.is_some(),
            midlife: false,
            announced: false,
            status: self.status,
            mark: self.mark,
            labels: self.labels,
            original: self.original,
            reply: self.reply,
            totals: self.counters.unwrap_or_default(),
            end_reason: (kind == ObservationKind::End).then(|| end_reason(self)),
        }
    }
}
