//! What failed in a selection is played again, so that a change is judged by what it does and not by how a shared
//! machine treats emulated CPUs: they may stand still for seconds in the middle of anything. It has to be exact twice
//! then, and is told as unsteady; nothing is played again where every combination is run to show what the agent does.

use super::{plan::Piece, report::CaseResult};

/// How often it has to be exact after it was not.
const TIMES: u32 = 2;

/// Plays the piece, and again what was not exact; `play` is told how often it was played before.
pub(super) fn confirmed(piece: &Piece, play: impl Fn(&Piece, u32) -> CaseResult) -> CaseResult {
    let mut result = play(piece, 0);
    let complaints = result.complaints();
    if complaints.is_empty() {
        return result;
    }
    let piece = Piece { scenarios: doubtful(piece, &result), ..piece.clone() };
    let mut scenarios = Vec::new();
    for times in 1..=TIMES {
        let again = play(&piece, times);
        result.seconds += again.seconds;
        if !again.complaints().is_empty() {
            return result;
        }
        scenarios = again.scenarios;
    }
    result.scenarios.retain(|scenario| !piece.scenarios.contains(&scenario.scenario));
    result.scenarios.extend(scenarios);
    result.error = None;
    result.unsteady = complaints;
    result
}

/// The scenarios that failed or were not reached; all of them where the guest has to answer for them together.
fn doubtful(piece: &Piece, result: &CaseResult) -> Vec<String> {
    let settled = |name: &String| {
        result.scenarios.iter().any(|scenario| scenario.scenario == *name && scenario.settled())
    };
    let names: Vec<String> = piece.scenarios.iter().filter(|name| !settled(name)).cloned().collect();
    if names.is_empty() { piece.scenarios.clone() } else { names }
}

#[cfg(test)]
mod tests {
    use super::super::{
        plan::{Updates, all},
        report::{ScenarioResult, Tally},
    };
    use super::*;
    use std::cell::RefCell;

    /// Plays a piece of three scenarios; of each attempt the verdicts, and why the guest broke off.
    fn judged(attempts: &[(&[&str], Option<&str>)]) -> (CaseResult, Vec<String>) {
        let mut piece = all(&["6.12".parse().unwrap()], &[Updates::Packet], &[], false).remove(0);
        piece.scenarios = ["a", "b", "c"].map(str::to_owned).to_vec();
        let played = RefCell::new(Vec::new());
        let result = confirmed(&piece, |piece, times| {
            played.borrow_mut().push(piece.scenarios.join(""));
            let (verdicts, error) = attempts[times as usize];
            let mut result = CaseResult::new(&piece.case);
            for (name, verdict) in piece.scenarios.iter().zip(verdicts) {
                let line = format!(r#"{{"scenario":"{name}","verdict":"{verdict}","problems":["why"]}}"#);
                result.scenarios.extend(ScenarioResult::parse(&line));
            }
            result.error = error.map(str::to_owned);
            result
        });
        (result, played.into_inner())
    }

    const GOOD: &[&str] = &["exact", "skipped", "exact"];

    #[test]
    fn what_is_good_is_played_once() {
        let (result, played) = judged(&[(GOOD, None)]);
        assert_eq!(played, ["abc"]);
        assert!(result.unsteady.is_empty());
    }

    #[test]
    fn what_failed_has_to_be_exact_twice_and_is_told() {
        let failed: &[&str] = &["exact", "failed", "exact"];
        let (result, played) = judged(&[(failed, None), (&["exact"], None), (&["exact"], None)]);
        assert_eq!(played, ["abc", "b", "b"]);
        assert_eq!(result.tally(), Tally { passed: 3, failed: 0 });
        assert_eq!(result.unsteady, ["b: why"]);
        for second in [&["exact"], &["failed"]] {
            let (result, _) = judged(&[(failed, None), (second, None), (&["failed"], None)]);
            assert_eq!(result.tally().failed, 1);
            assert!(result.unsteady.is_empty());
        }
    }

    #[test]
    fn a_guest_that_broke_off_plays_what_it_did_not_reach_or_else_all() {
        let (result, played) =
            judged(&[(&["exact"], Some("panic")), (&["exact"; 2], None), (&["exact"; 2], None)]);
        assert_eq!(played, ["abc", "bc", "bc"]);
        assert_eq!(result.tally(), Tally { passed: 3, failed: 0 });
        assert_eq!(result.unsteady, ["the guest broke off: panic"]);
        let (result, played) = judged(&[(GOOD, Some("Oops")), (GOOD, Some("Oops"))]);
        assert_eq!(played, ["abc", "abc"]);
        assert_eq!(result.tally().failed, 1);
    }
}
