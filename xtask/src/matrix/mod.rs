//! `cargo xtask vm matrix`: the scenarios on all kernels, with all hooks and modes, with one and two CPUs.

mod crowd;
mod markdown;
mod plan;
mod progress;
mod report;

use std::{
    path::Path,
    sync::{Mutex, PoisonError},
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, bail, ensure};
use clap::Args;

pub(crate) use plan::Hook;
pub(crate) use report::Report;

use crate::{
    command::{output, program},
    guest::{Binaries, Guest, Profile},
    kernels::{Kernel, SUPPORTED, Series},
    paths::Paths,
};
use plan::{MODES, Piece, Scenario, Updates, all, selection};
use progress::Progress;
use report::{CaseResult, ScenarioResult};

/// How long a guest may take for all scenarios under emulation.
const LIMIT: Duration = Duration::from_secs(2400);

/// The same with all flows and kills that are promised.
const FULL_LIMIT: Duration = Duration::from_secs(3 * 3600);

/// Kills and flows that are promised: environment and options of conntally-e2e. Four scenarios kill agents, one of them
/// half as often, so that a guest in which programs outlive agents sees 102 kills.
const FULL_KILLS: &str = "export CONNTALLY_TEST_KILLS=29\n";
const FULL_FLOWS: &str = " --flows 100000";

/// Memory of a guest in MiB. Above 1 GiB the kernel makes room for 65536 flows on its own.
const MEMORY: u32 = 1536;

/// What to run.
#[derive(Args)]
pub(crate) struct Options {
    /// Kernel series
    #[arg(long, value_delimiter = ',', default_values_t = supported())]
    kernels: Vec<Series>,
    /// Modes of updates
    #[arg(long, value_delimiter = ',', value_enum, default_values_t = MODES.to_vec())]
    updates: Vec<Updates>,
    /// Scenarios of conntally-e2e, or all
    #[arg(long, value_delimiter = ',', default_value = "all")]
    scenario: Vec<String>,
    /// Each value and each pair of values at least once, as in `cargo xtask test`, instead of every combination
    #[arg(long)]
    selection: bool,
    /// As many flows and kills as are promised instead of as few as prove something
    #[arg(long, conflicts_with = "selection")]
    full: bool,
    /// Forget which combinations are done. Else the same command goes on where the last one was broken off, unless a
    /// program has changed
    #[arg(long, conflicts_with = "selection")]
    anew: bool,
}

impl Options {
    /// A selection, or everything, with nothing left out.
    pub(crate) fn of(full: bool) -> Self {
        let (kernels, updates) = (supported(), MODES.to_vec());
        Self { kernels, updates, scenario: vec!["all".to_owned()], selection: !full, full, anew: false }
    }

    fn pieces(&self, scenarios: &[Scenario]) -> Vec<Piece> {
        if self.selection {
            selection(&self.kernels, &self.updates, scenarios)
        } else {
            all(&self.kernels, &self.updates, scenarios, self.full)
        }
    }

    /// Of a run that may be broken off. A selection is always run whole.
    fn progress(&self, paths: &Paths, binaries: &Binaries) -> Result<Option<Progress>> {
        if self.selection {
            return Ok(None);
        }
        let state = paths.target.join("matrix-done.json");
        if self.anew {
            // It is only a cache: that it is missing is no error.
            drop(std::fs::remove_file(&state));
        }
        Progress::open(state, &binaries.all()).map(Some)
    }
}

/// The supported series as values.
pub(crate) fn supported() -> Vec<Series> {
    SUPPORTED.iter().filter_map(|text| text.parse().ok()).collect()
}

/// Runs the matrix and prints its table; fails if any scenario did, not if all had to be skipped.
pub(crate) fn run(paths: &Paths, options: &Options) -> Result<()> {
    let report = play(paths, options)?;
    for failure in report.failures() {
        println!("FAILED: {failure}");
    }
    println!("{}", report.summary());
    report.tally().judge()
}

/// Runs the guests, prints the tables and writes them to `target/matrix.json` and `target/matrix.md`.
pub(crate) fn play(paths: &Paths, options: &Options) -> Result<Report> {
    let binaries = Binaries::build(paths, Profile::Quick)?;
    let scenarios = scenarios(&binaries, &options.scenario)?;
    let pieces = options.pieces(&scenarios);
    let progress = options.progress(paths, &binaries)?.map(Mutex::new);
    let mut written = Ok(());
    let work = |piece: &Piece| match &progress {
        Some(progress) => done_or_run(piece, progress, || run_piece(paths, &binaries, piece)),
        None => run_piece(paths, &binaries, piece),
    };
    let report = crowd::run(&pieces, crowd::room(), work, |report| written = write(paths, report));
    written?;
    report.print();
    println!("\n{}", markdown::table(&report));
    println!("written to {0}/matrix.json and {0}/matrix.md", paths.target.display());
    Ok(report)
}

fn write(paths: &Paths, report: &Report) -> Result<()> {
    let put = |name: &str, bytes: &[u8]| {
        let file = paths.target.join(name);
        std::fs::write(&file, bytes).with_context(|| format!("cannot write {}", file.display()))
    };
    put("matrix.json", &serde_json::to_vec_pretty(report)?)?;
    put("matrix.md", markdown::table(report).as_bytes())
}

