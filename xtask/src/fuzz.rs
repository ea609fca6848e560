//! `cargo xtask fuzz`: feeds the decoders with inputs that coverage leads to, on a stable compiler.
//!
//! What finds its way is libFuzzer; the compiler's own coverage pass is switched on by flags that need no nightly.

use std::{
    fs,
    num::NonZero,
    path::{Path, PathBuf},
    process::Command,
    thread,
};

use anyhow::{Context as _, Result, anyhow, bail, ensure};

use crate::{
    command::{cargo, patient, patient_cargo, program, run as run_command},
    paths::Paths,
};

/// All fuzzers, each with folders of inputs to begin with besides its own `agent/fuzz/corpus/NAME`. A new one is a
/// file in `agent/fuzz/targets`, a `[[bin]]` in `agent/fuzz/Cargo.toml` and a line here.
const TARGETS: &[&str] = &["btf", "netlink", "recording", "state", "events", "spool"];

/// Makes the compiler count which edges an input takes and which comparisons it fails.
const FLAGS: &str = "-Cpasses=sancov-module -Cllvm-args=-sanitizer-coverage-level=4 \
    -Cllvm-args=-sanitizer-coverage-inline-8bit-counters -Cllvm-args=-sanitizer-coverage-pc-table \
    -Cllvm-args=-sanitizer-coverage-trace-compares --cfg fuzzing -Cforce-frame-pointers";

/// What to fuzz and for how long.
#[derive(clap::Args)]
pub(crate) struct Options {
    /// One of the fuzzers; all of them if not given
    target: Option<String>,
    /// An input to repeat, for example one that crashed
    #[arg(requires = "target", conflicts_with = "minimise")]
    input: Option<PathBuf>,
    /// Seconds for each fuzzer
    #[arg(long, default_value_t = 60)]
    seconds: u32,
    /// Add to the committed inputs what was found to reach more, and drop what reaches no more than others
    #[arg(long)]
    minimise: bool,
}

/// Builds the fuzzers and runs what is asked for; fails at the first crash.
pub(crate) fn run(paths: &Paths, options: &Options) -> Result<()> {
    let fuzzers = build(paths, cargo())?;
    if let (Some(target), Some(input)) = (&options.target, &options.input) {
        return run_command(program(fuzzers.join(target)).arg(input));
    }
    for target in chosen(options)? {
        fuzz(paths, target, program(fuzzers.join(target)), options.seconds)?;
        if options.minimise {
            minimise(paths, &fuzzers, target)?;
        }
    }
    Ok(())
}

/// Every fuzzer for so long, as many at once as there are CPUs, in the time that others leave; returns how many there are.
pub(crate) fn all(paths: &Paths, seconds: u32) -> Result<u64> {
    let fuzzers = build(paths, patient_cargo())?;
    let at_once = thread::available_parallelism().map_or(1, NonZero::get);
    for targets in TARGETS.chunks(at_once) {
        thread::scope(|scope| {
            let fuzzer = |target| patient(fuzzers.join(target));
            let run =
                |target: &'static str| scope.spawn(move || fuzz(paths, target, fuzzer(target), seconds));
            let running: Vec<_> = targets.iter().copied().map(run).collect();
            running.into_iter().try_for_each(|one| one.join().map_err(|_| anyhow!("a thread panicked"))?)
        })?;
    }
    Ok(TARGETS.len() as u64)
}

fn chosen(options: &Options) -> Result<Vec<&'static str>> {
    let Some(wanted) = &options.target else { return Ok(TARGETS.to_vec()) };
    let found = TARGETS.iter().find(|target| *target == wanted);
    Ok(vec![*found.with_context(|| format!("no fuzzer {wanted}: there are {}", TARGETS.join(", ")))?])
}

