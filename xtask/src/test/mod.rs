//! `cargo xtask test`: everything that CI runs, to the end even if a part fails.

mod count;

pub(crate) use count::Count;

use std::{
    io::{BufRead as _, BufReader},
    process::{Command, Stdio},
    thread,
    time::Instant,
};

use anyhow::{Context as _, Result, bail, ensure};

use crate::{
    command::{cargo, exists, is_root, patient_cargo, run as run_command, shown},
    dashboards, ebpf, fuzz,
    guest::Binaries,
    matrix,
    paths::Paths,
    servers::conformance,
    vm::{play_locked, play_service, play_unloaded},
};

/// How long each fuzzer runs.
const FUZZ_SECONDS: u32 = 30;

/// What to leave out.
#[derive(clap::Args)]
pub(crate) struct Options {
    /// Leave out the guests
    #[arg(long)]
    no_vm: bool,
    /// Leave out the servers that sinks deliver to
    #[arg(long)]
    no_servers: bool,
    /// Every scenario in every combination of kernel, hook, mode and number of CPUs instead of a selection
    #[arg(long, conflicts_with = "no_vm")]
    full: bool,
}

/// Runs all steps, in their order, and prints how many tests passed and failed; a step that cannot count its tests is one test.
pub(crate) fn run(paths: &Paths, options: &Options) -> Result<()> {
    let mut count = Count::default();
    step(&mut count, "formatting", || format(paths));
    step(&mut count, "kernel object", || ebpf::check(paths));
    step(&mut count, "dependencies", || dependencies(paths));
    step(&mut count, "boards", || dashboards::check(paths));
    thread::scope(|scope| {
        step(&mut count, "build of the host tests", || build_host_tests(paths));
        // Tests mostly wait: what later steps need is built, and what needs no other step is done, in the time that
        // they leave.
        let beside = scope.spawn(|| {
            if !options.no_vm {
                // The step that needs it tells if it fails.
                drop(Binaries::build_ahead(paths));
            }
            [
                ("lints", lint(paths)),
                ("lints of the kernel programs", ebpf::clippy(paths)),
                ("fuzzers", fuzzers(paths)),
            ]
        });
        step(&mut count, "host tests", || host_tests(paths));
        if !options.no_servers {
            step(&mut count, "sinks", || conformance::run(paths, &conformance::Options::usual()));
        }
        match beside.join() {
            Ok(steps) => steps.into_iter().for_each(|(name, counted)| step(&mut count, name, || counted)),
            Err(_) => step(&mut count, "lints and fuzzers", || bail!("a thread panicked")),
        }
        if !options.no_vm {
            step(&mut count, "service", || play_service(paths, &"6.12".parse()?));
            step(&mut count, "conntrack not loaded", || play_unloaded(paths, &"6.12".parse()?));
            step(&mut count, "kernel locked down", || play_locked(paths, &"6.12".parse()?));
            step(&mut count, "guests", || guests(paths, options.full));
        }
    });
    for failed in &count.failures {
        println!("FAILED: {failed}");
    }
    let summary = format!("{} passed, {} failed", count.passed, count.failed);
    // An error is the last line, too.
    ensure!(count.failed == 0, summary);
    println!("{summary}");
    Ok(())
}

/// Runs one step and adds what it counted.
fn step(total: &mut Count, name: &str, work: impl FnOnce() -> Result<Count>) {
    println!("\n== {name}");
    let start = Instant::now();
    let counted = work().unwrap_or_else(|error| Count::failure(format!("{name}: {error:#}")));
    println!(
        "== {name}: {} passed, {} failed, {} s",
        counted.passed,
        counted.failed,
        start.elapsed().as_secs()
    );
    total.add(counted);
}

fn format(paths: &Paths) -> Result<Count> {
    run_command(cargo().current_dir(&paths.root).args(["fmt", "--all", "--check"]))?;
    for workspace in ["agent-ebpf", "agent/fuzz"] {
        run_command(cargo().current_dir(paths.root.join(workspace)).args(["fmt", "--check"]))?;
    }
    Ok(Count::success())
}

