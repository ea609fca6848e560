//! What the guests found: read from their lines, summed per case, printed as a table.

use std::collections::BTreeSet;

use anyhow::{Result, ensure};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::plan::Case;

/// How many scenarios passed, failed and were skipped.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Tally {
    /// Exact ones.
    pub(crate) passed: u64,
    /// All others; a guest that did not run to its end counts as one.
    pub(crate) failed: u64,
    /// Those about something that the kernel does not have.
    pub(crate) skipped: u64,
}

impl Tally {
    /// Whether nothing can be said against the run. One that had nothing to play has not failed.
    ///
    /// # Errors
    /// When something failed, or there was nothing that could have been skipped.
    pub(crate) fn judge(self) -> Result<()> {
        ensure!(self.failed == 0, "the matrix failed");
        ensure!(self.passed + self.skipped > 0, "the matrix had no scenario");
        Ok(())
    }

    /// Whether all that there was had to be skipped.
    pub(super) const fn played_nothing(self) -> bool {
        self.passed == 0 && self.failed == 0 && self.skipped > 0
    }
}

/// One line of conntally-e2e. Fields that are not summed here are kept as they came.
#[derive(Clone, Deserialize, Serialize)]
pub(crate) struct ScenarioResult {
    /// Its name.
    pub(crate) scenario: String,
    /// `exact`, `skipped` or something worse.
    pub(crate) verdict: String,
    /// How long it took.
    #[serde(default)]
    pub(crate) seconds: f64,
    #[serde(default)]
    error: Option<String>,
    #[serde(default)]
    hooks_used: String,
    #[serde(default)]
    events: u64,
    #[serde(default)]
    flows: u64,
    #[serde(default)]
    matched: u64,
    #[serde(default)]
    missing_ends: u64,
    #[serde(default)]
    double_counts: u64,
    #[serde(default)]
    problems: Vec<String>,
    #[serde(flatten)]
    other: serde_json::Map<String, Value>,
}

impl ScenarioResult {
    /// The result in a line, if it is one.
    pub(crate) fn parse(line: &str) -> Option<Self> {
        line.starts_with('{').then(|| serde_json::from_str(line).ok())?
    }

    /// Whether nothing was wrong.
    pub(crate) fn passed(&self) -> bool {
        self.verdict == "exact"
    }

    /// Whether the kernel does not have what the scenario is about.
    pub(super) fn skipped(&self) -> bool {
        self.verdict == "skipped"
    }

    /// Whether it did what it is there for: what nothing can be said against.
    pub(super) fn settled(&self) -> bool {
        self.passed() || self.skipped()
    }

    /// Why it was skipped or broke off.
    pub(super) fn reason(&self) -> Option<&str> {
        self.error.as_deref()
    }

    /// Its name, and what was wrong first.
    fn complaint(&self) -> String {
        let first = self.reason().or_else(|| self.problems.first().map(String::as_str));
        format!("{}: {}", self.scenario, first.unwrap_or("it did not say why"))
    }
}

/// What one guest found.
#[derive(Clone, Deserialize, Serialize)]
pub(crate) struct CaseResult {
    kernel: String,
    hook: String,
    cpus: u32,
    updates: String,
    /// The kernel's release.
    pub(crate) release: String,
    /// What took the place of the wanted series.
    pub(crate) substitute: Option<String>,
    /// How long it took.
    pub(crate) seconds: u64,
    /// Why the guest did not run to its end.
    pub(crate) error: Option<String>,
    /// In the order they ran.
    pub(crate) scenarios: Vec<ScenarioResult>,
}

impl CaseResult {
    /// Nothing found yet.
    pub(crate) fn new(case: &Case) -> Self {
        Self {
            kernel: case.series.to_string(),
            hook: case.hook.to_string(),
            cpus: case.cpus,
            updates: case.updates.to_string(),
            release: String::new(),
            substitute: None,
            seconds: 0,
            error: None,
            scenarios: Vec::new(),
        }
    }

    /// Nothing found, and why.
    pub(crate) fn failed(case: &Case, error: String) -> Self {
        Self { error: Some(error), ..Self::new(case) }
    }

    /// Kernel and hook.
    pub(super) fn column(&self) -> String {
        format!("{} {}", self.kernel, self.hook)
    }

    /// What tells guests of one kernel and hook apart.
    pub(super) fn variant(&self) -> String {
        format!("{} CPU{} {}", self.cpus, if self.cpus == 1 { "" } else { "s" }, self.updates)
    }