/// The scenarios of these names as conntally-e2e lists them, or all.
fn scenarios(binaries: &Binaries, names: &[String]) -> Result<Vec<Scenario>> {
    let listed = list(&binaries.path("conntally-e2e"))?;
    if names.iter().any(|name| name == "all") {
        return Ok(listed);
    }
    let known = |name: &&String| listed.iter().any(|scenario| scenario.name == **name);
    if let Some(unknown) = names.iter().find(|name| !known(name)) {
        bail!("no scenario is named {unknown}: run `conntally-e2e list`");
    }
    // Asked for by name, they run wherever they can.
    let wanted = listed.into_iter().filter(|scenario| names.contains(&scenario.name));
    Ok(wanted.map(|scenario| Scenario { long: false, ..scenario }).collect())
}

fn list(tests: &Path) -> Result<Vec<Scenario>> {
    let text = output(program(tests).arg("list"))?;
    let parsed: Result<Vec<Scenario>, _> = text.lines().map(serde_json::from_str).collect();
    let scenarios = parsed.context("conntally-e2e lists something that is no scenario")?;
    ensure!(!scenarios.is_empty(), "conntally-e2e lists no scenario");
    Ok(scenarios)
}

/// The result that is kept of the piece, or that of `run`, which is kept then.
fn done_or_run(piece: &Piece, progress: &Mutex<Progress>, run: impl FnOnce() -> CaseResult) -> CaseResult {
    let progress = || progress.lock().unwrap_or_else(PoisonError::into_inner);
    // A statement of its own, because a condition would hold the lock for as long as what depends on it.
    let before = progress().done(piece);
    if let Some(done) = before {
        println!("{}: done before, {} s", piece.case, done.seconds);
        return done;
    }
    let result = run();
    if let Err(error) = progress().keep(piece, &result) {
        println!("{}: the result is not kept: {error:#}", piece.case);
    }
    result
}

fn run_piece(paths: &Paths, binaries: &Binaries, piece: &Piece) -> CaseResult {
    let case = &piece.case;
    println!("{case}: starts");
    let start = Instant::now();
    let mut result = CaseResult::new(case);
    if let Err(error) = boot(paths, binaries, piece, &mut result) {
        println!("{case}: {error:#}");
        result.error = Some(format!("{error:#}"));
    }
    result.seconds = start.elapsed().as_secs();
    println!("{case}: ended after {} s", result.seconds);
    result
}

fn boot(paths: &Paths, binaries: &Binaries, piece: &Piece, result: &mut CaseResult) -> Result<()> {
    let case = &piece.case;
    let kernel = Kernel::find(paths, &case.series)?;
    result.release.clone_from(&kernel.release);
    result.substitute = kernel.substitute();
    let guest = Guest {
        kernel: &kernel,
        cpus: case.cpus,
        memory: MEMORY,
        icount: false,
        append: "",
        systemd: false,
        limit: if piece.full { FULL_LIMIT } else { LIMIT },
        out: paths.target.join("matrix").join(case.folder()),
        files: binaries.all(),
    };
    let outcome = guest.run(paths, &script(piece), |line| {
        let Some(scenario) = ScenarioResult::parse(line) else { return println!("{case}: {line}") };
        println!("{case}: {:<18} {:<8} {:>4.0} s", scenario.scenario, scenario.verdict, scenario.seconds);
        if !scenario.passed() {
            println!("{case}: {line}");
        }
        result.scenarios.push(scenario);
    })?;
    let missing = piece.not_in(&result.scenarios);
    if !missing.is_empty() {
        bail!("these scenarios did not run: {}", missing.join(", "));
    }
    let tally = result.tally();
    // Where it skipped all, that is what its code says.
    let expected = i32::from(tally.played_nothing());
    if tally.failed == 0 && outcome.code != expected {
        bail!("conntally-e2e ended with code {}", outcome.code);
    }
    Ok(())
}

fn script(piece: &Piece) -> String {
    let case = &piece.case;
    let updates = match case.updates {
        Updates::Packet => String::new(),
        Updates::Sweep => format!(" --updates {}", case.updates),
    };
    let (hook, scenarios) = (case.hook, piece.scenarios.join(","));
    let (kills, flows) = if piece.full { (FULL_KILLS, FULL_FLOWS) } else { ("", "") };
    format!(
        "{kills}exec conntally-e2e guest --agent ./conntally --hook {hook}{updates}{flows} \
         --scenario {scenarios} --out /out\n"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_run_that_was_broken_off_goes_on_where_it_was() {
        let folder = tempfile::tempdir().unwrap();
        let open = || Progress::open(folder.path().join("state.json"), &[]).unwrap();
        let pieces = all(&supported(), MODES, &[], true);
        let exact = |piece: &Piece| {
            let mut result = CaseResult::new(&piece.case);
            result.scenarios.extend(ScenarioResult::parse(r#"{"scenario":"tcp","verdict":"exact"}"#));
            result
        };
        let (first, rest) = pieces.split_first().unwrap();
        done_or_run(first, &Mutex::new(open()), || exact(first));

        let (progress, played) = (Mutex::new(open()), Mutex::new(0));
        let work = |piece: &Piece| {
            done_or_run(piece, &progress, || {
                *played.lock().unwrap() += 1;
                exact(piece)
            })
        };
        let report = crowd::run(&pieces, crowd::room(), work, |_| ());
        assert_eq!(report.cases.len(), pieces.len());
        assert!(report.cases.iter().all(|case| case.tally().passed == 1));
        assert_eq!(played.into_inner().unwrap(), rest.len());
    }

    #[test]
    fn only_a_full_run_asks_for_all_kills_and_flows() {
        let mut piece = all(&supported(), MODES, &[], true).remove(0);
        let full = script(&piece);
        assert!(full.contains("TEST_KILLS=29\nexec ") && full.contains(" --flows 100000 --scenario "));
        piece.full = false;
        assert!(script(&piece).starts_with("exec ") && !script(&piece).contains("--flows"));
    }
}
