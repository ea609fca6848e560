//! A name of the wire against all flows that its entry was broken into.

use super::Verdict;
use super::flow::check_life;
use crate::key::Totals;
use crate::ledger::Account;
use crate::records::FlowAccount;

/// Compares the sum over the pieces with the wire. `turned` are pieces whose first packet was an answer, so that
/// conntrack took the answerer for the opener.
pub(super) fn compare_pieces(
    verdict: &mut Verdict,
    account: &Account,
    flows: &[&FlowAccount],
    turned: &[&FlowAccount],
) {
    let before = verdict.problem_count;
    let mut sum = Totals::default();
    for flow in flows.iter().chain(turned) {
        check_life(verdict, account, flow);
        check_deltas(verdict, account, flow);
    }
    flows.iter().for_each(|flow| sum += flow.totals);
    turned.iter().for_each(|flow| sum += flow.totals.swapped());
    match account.totals.minus(sum) {
        Some(rest) if rest == Totals::default() => {}
        Some(rest) if account.expected.loss_admitted => verdict.shortfall.add(rest),
        _ => {
            verdict.wrong_counts += 1;
            let (wire, pieces) = (account.totals, flows.len() + turned.len());
            verdict.problem(format!("{}: wire {wire}, the {pieces} pieces have {sum}", account.key));
        }
    }
    verdict.matched += usize::from(verdict.problem_count == before);
}

fn check_deltas(verdict: &mut Verdict, account: &Account, flow: &FlowAccount) {
    if flow.deltas == flow.totals && flow.regressions == 0 {
        return;
    }
    *(if flow.deltas.exceeds(flow.totals) {
        &mut verdict.double_counts
    } else {
        &mut verdict.wrong_counts
    }) += 1;
    verdict.problem(format!("{}: a piece has totals {}, deltas {}", account.key, flow.totals, flow.deltas));
}
