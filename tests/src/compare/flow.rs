//! One flow of the wire against the records of one flow id.

use super::Verdict;
use crate::key::{Counter, Totals};
use crate::ledger::Account;
use crate::records::FlowAccount;

/// Compares, and adds what is wrong to the verdict; a flow with nothing wrong has matched.
pub(super) fn compare_flow(verdict: &mut Verdict, account: &Account, flow: &FlowAccount) {
    let before = verdict.problem_count;
    if account.expected.loss_admitted && is_unfinished(flow) {
        check_unfinished(verdict, account, flow);
    } else {
        check_life(verdict, account, flow);
        check_facts(verdict, account, flow);
        if !account.expected.no_counters {
            check_counts(verdict, account, flow);
        }
    }
    verdict.matched += usize::from(verdict.problem_count == before);
}

/// Whether the flow's end never came, or only as a conclusion.
fn is_unfinished(flow: &FlowAccount) -> bool {
    flow.ends == 0 || flow.end_reason.as_deref() == Some("missed")
}

/// What was said of it must be true as far as it goes; the rest is the shortfall.
fn check_unfinished(verdict: &mut Verdict, account: &Account, flow: &FlowAccount) {
    match account.totals.minus(flow.deltas) {
        Some(rest) if flow.deltas == flow.totals && flow.ends <= 1 && flow.after_end == 0 => {
            verdict.shortfall.add(rest);
        }
        _ => {
            verdict.wrong_counts += 1;
            let (wire, key) = (account.totals, account.key);
            verdict.problem(format!(
                "{key}: end lost; wire {wire}, agent's totals {}, deltas {}",
                flow.totals, flow.deltas
            ));
        }
    }
}

pub(super) fn check_life(verdict: &mut Verdict, account: &Account, flow: &FlowAccount) {
    if flow.ends == 0 {
        verdict.missing_ends += 1;
        verdict.problem(format!("{}: no end", account.key));
    }
    if flow.ends > 1 || flow.after_end > 0 {
        verdict.double_ends += 1;
        verdict.problem(format!(
            "{}: {} ends, {} records after the first",
            account.key, flow.ends, flow.after_end
        ));
    }
    if flow.news > 1 {
        verdict.wrong_facts += 1;
        verdict.problem(format!("{}: started {} times", account.key, flow.news));
    }
}

fn check_counts(verdict: &mut Verdict, account: &Account, flow: &FlowAccount) {
    let wire = account.totals;
    let wire_new = wire.minus(account.expected.baseline.unwrap_or_default());
    if flow.totals == wire && Some(flow.deltas) == wire_new && flow.regressions == 0 {
        return;
    }
    if account.expected.offloaded && flow.deltas == flow.totals && wire.minus(flow.totals).is_some() {
        return;
    }
    if account.expected.resized && flow.deltas == flow.totals && is_merged(wire, flow.totals) {
        return;
    }
    let is_steady = flow.deltas == flow.totals && flow.regressions == 0;
    if account.expected.raced && is_steady && lacks_opening(wire, flow.totals) {
        return;
    }
    *counts_field(verdict, wire, flow) += 1;
    verdict.problem(format!(
        "{}: wire {wire}, new since the agent came {}; agent's totals {}, deltas {}, {} times falling",
        account.key,
        wire_new.unwrap_or_default(),
        flow.totals,
        flow.deltas,
        flow.regressions
    ));
}

/// Whether some of the answers count as the opener's, and nothing is more or less.
fn is_merged(wire: Totals, said: Totals) -> bool {
    let moved = wire.reply.minus(said.reply);
    moved.is_some_and(|moved| said.original.minus(moved) == Some(wire.original))
}

/// Whether one packet of the opener's is missing, and nothing else.
fn lacks_opening(wire: Totals, said: Totals) -> bool {
    let missing = wire.minus(said);
    missing.is_some_and(|missing| missing.original.packets == 1 && missing.reply == Counter::default())
}

fn counts_field<'a>(verdict: &'a mut Verdict, wire: Totals, flow: &FlowAccount) -> &'a mut usize {
    if flow.totals == wire.swapped() {
        &mut verdict.wrong_direction
    } else if flow.deltas.exceeds(flow.totals) || flow.deltas.exceeds(wire) {
        &mut verdict.double_counts
    } else {
        &mut verdict.wrong_counts
    }
}

fn check_facts(verdict: &mut Verdict, account: &Account, flow: &FlowAccount) {
    for wrong in wrong_facts(account, flow) {
        verdict.wrong_facts += 1;
        verdict.problem(format!("{}: {wrong}", account.key));
    }
}

fn wrong_facts(account: &Account, flow: &FlowAccount) -> Vec<String> {
    let expected = &account.expected;
    let mut wrong = Vec::new();
    let reason = flow.end_reason.as_deref().unwrap_or("none");
    if flow.ends > 0 && !expected.end_reasons.is_empty() && !expected.end_reasons.contains(&reason) {
        wrong.push(format!("end reason {reason}, expected one of {:?}", expected.end_reasons));
    }
    for (flag, due) in [
        ("first_seen_midlife", expected.baseline.is_some()),
        ("no_counters", expected.no_counters),
        ("offloaded", expected.offloaded),
    ] {
        if flow.has_flag(flag) != due {
            wrong.push(format!("flag {flag} is {}, expected {due}", !due));
        }
    }
    let mirror = account.key.tuple.answer();
    let reply = expected.nat_reply.unwrap_or(mirror);
    if flow.nat_reply() != reply {
        wrong.push(format!("answers come as {}, expected {reply}", flow.nat_reply()));
    }
    wrong.extend(wrong_marks(account, flow));
    wrong
}

fn wrong_marks(account: &Account, flow: &FlowAccount) -> Vec<String> {
    let expected = &account.expected;
    let mut wrong = Vec::new();
    if !expected.marks.is_empty() && flow.marks != expected.marks {
        wrong.push(format!("marks {:?}, expected {:?}", flow.marks, expected.marks));
    }
    let shown = flow.labels.as_deref().unwrap_or_default();
    if let Some(labels) = expected.labels.map(hexadecimal).filter(|labels| labels != shown) {
        wrong.push(format!("labels {shown}, expected {labels}"));
    }
    wrong
}

fn hexadecimal(labels: [u8; 16]) -> String {
    labels.iter().map(|byte| format!("{byte:02x}")).collect()
}
