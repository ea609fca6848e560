//! An agent's own audit against its records and the wire.

use super::Verdict;
use crate::audit::{Audit, Sum};
use crate::key::Counter;
use crate::records::Records;

/// Demands an agent's own audit, and compares it with the records it wrote and with what the wire shows to be missing.
pub fn against_audit(verdict: &mut Verdict, audit: Option<&Audit>, records: &Records) {
    let Some(audit) = audit else {
        verdict.problem("the agent gave no audit at its end that can be read".to_owned());
        return;
    };
    if !audit.balances {
        verdict.problem("the two sides of the agent's audit are not equal".to_owned());
    }
    let billed = records.billed();
    let sum = |figure: fn(Counter) -> u64| figure(billed.original) + figure(billed.reply);
    let (bytes, packets) = (sum(|counter| counter.bytes), sum(|counter| counter.packets));
    if (audit.delivered_bytes, audit.delivered_packets) != (bytes, packets) {
        let Audit { delivered_bytes, delivered_packets, .. } = audit;
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
    if (told.packets, told.bytes) != wire && !audit.is_doubtful() {
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
