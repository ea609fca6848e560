//! An agent's own audit against its records and the wire.

use super::Verdict;
use crate::agent::Output;
use crate::audit::{Audit, Sum};
use crate::key::{Counter, Totals};
use crate::records::Records;

/// What an audit has to account for.
#[derive(Clone, Copy, Debug)]
pub struct Accounted {
    /// What the records bill that came in the agent's time.
    billed: Totals,
    /// Whether agents before it wrote records, or lost some.
    follows: bool,
    /// Whether some of the records may be of an agent before it, which was killed before it wrote them.
    inherits: bool,
}

impl Accounted {
    /// All records of an agent that follows nobody.
    #[must_use]
    pub fn all(records: &Records) -> Self {
        Self { billed: records.billed(), follows: false, inherits: false }
    }

    /// Those of the last agent; `None` when there are fewer than before it.
    #[must_use]
    pub fn of(output: &Output) -> Option<Self> {
        let billed = output.records.billed();
        let Some(earlier) = output.earlier else { return Some(Self::all(&output.records)) };
        Some(Self { billed: billed.minus(earlier.billed)?, follows: true, inherits: earlier.was_killed })
    }
}

/// Demands an agent's own audit, and compares it with the records it wrote and with what the wire shows to be missing.
pub fn against_audit(verdict: &mut Verdict, audit: Option<&Audit>, accounted: &Accounted) {
    let Some(audit) = audit else {
        verdict.problem("the agent gave no audit at its end that can be read".to_owned());
        return;
    };
    if !audit.balances {
        verdict.problem("the two sides of the agent's audit are not equal".to_owned());
    }
    let Accounted { billed, follows, inherits } = accounted;
    let sum = |figure: fn(Counter) -> u64| figure(billed.original) + figure(billed.reply);
    let (bytes, packets) = (sum(|counter| counter.bytes), sum(|counter| counter.packets));
    let Audit { delivered_bytes, delivered_packets, .. } = *audit;
    let is_all = (delivered_bytes, delivered_packets) == (bytes, packets);
    let is_part = delivered_bytes <= bytes && delivered_packets <= packets && delivered_packets > 0;
    if !(is_all || *inherits && is_part) {
        verdict.problem(format!(
            "the audit says {delivered_packets}p/{delivered_bytes}B were delivered, the records add up to \
             {packets}p/{bytes}B"
        ));
    }
    let missing = verdict.shortfall;
    let told = audit.lost.values().fold(Sum::default(), |sum, lost| Sum {
        flows: sum.flows + lost.flows,
        packets: sum.packets + lost.packets,
        bytes: sum.bytes + lost.bytes,
    });
    let (there, back) = (missing.totals.original, missing.totals.reply);
    let wire = (there.packets + back.packets, there.bytes + back.bytes);
    let is_all = (told.packets, told.bytes) == wire;
    // In doubt more may be missing than is told. What is told is missing.
    let is_part = told.packets <= wire.0 && told.bytes <= wire.1;
    if !(if *follows { is_part } else { is_all || audit.is_doubtful() }) {
        verdict.problem(format!(
            "the audit says {}p/{}B were lost, {}p/{}B are missing",
            told.packets, told.bytes, wire.0, wire.1
        ));
    }
}

/// Demands that an audit is sure of itself: each doubt needs an excuse, and there is no other uncertainty.
pub fn definite(verdict: &mut Verdict, audit: &Audit, excused: impl Fn(&str) -> bool) {
    if audit.unknown && audit.doubts.is_empty() {
        verdict.problem("the audit calls a completeness unknown and does not say why".to_owned());
    }
    for (reason, count) in audit.doubts.iter().filter(|(reason, _)| !excused(reason)) {
        verdict.problem(format!("the audit is in doubt for nothing: {reason} {count}"));
    }
}
