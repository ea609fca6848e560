//! Observations for tests and benchmarks: what is not named is the same in all.

use conntally::model::{EndReason, Observation, ObservationKind, Status, Totals, Tuple};

/// A sight at this moment of a flow that is counted, without address, birth and start. Its end is a timeout.
pub(crate) fn sight(kind: ObservationKind, original: Tuple, boot_ns: u64) -> Observation {
    let reply = Tuple {
        src: original.dst,
        dst: original.src,
        src_port: original.dst_port,
        dst_port: original.src_port,
        ..original
    };
    Observation {
        kind,
        boot_ns,
        conntrack: 0,
        born_ns: 0,
        start_ns: 0,
        netns: 1,
        zone: 0,
        protocol_state: None,
        has_counters: true,
        midlife: false,
        announced: false,
        status: Status(Status::CONFIRMED),
        mark: 0,
        labels: [0; 16],
        original,
        reply,
        totals: Totals::default(),
        end_reason: (kind == ObservationKind::End).then_some(EndReason::Timeout),
    }
}
