//! The table of all scenarios and guests, as Markdown.

use std::collections::{BTreeMap, BTreeSet};

use super::report::{CaseResult, Report, ScenarioResult};

/// A row per scenario, a column per kernel and hook, in each cell the verdicts of its guests.
pub(super) fn table(report: &Report) -> String {
    let columns: Vec<String> = in_order(report.cases.iter().map(CaseResult::column));
    let rows: Vec<String> = in_order(
        report.cases.iter().flat_map(|case| case.scenarios.iter().map(|scenario| scenario.scenario.clone())),
    );
    let mut text = line("scenario", &columns);
    text.push_str(&line("---", &vec!["---".to_owned(); columns.len()]));
    for row in &rows {
        let cells: Vec<String> = columns.iter().map(|column| cell(report, column, row)).collect();
        text.push_str(&line(row, &cells));
    }
    text.push_str(&reasons(report));
    text
}

fn line(first: &str, others: &[String]) -> String {
    format!("| {first} | {} |\n", others.join(" | "))
}

/// Each once, in the order of their first appearance.
fn in_order(names: impl Iterator<Item = String>) -> Vec<String> {
    let mut seen = BTreeSet::new();
    names.filter(|name| seen.insert(name.clone())).collect()
}

/// `exact 4`, `skipped 2`, `FAILED 2 CPUs sweep`, or several of these.
fn cell(report: &Report, column: &str, row: &str) -> String {
    let (mut counts, mut failed) = (BTreeMap::new(), Vec::new());
    for case in report.cases.iter().filter(|case| case.column() == column) {
        for scenario in case.scenarios.iter().filter(|scenario| scenario.scenario == row) {
            if scenario.settled() {
                *counts.entry(scenario.verdict.as_str()).or_insert(0) += 1;
            } else {
                failed.push(format!("**FAILED {}**", case.variant()));
            }
        }
    }
    failed.extend(counts.iter().map(|(verdict, count)| format!("{verdict} {count}")));
    failed.join(", ")
}

/// Why scenarios were skipped, and guests that broke off.
fn reasons(report: &Report) -> String {
    let skipped = |case: &CaseResult, scenario: &ScenarioResult| {
        let why = scenario.reason().unwrap_or("it did not say why");
        format!("- `{}` skipped on {}: {why}\n", scenario.scenario, case.column())
    };
    let mut lines = BTreeSet::new();
    for case in &report.cases {
        let scenarios = case.scenarios.iter().filter(|scenario| scenario.skipped());
        lines.extend(scenarios.map(|scenario| skipped(case, scenario)));
        lines.extend(case.error.as_ref().map(|error| {
            let first = error.lines().next().unwrap_or_default();
            format!("- **guest broke off** on {} {}: {first}\n", case.column(), case.variant())
        }));
    }
    if lines.is_empty() { String::new() } else { format!("\n{}", lines.into_iter().collect::<String>()) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::matrix::plan::{Updates, all};

    fn report(verdicts: &[&str]) -> Report {
        let pieces = all(&["5.10".parse().unwrap()], &[Updates::Packet], &[], false);
        let cases = pieces.iter().zip(verdicts).map(|(piece, verdict)| {
            let mut result = CaseResult::new(&piece.case);
            let line = format!(r#"{{"scenario":"tcp","verdict":"{verdict}","error":"why not"}}"#);
            result.scenarios.extend(ScenarioResult::parse(&line));
            result
        });
        Report { cases: cases.collect() }
    }

    #[test]
    fn guests_of_one_kernel_and_hook_share_a_cell() {
        let text = table(&report(&["exact", "exact"]));
        assert_eq!(text, "| scenario | 5.10 kprobe |\n| --- | --- |\n| tcp | exact 2 |\n");
    }

    #[test]
    fn a_failure_names_its_guest_and_a_skip_its_reason() {
        let text = table(&report(&["skipped", "failed"]));
        assert!(text.contains("| tcp | **FAILED 2 CPUs packet**, skipped 1 |"), "{text}");
        assert!(text.contains("- `tcp` skipped on 5.10 kprobe: why not"), "{text}");
    }
}
