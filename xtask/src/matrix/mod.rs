//! `cargo xtask vm matrix`: the scenarios on all kernels, with all hooks, with one and two CPUs.

mod plan;
mod report;

use std::{
    num::NonZero,
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, bail};
use clap::Args;

pub(crate) use plan::{Case, Hook, all, pairwise};
pub(crate) use report::Tally;

use crate::{
    guest::{Binaries, Guest, Profile},
    kernels::{Kernel, SUPPORTED, Series},
    paths::Paths,
};
use plan::side_by_side;
use report::{CaseResult, Report, ScenarioResult};

/// How long a guest may take for all scenarios under emulation.
const LIMIT: Duration = Duration::from_secs(900);

/// What to run.
#[derive(Args)]
pub(crate) struct Options {
    /// Kernel series
    #[arg(long, value_delimiter = ',', default_values_t = supported())]
    kernels: Vec<Series>,
    /// One scenario of conntally-e2e, or all
    #[arg(long, default_value = "all")]
    scenario: String,
    /// Each kernel, hook and number of CPUs at least once instead of every combination
    #[arg(long)]
    pairwise: bool,
}

/// The supported series as values.
pub(crate) fn supported() -> Vec<Series> {
    SUPPORTED.iter().filter_map(|text| text.parse().ok()).collect()
}

/// Runs the matrix and prints its table; fails if any scenario did.
pub(crate) fn run(paths: &Paths, options: &Options) -> Result<()> {
    let cases = if options.pairwise { pairwise(&options.kernels) } else { all(&options.kernels) };
    let tally = run_cases(paths, &cases, &options.scenario)?;
    println!("{} passed, {} failed", tally.passed, tally.failed);
    if tally.failed > 0 || tally.passed == 0 {
        bail!("the matrix failed");
    }
    Ok(())
}

/// Runs the cases, prints the table and writes it to `target/matrix.json`.
pub(crate) fn run_cases(paths: &Paths, cases: &[Case], scenario: &str) -> Result<Tally> {
    let binaries = Binaries::build(paths, Profile::Quick)?;
    let host_cpus = thread::available_parallelism().map_or(1, NonZero::get);
    let mut report = Report::default();
    for group in side_by_side(cases, host_cpus) {
        report.cases.extend(run_group(&group, |case| run_case(paths, &binaries, case, scenario)));
    }
    report.print();
    let file = paths.target.join("matrix.json");
    std::fs::write(&file, serde_json::to_vec_pretty(&report)?)
        .with_context(|| format!("cannot write {}", file.display()))?;
    println!("written to {}", file.display());
    Ok(report.tally())
}

/// Runs the guests of a group at once; each line they print begins with the guest's name.
fn run_group(group: &[&Case], work: impl Fn(&Case) -> CaseResult + Sync) -> Vec<CaseResult> {
    thread::scope(|scope| {
        let work = &work;
        let guests: Vec<_> = group.iter().map(|&case| (case, scope.spawn(move || work(case)))).collect();
        let panicked = |case| CaseResult::failed(case, "its thread panicked".to_owned());
        guests.into_iter().map(|(case, guest)| guest.join().unwrap_or_else(|_| panicked(case))).collect()
    })
}

fn run_case(paths: &Paths, binaries: &Binaries, case: &Case, scenario: &str) -> CaseResult {
    println!("{case}: starts");
    let start = Instant::now();
    let mut result = CaseResult::new(case);
    if let Err(error) = boot(paths, binaries, case, scenario, &mut result) {
        println!("{case}: {error:#}");
        result.error = Some(format!("{error:#}"));
    }
    result.seconds = start.elapsed().as_secs();
    println!("{case}: ended after {} s", result.seconds);
    result
}

fn boot(
    paths: &Paths,
    binaries: &Binaries,
    case: &Case,
    scenario: &str,
    result: &mut CaseResult,
) -> Result<()> {
    let kernel = Kernel::find(paths, &case.series)?;
    result.release.clone_from(&kernel.release);
    result.substitute = kernel.substitute();
    let guest = Guest {
        kernel: &kernel,
        cpus: case.cpus,
        memory: 1536,
        icount: false,
        no_conntrack: false,
        limit: LIMIT,
        out: paths.target.join("matrix").join(case.folder()),
        files: binaries.all(),
    };
    let script = format!(
        "exec conntally-e2e guest --agent /root/conntally --hook {} --scenario {scenario} --out /out\n",
        case.hook
    );
    let outcome = guest.run(paths, &script, |line| {
        match ScenarioResult::parse(line) {
            Some(scenario) => {
                println!("{case}: {:<16} {}", scenario.scenario, scenario.verdict);
                if !scenario.passed() {
                    println!("{case}: {line}");
                }
                result.scenarios.push(scenario);
            }
            None => println!("{case}: {line}"),
        };
    })?;
    if result.scenarios.is_empty() {
        bail!("no scenario ran (exit code {})", outcome.code);
    }
    if outcome.code != 0 && result.scenarios.iter().all(ScenarioResult::passed) {
        bail!("conntally-e2e ended with code {}", outcome.code);
    }
    Ok(())
}