/// Builds all fuzzers; returns the folder they are in.
fn build(paths: &Paths, mut build: Command) -> Result<PathBuf> {
    let host = format!("{}-unknown-linux-gnu", std::env::consts::ARCH);
    let folder = paths.target.join("fuzz");
    build.current_dir(paths.root.join("agent/fuzz")).env("RUSTFLAGS", FLAGS);
    build.args(["build", "--quiet", "--locked", "--release", "--bins"]);
    // Named, so that build scripts and macros are left uninstrumented.
    build.args(["--target", &host, "--target-dir"]).arg(&folder);
    run_command(&mut build)?;
    Ok(folder.join(host).join("release"))
}

fn fuzz(paths: &Paths, target: &str, mut fuzzer: Command, seconds: u32) -> Result<()> {
    let (committed, found, crashes) =
        (committed(paths, target), found(paths, target), crashes(paths, target));
    for folder in [&committed, &found, &crashes] {
        fs::create_dir_all(folder).with_context(|| format!("cannot create {}", folder.display()))?;
    }
    let before = inputs(&crashes)?;
    let log = crashes.with_extension("log");
    println!("fuzzing {target} for {seconds} s");
    let status = fuzzer
        .arg(format!("-artifact_prefix={}/", crashes.display()))
        .args([
            format!("-max_total_time={seconds}"),
            "-timeout=10".to_owned(),
            "-rss_limit_mb=2048".to_owned(),
        ])
        .args(["-max_len=8192", "-print_final_stats=1", "-use_value_profile=1"])
        .args([&found, &committed])
        .stderr(fs::File::create(&log).context("cannot keep the fuzzer's words")?)
        .status()
        .context("the fuzzer cannot be run")?;
    let told = fs::read_to_string(&log).unwrap_or_default();
    if status.success() {
        let executed = told.lines().find_map(|line| line.strip_prefix("stat::number_of_executed_units:"));
        println!("{target}: {} inputs, none crashed", executed.unwrap_or("some").trim());
        return Ok(());
    }
    let new: Vec<_> = inputs(&crashes)?.into_iter().filter(|input| !before.contains(input)).collect();
    let tail: Vec<_> =
        told.lines().filter(|line| line.contains("panicked") || line.contains("ERROR")).collect();
    for input in &new {
        println!("{target} crashed with {}", input.display());
        println!("repeat it: cargo xtask fuzz {target} {}", input.display());
    }
    bail!("the fuzzer {target} failed, see {}: {}", log.display(), tail.join("; "))
}

/// Merges what was found into the committed inputs, as few as reach everything.
fn minimise(paths: &Paths, fuzzers: &Path, target: &str) -> Result<()> {
    let (committed, merged) = (committed(paths, target), paths.target.join("fuzz/merged").join(target));
    let _ = fs::remove_dir_all(&merged);
    fs::create_dir_all(&merged)?;
    let mut merge = program(fuzzers.join(target));
    merge.args(["-merge=1", "-max_len=8192"]).args([&merged, &committed, &found(paths, target)]);
    run_command(merge.stderr(std::process::Stdio::null()))?;
    ensure!(!inputs(&merged)?.is_empty(), "nothing was merged");
    fs::remove_dir_all(&committed)?;
    fs::create_dir_all(&committed)?;
    for input in inputs(&merged)? {
        fs::copy(&input, committed.join(input.file_name().unwrap_or_default()))?;
    }
    Ok(())
}

/// Inputs that are part of the sources.
fn committed(paths: &Paths, target: &str) -> PathBuf {
    paths.root.join("agent/fuzz/corpus").join(target)
}

/// Inputs that were found here.
fn found(paths: &Paths, target: &str) -> PathBuf {
    paths.target.join("fuzz/corpus").join(target)
}

/// Inputs that crashed.
fn crashes(paths: &Paths, target: &str) -> PathBuf {
    paths.target.join("fuzz/crashes").join(target)
}

fn inputs(folder: &Path) -> Result<Vec<PathBuf>> {
    fs::read_dir(folder)?.map(|entry| Ok(entry?.path())).collect()
}
