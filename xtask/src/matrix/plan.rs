//! Which scenarios are run on which combinations of kernel, hook, number of CPUs and mode of updates.

use std::fmt;

use clap::ValueEnum;
use serde::{Deserialize, Serialize};

use super::report::ScenarioResult;
use crate::kernels::Series;

/// How the kernel programs are attached.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Hook {
    /// Typed programs.
    Fentry,
    /// Probes.
    Kprobe,
}

impl fmt::Display for Hook {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Fentry => "fentry",
            Self::Kprobe => "kprobe",
        })
    }
}

impl Hook {
    /// The hooks that a kernel must offer. One that does not is a failure, not a reason to skip.
    pub(crate) fn of(series: &Series) -> &'static [Self] {
        if series.has_module_btf() { &[Self::Fentry, Self::Kprobe] } else { &[Self::Kprobe] }
    }
}

/// How the agent hears of flows that move.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Updates {
    /// By a hook on each packet, its default.
    Packet,
    /// By visits to living flows.
    Sweep,
}

/// The modes that the agent has.
pub(crate) const MODES: &[Updates] = &[Updates::Packet, Updates::Sweep];

impl fmt::Display for Updates {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Packet => "packet",
            Self::Sweep => "sweep",
        })
    }
}

/// What a guest is and how its agent is told to work.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Case {
    /// Its kernel.
    pub(crate) series: Series,
    /// The forced hook.
    pub(crate) hook: Hook,
    /// Number of CPUs.
    pub(crate) cpus: u32,
    /// The mode of updates.
    pub(crate) updates: Updates,
}

impl Case {
    /// Its name as a folder.
    pub(crate) fn folder(&self) -> String {
        format!("{}-{}-{}-{}", self.series, self.hook, self.cpus, self.updates)
    }

    /// The three pairs of values that are not the kernel's.
    fn pairs(&self) -> [(String, String); 3] {
        let [hook, cpus, updates] = [self.hook.to_string(), self.cpus.to_string(), self.updates.to_string()];
        [(hook.clone(), cpus.clone()), (hook, updates.clone()), (cpus, updates)]
    }
}

impl fmt::Display for Case {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { series, hook, cpus, updates } = self;
        write!(f, "{series} {hook} {cpus} CPU{} {updates}", if *cpus == 1 { "" } else { "s" })
    }
}

/// A scenario of conntally-e2e as it describes itself.
#[derive(Clone, Debug, Deserialize, PartialEq, Eq, Serialize)]
pub(crate) struct Scenario {
    /// Its name.
    pub(crate) name: String,
    /// How many CPUs it needs to prove anything.
    pub(crate) cpus: u32,
    /// Whether it takes long.
    pub(crate) long: bool,
}

/// What one guest runs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Piece {
    /// Where.
    pub(crate) case: Case,
    /// Names of the scenarios.
    pub(crate) scenarios: Vec<String>,
    /// Whether those about many flows or many agents have as many as are promised, not as few as prove something.
    pub(crate) full: bool,
}

impl Piece {
    /// Its scenarios that were not played.
    pub(super) fn not_in(&self, played: &[ScenarioResult]) -> Vec<&str> {
        let names = self.scenarios.iter().map(String::as_str);
        names.filter(|name| played.iter().all(|result| result.scenario != *name)).collect()
    }
}

/// Every scenario in every combination.
pub(crate) fn all(kernels: &[Series], modes: &[Updates], scenarios: &[Scenario], full: bool) -> Vec<Piece> {
    let names: Vec<String> = scenarios.iter().map(|scenario| scenario.name.clone()).collect();
    let cases = kernels.iter().flat_map(|series| of_kernel(series, modes));
    cases.map(|case| Piece { case, scenarios: names.clone(), full }).collect()
}