    /// How many scenarios passed, failed and were skipped.
    pub(crate) fn tally(&self) -> Tally {
        let count = |wanted: fn(&ScenarioResult) -> bool| {
            self.scenarios.iter().filter(|scenario| wanted(scenario)).count() as u64
        };
        let passed = count(ScenarioResult::passed);
        let skipped = count(ScenarioResult::skipped);
        let failed = self.scenarios.len() as u64 - passed - skipped + u64::from(self.error.is_some());
        Tally { passed, failed, skipped }
    }

    /// What was wrong, a line each.
    fn complaints(&self) -> Vec<String> {
        let failed = self.scenarios.iter().filter(|scenario| !scenario.settled());
        let broke_off = self.error.iter().map(|error| format!("the guest broke off: {error}"));
        failed.map(ScenarioResult::complaint).chain(broke_off).collect()
    }

    fn row(&self) -> [String; 11] {
        let sum =
            |field: fn(&ScenarioResult) -> u64| self.scenarios.iter().map(field).sum::<u64>().to_string();
        let tally = self.tally();
        let failed = self.scenarios.iter().filter(|scenario| !scenario.settled());
        let mut verdict: Vec<_> = failed.map(|scenario| scenario.scenario.clone()).collect();
        verdict.extend(self.error.as_ref().map(|_| "guest".to_owned()));
        [
            if self.release.is_empty() { self.kernel.clone() } else { self.release.clone() },
            self.hooks(),
            self.cpus.to_string(),
            self.updates.clone(),
            format!("{}/{}", tally.passed, tally.passed + tally.failed),
            sum(|scenario| scenario.events),
            sum(|scenario| scenario.flows),
            sum(|scenario| scenario.matched),
            sum(|scenario| scenario.missing_ends),
            sum(|scenario| scenario.double_counts),
            match verdict.as_slice() {
                [] if tally.played_nothing() => "skipped".to_owned(),
                [] => "exact".to_owned(),
                failed => format!("FAILED: {}", failed.join(", ")),
            },
        ]
    }

    /// What the agent said it attached, else what it was told to.
    fn hooks(&self) -> String {
        let said = self.scenarios.iter().find_map(|scenario| hooks_of(&scenario.hooks_used));
        said.unwrap_or_else(|| self.hook.clone())
    }
}

/// The hooks in the agent's line `ready … hooks=A B namespaces=3`.
fn hooks_of(ready: &str) -> Option<String> {
    let (_, rest) = ready.split_once("hooks=")?;
    let words: Vec<_> = rest.split_whitespace().take_while(|word| !word.contains('=')).collect();
    Some(words.join(" "))
}

/// What all guests found.
#[derive(Default, Serialize)]
pub(crate) struct Report {
    /// In the order they ran.
    pub(crate) cases: Vec<CaseResult>,
}

const HEAD: [&str; 11] = [
    "kernel", "hooks", "cpus", "updates", "passed", "events", "flows", "matched", "no end", "double",
    "verdict",
];

impl Report {
    /// The sum over all guests.
    pub(crate) fn tally(&self) -> Tally {
        let add = |sum: Tally, of: Tally| Tally {
            passed: sum.passed + of.passed,
            failed: sum.failed + of.failed,
            skipped: sum.skipped + of.skipped,
        };
        self.cases.iter().map(CaseResult::tally).fold(Tally::default(), add)
    }

    /// What was wrong and in which guest, a line each.
    pub(crate) fn failures(&self) -> Vec<String> {
        let named = |case: &CaseResult| {
            let guest = format!("{} {}", case.column(), case.variant());
            case.complaints().into_iter().map(move |line| format!("{guest}: {line}"))
        };
        self.cases.iter().flat_map(named).collect()
    }

    /// The sum in a line; where nothing was played, with the reasons.
    pub(crate) fn summary(&self) -> String {
        let tally @ Tally { passed, failed, skipped } = self.tally();
        if !tally.played_nothing() {
            return format!("{passed} passed, {failed} failed, {skipped} skipped");
        }
        let all = self.cases.iter().flat_map(|case| &case.scenarios);
        let reasons: BTreeSet<_> = all.map(ScenarioResult::complaint).collect();
        let reasons: Vec<_> = reasons.into_iter().collect();
        format!("nothing was played: 0 exact, {skipped} skipped ({})", reasons.join("; "))
    }

    /// One row per guest, then what stood in for what.
    pub(crate) fn print(&self) {
        print!("{}", self.table());
        for substitute in self.cases.iter().filter_map(|case| case.substitute.as_ref()) {
            println!("{substitute}");
        }
    }

