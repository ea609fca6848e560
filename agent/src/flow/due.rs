//! When a flow is due, and handing out those that are.

use super::options::{FlowTableOptions, Visits};
use super::state::{Facts, FlowState};
use super::table::FlowTable;
use crate::model::{ObservationKind, Visit};

/// How much later than its next record could be due a quiet flow is visited: the kernel programs count time in
/// jiffies, and a packet that comes in time makes the visit needless.
const SLACK_NS: u64 = 1_000_000_000;

/// Positions of the wheel that one call looks at beside those it gives out: of a million busy flows, whose times were
/// all put off, so many turn up in 200 ms.
const LOOKS: usize = 32_768;

impl FlowTable {
    /// Appends the flows that are due at `now_boot_ns`, `limit` at most; the others follow with the next call. The
    /// work does not grow with the number of flows that are not due.
    pub fn take_due(&mut self, now_boot_ns: u64, limit: usize, due: &mut Vec<Visit>) {
        if self.options.visits == Visits::Never {
            return;
        }
        let mut budget = limit.saturating_add(LOOKS);
        let mut room = limit;
        while room > 0
            && let Some(position) = self.wheel.take(now_boot_ns, &mut budget)
        {
            let Some(flow) = self.flows.get(position) else { continue };
            due.push(visit(flow));
            room -= 1;
            if self.options.visits == Visits::Always {
                let next = now_boot_ns.saturating_add(every(&self.options, flow, now_boot_ns));
                self.wheel.schedule(position, next);
            }
        }
    }

    /// A walk met a known flow. One that moved, or has another mark, without a record and has no visit before it gets
    /// one.
    pub(super) fn schedule_if_forgotten(&mut self, position: u32, is_behind: bool, now_ns: u64) {
        if self.wheel.is_scheduled(position) || self.flows.get(position).is_none_or(|f| !can_be_visited(f)) {
            return;
        }
        match self.options.visits {
            Visits::Quiet if is_behind => self.wheel.schedule(position, now_ns),
            Visits::Always => {
                let flow = self.flows.get(position);
                if let Some(due_ns) = flow.and_then(|f| due_ns(&self.options, f, ObservationKind::Existing)) {
                    self.wheel.schedule(position, due_ns);
                }
            }
            Visits::Never | Visits::Quiet => {}
        }
    }
}

/// When to visit a flow next, after a sight of it that gave, or could have given, a record.
#[inline]
pub(super) fn due_ns(options: &FlowTableOptions, flow: &FlowState, kind: ObservationKind) -> Option<u64> {
    if !can_be_visited(flow) {
        return None;
    }
    let seen = flow.last_seen_ns;
    let every = every(options, flow, seen);
    let wait = match options.visits {
        Visits::Never => return None,
        Visits::Quiet => every.saturating_add(SLACK_NS),
        // Flows that a look met together are spread over the interval.
        Visits::Always if kind == ObservationKind::Existing => share(flow, every),
        Visits::Always => every,
    };
    Some(seen.saturating_add(wait))
}

/// Nanoseconds between two records of a flow; the kernel programs count its age from where they met it.
#[inline]
fn every(options: &FlowTableOptions, flow: &FlowState, now_ns: u64) -> u64 {
    options.rate_curve.every(now_ns.saturating_sub(flow.born_ns))
}

/// Whether the source can find it.
fn can_be_visited(flow: &FlowState) -> bool {
    flow.conntrack != 0 && flow.born_ns != 0 && !flow.facts.has(Facts::ENDED)
}

/// A part of the interval that differs from flow to flow.
fn share(flow: &FlowState, every: u64) -> u64 {
    let fraction = flow.flow_id.0 & u128::from(u32::MAX);
    u64::try_from((u128::from(every) * fraction) >> 32).unwrap_or(every)
}

fn visit(flow: &FlowState) -> Visit {
    Visit {
        conntrack: flow.conntrack,
        born_ns: flow.born_ns,
        fingerprint: flow.original.fingerprint(),
        totals: flow.totals,
        mark: flow.mark,
        labels: flow.labels,
        status: flow.status,
    }
}
