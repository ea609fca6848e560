//! Ledger against records, flow by flow, to the byte.

mod audit;
mod flow;
#[cfg(test)]
mod mutants;
mod pieces;
mod verdict;

pub use audit::{Accounted, against_audit, definite};
pub use verdict::{Shortfall, Verdict};

use std::collections::BTreeMap;

use crate::conntrack::Entry;
use crate::key::FlowKey;
use crate::ledger::Account;
use crate::records::{FlowAccount, Records};

/// Compares what the agent said with what went over the wire. `promised` is the least number of flows that makes
/// the run worth anything. Flows of namespaces that are not in `namespaces` are other people's.
#[must_use]
pub fn compare(ledger: &[Account], records: &Records, namespaces: &[u32], promised: usize) -> Verdict {
    let mut verdict = Verdict::new(ledger.len(), promised, records.events);
    for bad in &records.bad_lines {
        verdict.problem(format!("line is no record: {bad}"));
    }
    let mut said = records.by_key();
    for (key, accounts) in group(ledger) {
        let flows = said.remove(&key).unwrap_or_default();
        if let Some(account) = accounts.first().filter(|account| account.expected.pieces) {
            let answered = FlowKey { tuple: key.tuple.answer(), ..key };
            let turned = said.remove(&answered).unwrap_or_default();
            pieces::compare_pieces(&mut verdict, account, &flows, &turned);
        } else {
            compare_name(&mut verdict, key, &accounts, &flows);
        }
    }
    for (key, flows) in said {
        if namespaces.contains(&key.netns) && !key.tuple.destination.is_multicast() {
            unexpected(&mut verdict, key, &flows, ledger);
        }
    }
    verdict
}

/// Compares the last totals of each flow with what `conntrack -L` said when nothing moved any more.
/// Disagreements become problems of the verdict.
pub fn against_conntrack(verdict: &mut Verdict, entries: &[Entry], records: &Records) {
    let said = records.by_key();
    for entry in entries {
        let latest = said.get(&entry.key).and_then(|flows| flows.last());
        match latest {
            Some(flow) if flow.totals == entry.totals => verdict.conntrack_matched += 1,
            Some(flow) => verdict.conntrack_mismatch(format!(
                "{}: conntrack -L says {}, the agent {}",
                entry.key, entry.totals, flow.totals
            )),
            None => verdict.conntrack_mismatch(format!("{}: in conntrack -L only", entry.key)),
        }
    }
}

fn group(ledger: &[Account]) -> BTreeMap<FlowKey, Vec<&Account>> {
    let mut names: BTreeMap<FlowKey, Vec<&Account>> = BTreeMap::new();
    for account in ledger {
        names.entry(account.key).or_default().push(account);
    }
    names
}

/// Flows that followed each other under one name are compared in their order.
fn compare_name(verdict: &mut Verdict, key: FlowKey, accounts: &[&Account], flows: &[&FlowAccount]) {
    if flows.len() > accounts.len() {
        verdict.unexpected += flows.len() - accounts.len();
        verdict.problem(format!("{key}: {} flows on the wire, {} in records", accounts.len(), flows.len()));
    }
    for (position, account) in accounts.iter().enumerate() {
        match flows.get(position) {
            Some(flow) => flow::compare_flow(verdict, account, flow),
            None if account.expected.loss_admitted => {
                verdict.shortfall.add(account.totals);
                verdict.matched += 1;
            }
            None => {
                verdict.missing += 1;
                verdict.problem(format!("{key}: no record (the wire had {})", account.totals));
            }
        }
    }
}

fn unexpected(verdict: &mut Verdict, key: FlowKey, flows: &[&FlowAccount], ledger: &[Account]) {
    let answer = FlowKey { tuple: key.tuple.answer(), ..key };
    if ledger.iter().any(|account| account.key == answer) {
        verdict.wrong_direction += flows.len();
        verdict.problem(format!("{key}: reported the wrong way round"));
    } else {
        verdict.unexpected += flows.len();
        verdict.problem(format!("{key}: never was on the wire"));
    }
}