/// One guest per kernel, which together have all pairs of hook, number of CPUs and mode, each with the short
/// scenarios. Long ones run in one guest per hook.
pub(crate) fn selection(kernels: &[Series], modes: &[Updates], scenarios: &[Scenario]) -> Vec<Piece> {
    let short = scenarios.iter().filter(|scenario| !scenario.long).map(|scenario| scenario.name.clone());
    let short: Vec<String> = short.collect();
    let cases = pairwise(kernels, modes).into_iter();
    let mut pieces: Vec<Piece> =
        cases.map(|case| Piece { case, scenarios: short.clone(), full: false }).collect();
    for scenario in scenarios.iter().filter(|scenario| scenario.long) {
        for hook in [Hook::Fentry, Hook::Kprobe] {
            let fitting = pieces.iter_mut().filter(|piece| piece.case.hook == hook);
            // Guests with one CPU run side by side, so that they cost half.
            let cost = |piece: &&mut Piece| {
                let lacking = piece.case.cpus < scenario.cpus;
                (lacking, piece.scenarios.len() * piece.case.cpus as usize)
            };
            if let Some(piece) = fitting.min_by_key(cost) {
                piece.scenarios.push(scenario.name.clone());
            }
        }
    }
    pieces
}

/// One case per kernel: that with the most pairs which no earlier kernel's case had.
fn pairwise(kernels: &[Series], modes: &[Updates]) -> Vec<Case> {
    let mut chosen: Vec<Case> = Vec::new();
    for kernel in kernels {
        let known = |case: &Case| {
            let had =
                |pair: &(String, String)| chosen.iter().filter(|other| other.pairs().contains(pair)).count();
            let fresh = case.pairs().iter().filter(|pair| had(pair) == 0).count();
            (3 - fresh, case.pairs().iter().map(had).sum::<usize>())
        };
        let next = of_kernel(kernel, modes).min_by_key(known);
        chosen.extend(next);
    }
    chosen
}

fn of_kernel(series: &Series, modes: &[Updates]) -> impl Iterator<Item = Case> {
    let cpus = |hook: Hook| [1, 2].map(|cpus| (hook, cpus));
    let attached = Hook::of(series).iter().copied().flat_map(cpus);
    attached.flat_map(move |(hook, cpus)| {
        modes.iter().map(move |&updates| Case { series: series.clone(), hook, cpus, updates })
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::matrix::supported;

    const PACKET: &[Updates] = &[Updates::Packet];
    const BOTH: &[Updates] = &[Updates::Packet, Updates::Sweep];

    fn scenarios() -> Vec<Scenario> {
        let scenario = |name: &str, cpus, long| Scenario { name: name.to_owned(), cpus, long };
        vec![
            scenario("tcp", 1, false),
            scenario("burst", 1, true),
            scenario("live", 1, true),
            scenario("skips", 2, true),
        ]
    }

    #[test]
    fn everything_is_run_but_what_a_kernel_cannot_have() {
        let pieces = all(&supported(), BOTH, &scenarios(), true);
        assert_eq!(pieces.len(), 36);
        assert!(pieces.iter().all(|piece| piece.scenarios.len() == 4));
        let old: Vec<_> = pieces.iter().filter(|piece| piece.case.series.to_string() == "5.10").collect();
        assert!(old.len() == 4 && old.iter().all(|piece| piece.case.hook == Hook::Kprobe));
    }

    #[test]
    fn the_selection_has_each_kernel_and_each_pair_of_hook_cpus_and_mode() {
        for modes in [BOTH, PACKET] {
            let cases = pairwise(&supported(), modes);
            assert_eq!(cases.iter().map(|case| case.series.clone()).collect::<Vec<_>>(), supported());
            for wanted in all(&supported(), modes, &[], true).iter().flat_map(|piece| piece.case.pairs()) {
                assert!(cases.iter().any(|case| case.pairs().contains(&wanted)), "{wanted:?}");
            }
        }
    }

    #[test]
    fn the_selection_has_each_long_scenario_once_per_hook_with_the_cpus_it_needs() {
        let pieces = selection(&supported(), BOTH, &scenarios());
        for scenario in scenarios() {
            let places: Vec<_> =
                pieces.iter().filter(|piece| piece.scenarios.contains(&scenario.name)).collect();
            assert_eq!(places.len(), if scenario.long { 2 } else { pieces.len() }, "{}", scenario.name);
            assert!(places.iter().any(|piece| piece.case.cpus >= scenario.cpus), "{}", scenario.name);
            for hook in [Hook::Fentry, Hook::Kprobe] {
                assert!(places.iter().any(|piece| piece.case.hook == hook), "{} {hook}", scenario.name);
            }
        }
    }
}
