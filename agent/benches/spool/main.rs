//! How fast requests go to disk and come back, beside `dd` with the same block size and the same syncing.
#![expect(clippy::print_stdout, reason = "its result")]

#[path = "../outcome/mod.rs"]
mod outcome;

use std::path::Path;
use std::process::{Command, ExitCode, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use conntally::config::{Fsync, SpoolConfig};
use conntally::model::Sum;
use conntally::pipeline::spool::Store;
use conntally::pipeline::{Request, Weight};
use serde::Serialize;

/// Bytes of a request, and of a block of `dd`.
const BLOCK: usize = 1 << 20;

/// Items of a request.
const ITEMS: usize = 2_500;

/// Both are measured in turns, and the fastest round of each counts: what makes one slower is what else the machine does.
const ROUNDS: usize = 12;

/// The least part of the speed of `dd`.
const LEAST: f64 = 0.7;

/// When it syncs, how often it writes, and what makes `dd` do the same.
const WAYS: [(&str, Fsync, usize, &str); 2] = [
    ("at the end", Fsync::Interval, 256, "conv=fdatasync"),
    ("each request", Fsync::Always, 64, "oflag=dsync"),
];

/// One line of the result; megabytes (10^6) a second, written and read.
#[derive(Serialize)]
struct Line {
    bench: &'static str,
    fsync: &'static str,
    spool: f64,
    dd: f64,
    ratio: f64,
    least: f64,
    ok: bool,
}

fn main() -> ExitCode {
    outcome::exit_code(run())
}

fn run() -> Result<bool> {
    let dir = tempfile::Builder::new().prefix("spool-bench").tempdir_in(folder()?)?;
    let mut all_ok = true;
    for (name, fsync, count, syncing) in WAYS {
        let line = measure(dir.path(), name, fsync, count, syncing)?;
        println!("{}", serde_json::to_string(&line)?);
        all_ok &= line.ok;
    }
    Ok(all_ok)
}

/// Where the program itself is: on a disk, as the folder for temporary files need not be.
fn folder() -> Result<std::path::PathBuf> {
    let program = std::env::current_exe()?;
    Ok(program.parent().context("the program is nowhere")?.to_owned())
}

fn measure(dir: &Path, name: &'static str, fsync: Fsync, count: usize, syncing: &str) -> Result<Line> {
    let (mut spooled, mut copied) = (Duration::MAX, Duration::MAX);
    for _ in 0..ROUNDS {
        spooled = spooled.min(spool(dir, fsync, count)?);
        copied = copied.min(dd(dir, syncing, count)?);
    }
    let speed = |time: Duration| ((count * BLOCK) as f64 / 1e5 / time.as_secs_f64()).round() / 10.0;
    let ratio = (100.0 * copied.as_secs_f64() / spooled.as_secs_f64()).round() / 100.0;
    let line = Line {
        bench: "spool",
        fsync: name,
        spool: speed(spooled),
        dd: speed(copied),
        ratio,
        least: LEAST,
        ok: ratio >= LEAST,
    };
    Ok(line)
}

/// Writes requests, then takes each of them out and is done with it.
fn spool(dir: &Path, fsync: Fsync, count: usize) -> Result<Duration> {
    let dir = dir.join("spool");
    let config = SpoolConfig { fsync, ..SpoolConfig::in_dir(dir.clone()) };
    let mut store = Store::open(&config, "null", [0; 16])?;
    let request = request();
    let begin = Instant::now();
    for _ in 0..count {
        store.append(&request)?;
    }
    store.sync()?;
    let mut taken = 0;
    while let Some((ticket, request)) = store.take()? {
        ensure!(request.body.len() == BLOCK, "it is not what was written");
        store.done(ticket)?;
        taken += 1;
    }
    let time = begin.elapsed();
    ensure!(taken == count, "{taken} of {count} came back");
    drop(store);
    std::fs::remove_dir_all(dir)?;
    Ok(time)
}

fn request() -> Request {
    let body: Vec<u8> = (0..BLOCK).map(|at| (at * 31 % 251) as u8).collect();
    let weight = Weight { records: 1, ends: 1, moved: Sum { flows: 1, packets: 40, bytes: 50_000 } };
    let items = (1..=ITEMS).map(|item| ((item * BLOCK / ITEMS) as u32, weight)).collect();
    Request { body, items, ..Request::default() }
}

/// Writes as many blocks, then reads them.
fn dd(dir: &Path, syncing: &str, count: usize) -> Result<Duration> {
    let file = dir.join("dd").display().to_string();
    let begin = Instant::now();
    call(&["if=/dev/zero", &format!("of={file}"), "bs=1M", &format!("count={count}"), syncing])?;
    call(&[&format!("if={file}"), "of=/dev/null", "bs=1M"])?;
    let time = begin.elapsed();
    std::fs::remove_file(&file)?;
    Ok(time)
}

fn call(arguments: &[&str]) -> Result<()> {
    let status = Command::new("dd").args(arguments).stderr(Stdio::null()).status();
    ensure!(status.context("cannot start dd")?.success(), "dd failed: {}", arguments.join(" "));
    Ok(())
}