    fn table(&self) -> String {
        let rows: Vec<[String; 11]> =
            std::iter::once(HEAD.map(str::to_owned)).chain(self.cases.iter().map(CaseResult::row)).collect();
        let mut widths = [0; 11];
        for row in &rows {
            for (width, cell) in widths.iter_mut().zip(row) {
                *width = (*width).max(cell.chars().count());
            }
        }
        let line = |row: &[String; 11]| {
            let cells: Vec<_> =
                row.iter().zip(widths).map(|(cell, width)| format!("{cell:<width$}")).collect();
            format!("{}\n", cells.join("  ").trim_end())
        };
        rows.iter().map(line).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::matrix::plan::{Updates, all};

    fn report(lines: &[&str], error: Option<&str>) -> Report {
        let pieces = all(&["6.12".parse().unwrap()], &[Updates::Packet], &[], false);
        let mut result = CaseResult::new(&pieces[0].case);
        result.scenarios = lines.iter().filter_map(|line| ScenarioResult::parse(line)).collect();
        result.error = error.map(str::to_owned);
        Report { cases: vec![result] }
    }

    #[test]
    fn scenarios_are_summed_and_failed_ones_named() {
        let exact = r#"{"scenario":"tcp","verdict":"exact","hooks_used":"ready source=bpf hooks=fentry nf_ct_acct_add namespaces=3","events":7,"flows":3,"matched":3}"#;
        let failed =
            r#"{"scenario":"nat","verdict":"failed","flows":2,"matched":1,"missing_ends":1,"more":[1]}"#;
        let report = report(&[exact, "a log line", failed], None);
        assert_eq!(report.tally(), Tally { passed: 1, failed: 1, skipped: 0 });
        let table = report.table();
        let row: Vec<_> = table.lines().nth(1).unwrap().split_whitespace().collect();
        assert_eq!(row.join(" "), "6.12 fentry nf_ct_acct_add 1 packet 1/2 7 5 4 1 0 FAILED: nat");
    }

    #[test]
    fn a_failure_is_named_with_its_guest_and_what_was_wrong() {
        let failed = r#"{"scenario":"nat","verdict":"failed","problems":["a byte too many","more"]}"#;
        let report = report(&[failed, r#"{"scenario":"tcp","verdict":"skipped"}"#], Some("panic"));
        let guest = "6.12 fentry 1 CPU packet";
        let expected =
            [format!("{guest}: nat: a byte too many"), format!("{guest}: the guest broke off: panic")];
        assert_eq!(report.failures(), expected);
    }

    #[test]
    fn a_guest_that_broke_off_is_a_failure_even_if_all_it_said_was_good() {
        let report = report(&[r#"{"scenario":"tcp","verdict":"exact"}"#], Some("panic"));
        assert_eq!(report.tally(), Tally { passed: 1, failed: 1, skipped: 0 });
    }

    #[test]
    fn a_run_in_which_all_was_skipped_has_not_failed_and_says_why_nothing_was_played() {
        let skipped = |name: &str| {
            format!(r#"{{"scenario":"{name}","verdict":"skipped","error":"the kernel has no flowtables"}}"#)
        };
        let lines = [skipped("offload"), skipped("flowtable"), skipped("offload")];
        let report = report(&lines.each_ref().map(String::as_str), None);
        report.tally().judge().unwrap();
        assert_eq!(
            report.summary(),
            "nothing was played: 0 exact, 3 skipped (flowtable: the kernel has no flowtables; \
             offload: the kernel has no flowtables)"
        );
        assert!(report.table().ends_with("  skipped\n"), "{}", report.table());
    }

    #[test]
    fn a_run_with_a_failure_or_without_any_scenario_has_failed() {
        let skipped = r#"{"scenario":"tcp","verdict":"skipped"}"#;
        for (lines, error) in [(&[skipped][..], Some("panic")), (&[], None)] {
            assert!(report(lines, error).tally().judge().is_err());
        }
        let report = report(&[skipped, r#"{"scenario":"nat","verdict":"exact"}"#], None);
        report.tally().judge().unwrap();
        assert_eq!(report.summary(), "1 passed, 0 failed, 1 skipped");
    }

    #[test]
    fn an_unknown_verdict_is_a_failure() {
        assert_eq!(report(&[r#"{"scenario":"tcp","verdict":"EXACT"}"#], None).tally().failed, 1);
    }
}
