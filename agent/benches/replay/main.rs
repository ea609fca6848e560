//! What the agent as users get it takes for a record on the way from a recording to a sink that throws it away:
//! instructions, and memory that does not grow with the number of records. With `--servers CACHE` also CPU of delivering to a
//! real InfluxDB, beside Telegraf.
#![expect(clippy::print_stdout, reason = "its result")]

#[path = "../instructions/callgrind.rs"]
mod callgrind;
#[path = "../../tests/http/mod.rs"]
mod http;
#[path = "../outcome/mod.rs"]
mod outcome;
mod process;
mod recording;
#[path = "../../tests/deployment/server.rs"]
mod server;
#[path = "../../tests/sights/mod.rs"]
mod sights;
mod telegraf;

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};
use std::thread;

use anyhow::{Context as _, Result, ensure};
use nix::sys::stat::Mode;
use nix::unistd::mkfifo;
use serde::Serialize;

/// Instructions of a record at most.
const INSTRUCTIONS: u64 = 4_000;

/// Records of which the instructions are counted: the difference of these two.
const COUNTED: (u64, u64) = (120_000, 360_000);

/// Memory with the second number of records over that with the first, at most. How many batches wait at the same time is
/// up to the scheduler and moves a single run by up to half; 0.6 bytes kept of each record would break this.
const GROWTH: f64 = 1.3;
/// Whole waves of flows.
const STEADY: (u64, u64) = (1_020_000, 10_200_000);

/// Runs of which the one with the least memory counts: more is what waited because the machine was busy.
const RUNS: u32 = 3;

const AGENT: &str = env!("CARGO_BIN_EXE_conntally");

const CONFIGURATION: &str = "[sinks.measure]\ntype = \"null\"\n";

/// One line of the result.
#[derive(Serialize)]
struct Cost {
    bench: &'static str,
    way: &'static str,
    instructions: u64,
    limit: u64,
    ok: bool,
}

/// The other one: resident memory at its highest.
#[derive(Serialize)]
struct Memory {
    bench: &'static str,
    way: &'static str,
    records: (u64, u64),
    rss_kib: (u64, u64),
    ratio: f64,
    limit: f64,
    ok: bool,
}

fn main() -> ExitCode {
    outcome::exit_code(run())
}

fn run() -> Result<bool> {
    let folder = std::env::temp_dir().join(format!("conntally-bench-replay-{}", std::process::id()));
    fs::create_dir_all(&folder).with_context(|| format!("cannot make {}", folder.display()))?;
    let result = measure(&folder);
    fs::remove_dir_all(&folder)?;
    result
}

fn measure(folder: &Path) -> Result<bool> {
    let mut all_ok = cost(folder)?;
    all_ok &= memory(folder)?;
    let arguments: Vec<String> = std::env::args().collect();
    if let [_, flag, cache, ..] = arguments.as_slice()
        && flag == "--servers"
    {
        all_ok &= telegraf::compare(folder, Path::new(cache))?;
    }
    Ok(all_ok)
}

fn print(line: &impl Serialize) -> Result<()> {
    println!("{}", serde_json::to_string(line)?);
    Ok(())
}

fn cost(folder: &Path) -> Result<bool> {
    let (fewer, more) = (counted(folder, COUNTED.0)?, counted(folder, COUNTED.1)?);
    let instructions = more.saturating_sub(fewer) / (COUNTED.1 - COUNTED.0);
    let ok = instructions <= INSTRUCTIONS;
    let line = Cost { bench: "pipeline", way: "replay-null", instructions, limit: INSTRUCTIONS, ok };
    print(&line)?;
    Ok(ok)
}

fn counted(folder: &Path, records: u64) -> Result<u64> {
    let file = folder.join("flows.rec");
    recording::write(File::create(&file)?, records)?;
    let (total, log) = callgrind::instructions(Path::new(AGENT), arguments(folder, &file)?)?;
    all_came(&log, records)?;
    Ok(total)
}

fn memory(folder: &Path) -> Result<bool> {
    let (fewer, more) = (needed(folder, STEADY.0)?, needed(folder, STEADY.1)?);
    #[expect(clippy::cast_precision_loss, reason = "kibibytes of memory are far below 2^52")]
    let ratio = more as f64 / fewer.max(1) as f64;
    let ok = ratio <= GROWTH;
    let line = Memory {
        bench: "pipeline",
        way: "replay-null-memory",
        records: STEADY,
        rss_kib: (fewer, more),
        ratio,
        limit: GROWTH,
        ok,
    };
    print(&line)?;
    Ok(ok)
}

/// The most memory that an agent needs which reads that many records, KiB.
fn needed(folder: &Path, records: u64) -> Result<u64> {
    let runs: Result<Vec<_>> = (0..RUNS).map(|_| resident(folder, records)).collect();
    runs?.into_iter().min().context("there was no run")
}

/// The most memory that one had in one run.
fn resident(folder: &Path, records: u64) -> Result<u64> {
    // By a pipe: a recording of ten million records has two gigabytes.
    let pipe = folder.join("pipe");
    mkfifo(&pipe, Mode::S_IRUSR | Mode::S_IWUSR)?;
    let log = folder.join("log");
    let mut command = Command::new(AGENT);
    command.args(arguments(folder, &pipe)?).stdout(Stdio::null()).stderr(File::create(&log)?);
    let mut agent = command.spawn().context("cannot start the agent")?;
    let writer = thread::spawn(move || recording::write(File::create(pipe)?, records));
    let (status, peak) = process::followed(&mut agent)?;
    let told = fs::read_to_string(&log)?;
    ensure!(status.success(), "the agent failed ({status}):\n{told}");
    writer.join().ok().context("the writer of the recording broke off")??;
    all_came(&told, records)?;
    fs::remove_file(folder.join("pipe"))?;
    Ok(peak.rss_kib)
}

fn arguments(folder: &Path, recording: &Path) -> Result<Vec<PathBuf>> {
    let configuration = folder.join("conntally.toml");
    fs::write(&configuration, CONFIGURATION)?;
    Ok(vec!["replay".into(), recording.into(), "--config".into(), configuration])
}

fn all_came(log: &str, records: u64) -> Result<()> {
    let said = format!("sink measure: all is delivered records={records}");
    ensure!(log.contains(&said), "not all {records} records were delivered:\n{log}");
    Ok(())
}
