//! Agents whose own audit is wrong.

use super::super::{against_audit, definite};
use super::*;
use crate::agent::{Earlier, Output};
use crate::audit::{Audit, Sum};

/// The audit of an exact agent.
fn audit(bench: &Bench) -> Audit {
    let billed = bench.records().billed();
    Audit {
        balances: true,
        delivered_bytes: billed.original.bytes + billed.reply.bytes,
        delivered_packets: billed.original.packets + billed.reply.packets,
        ..Audit::default()
    }
}

#[test]
fn an_audit_that_claims_another_byte_fails() {
    let bench = Bench::exact();
    let mut verdict = bench.verdict();
    against_audit(&mut verdict, Some(&audit(&bench)), &bench.accounted());
    assert!(verdict.exact(), "{:?}", verdict.problems);
    let wrong = Audit { delivered_bytes: audit(&bench).delivered_bytes + 1, ..audit(&bench) };
    against_audit(&mut verdict, Some(&wrong), &bench.accounted());
    assert!(!verdict.exact());
}

#[test]
fn an_audit_that_names_another_loss_than_the_wire_fails() {
    let mut bench = Bench::exact();
    bench.ledger.iter_mut().for_each(|account| account.expected.loss_admitted = true);
    bench.lines.remove(2);
    let missing = bench.verdict().shortfall.totals;
    let lost = |more: u64| {
        let packets = missing.original.packets + missing.reply.packets;
        let bytes = missing.original.bytes + missing.reply.bytes + more;
        Audit { lost: [("end_lost".to_owned(), Sum { flows: 1, packets, bytes })].into(), ..audit(&bench) }
    };
    let mut verdict = bench.verdict();
    against_audit(&mut verdict, Some(&lost(0)), &bench.accounted());
    assert!(verdict.exact(), "{:?}", verdict.problems);
    against_audit(&mut verdict, Some(&lost(1)), &bench.accounted());
    assert!(!verdict.exact());
}

#[test]
fn an_audit_accounts_for_the_time_of_its_own_agent() {
    let bench = Bench::exact();
    let judge = |delivered_bytes, was_killed| {
        let earlier = Earlier { billed: Totals::default(), log: 0, was_killed };
        let output = Output { records: bench.records(), earlier: Some(earlier), ..Output::default() };
        let mut verdict = bench.verdict();
        let audit = Audit { delivered_bytes, ..audit(&bench) };
        against_audit(&mut verdict, Some(&audit), &Accounted::of(&output).unwrap());
        verdict.exact()
    };
    let billed = audit(&bench).delivered_bytes;
    assert!(judge(billed, false) && judge(billed, true));
    assert!(!judge(billed - 1, false), "its own records are fewer than those that came");
    assert!(judge(billed - 1, true), "one was drawn up by the agent before it");
    assert!(!judge(billed + 1, true));

    let before = bench.records().billed();
    let earlier = Earlier { billed: before, log: 0, was_killed: false };
    let output = Output { earlier: Some(earlier), ..Output::default() };
    assert!(Accounted::of(&output).is_none());
}

#[test]
fn an_audit_that_does_not_balance_fails() {
    let bench = Bench::exact();
    let mut verdict = bench.verdict();
    against_audit(&mut verdict, Some(&Audit { balances: false, ..audit(&bench) }), &bench.accounted());
    assert!(!verdict.exact());
}

#[test]
fn an_agent_without_an_audit_fails() {
    let bench = Bench::exact();
    let mut verdict = bench.verdict();
    against_audit(&mut verdict, None, &bench.accounted());
    assert!(!verdict.exact());
}

#[test]
fn an_audit_that_is_always_unknown_fails() {
    let bench = Bench::exact();
    let unknown = Audit { unknown: true, ..audit(&bench) };
    let mut verdict = bench.verdict();
    definite(&mut verdict, &audit(&bench), |_| false);
    assert!(verdict.exact(), "{:?}", verdict.problems);
    definite(&mut verdict, &unknown, |_| true);
    assert!(!verdict.exact());

    let doubts = [("hook_skipped".to_owned(), 1)].into();
    let skipped = Audit { doubts, ..unknown };
    let mut verdict = bench.verdict();
    definite(&mut verdict, &skipped, |reason| reason == "hook_skipped");
    assert!(verdict.exact(), "{:?}", verdict.problems);
    definite(&mut verdict, &skipped, |_| false);
    assert!(!verdict.exact());
}