/// In a folder of its own, so that no build has to wait for it.
fn lint(paths: &Paths) -> Result<Count> {
    for folder in [paths.root.clone(), paths.root.join("agent/fuzz")] {
        let mut clippy = patient_cargo();
        clippy.current_dir(folder).args(["clippy", "--quiet", "--locked", "--workspace", "--all-targets"]);
        clippy.arg("--target-dir").arg(paths.target.join("clippy")).args(["--", "-D", "warnings"]);
        run_command(&mut clippy)?;
    }
    Ok(Count::success())
}

fn dependencies(paths: &Paths) -> Result<Count> {
    ensure!(exists("cargo-deny"), "cargo-deny is missing: run `cargo xtask setup`");
    for folder in [paths.root.clone(), paths.root.join("agent-ebpf")] {
        let mut deny = cargo();
        deny.current_dir(folder)
            .args(["deny", "--log-level", "error", "--config"])
            .arg(paths.root.join("deny.toml"));
        run_command(deny.args(["check", "bans", "licenses", "sources"]))?;
    }
    Ok(Count::success())
}

const HOST_TESTS: &[&str] = &["test", "--locked", "--workspace"];

fn build_host_tests(paths: &Paths) -> Result<Count> {
    run_command(cargo().current_dir(&paths.root).args(HOST_TESTS).args(["--quiet", "--no-run"]))?;
    Ok(Count::success())
}

fn host_tests(paths: &Paths) -> Result<Count> {
    let mut tests = cargo();
    tests.current_dir(&paths.root).args(HOST_TESTS).arg("--no-fail-fast");
    have_root(&mut tests)?;
    let (text, success) = followed(&mut tests)?;
    let mut counted = Count::of_cargo_test(&text);
    if !success && counted.failed == 0 {
        counted.add(Count::failure("cargo test failed without a failed test: see above".to_owned()));
    }
    if success && counted.passed == 0 {
        bail!("cargo test ran no test");
    }
    Ok(counted)
}

/// Runs the test programs as root, by `sudo` if need be, and forbids those that need it to skip.
///
/// A developer without `sudo` gets what can be run without; in CI (`CI` is set) that is a failure.
fn have_root(tests: &mut Command) -> Result<()> {
    if !is_root() {
        if !exists("sudo") {
            ensure!(std::env::var_os("CI").is_none(), "tests in network namespaces need root or sudo");
            println!("neither root nor sudo: tests in network namespaces are skipped");
            return Ok(());
        }
        let arch = std::env::consts::ARCH.to_uppercase();
        tests.env(format!("CARGO_TARGET_{arch}_UNKNOWN_LINUX_GNU_RUNNER"), "sudo -E");
    }
    // Not one of the agent's `CONNTALLY_` names, which it would warn of.
    tests.env("REQUIRE_ROOT_TESTS", "1");
    Ok(())
}

fn fuzzers(paths: &Paths) -> Result<Count> {
    let passed = fuzz::all(paths, FUZZ_SECONDS)?;
    Ok(Count { passed, ..Count::default() })
}

fn guests(paths: &Paths, full: bool) -> Result<Count> {
    let report = matrix::play(paths, &matrix::Options::of(full))?;
    let tally = report.tally();
    if tally.passed == 0 {
        bail!("no scenario passed in any guest");
    }
    Ok(Count { passed: tally.passed, failed: tally.failed, failures: report.failures() })
}

/// Runs a command, shows its standard output line by line, and returns it with whether the command succeeded.
pub(crate) fn followed(command: &mut Command) -> Result<(String, bool)> {
    let name = shown(command);
    let mut child = command.stdout(Stdio::piped()).spawn().with_context(|| format!("cannot run {name}"))?;
    let output = child.stdout.take().with_context(|| format!("{name} has no output"))?;
    let mut text = String::new();
    for line in BufReader::new(output).lines() {
        let line = line?;
        println!("{line}");
        text.push_str(&line);
        text.push('\n');
    }
    Ok((text, child.wait()?.success()))
}
