//! How much of what the kernel can submit the agent takes without a loss, each on a CPU of its own.

use std::{
    sync::atomic::{AtomicBool, Ordering::Relaxed},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, ensure};
use nix::{
    sched::{CpuSet, sched_setaffinity},
    unistd::Pid,
};
use serde::Serialize;

use super::{
    FEW, RING, cpu_time,
    kernel::{Bare, Kernel},
    reader::Reader,
};

/// How long each part produces.
const LASTS: Duration = Duration::from_secs(3);

/// Of the rate of the bare consumer: what has to be taken, and what is offered, as pauses come out a bit long.
const SHARE: f64 = 0.7;
const OFFERED: f64 = 0.71;

/// How often it is tried while other programs take the CPUs away, and what the reader has of its own without that. The
/// producer then gets to its rate.
const ATTEMPTS: usize = 8;
const ALONE: f64 = 0.97;

/// Events that are submitted in one go.
const CHUNK: u32 = 2_000;

#[derive(Serialize)]
pub(super) struct Line {
    bench: &'static str,
    /// Events a second that a loop takes which only finds out how long each is, the producer never waiting.
    bare_per_s: u64,
    /// Events a second that were submitted to the agent's reader and flow table.
    offered_per_s: u64,
    /// Of them what the ring had no room for.
    lost: u64,
    /// Records that came of the others.
    records: u64,
    share: f64,
    /// How much of its CPU the reader got; it never sleeps.
    cpu: f64,
    pub(super) ok: bool,
}

/// Measures until both had their CPUs to themselves: what other programs take away is not the agent's loss.
pub(super) fn measure() -> Result<Line> {
    ensure!(thread::available_parallelism()?.get() > 1, "producer and reader need a CPU each");
    let mut line = attempt()?;
    for _ in 1..ATTEMPTS {
        if line.ok || (line.cpu >= ALONE && line.share >= SHARE) {
            break;
        }
        line = attempt()?;
    }
    Ok(line)
}

fn attempt() -> Result<Line> {
    let (bare, _) = bare_rate()?;
    let kernel = Kernel::new(RING, FEW)?;
    let mut reader = Reader::open(&kernel.ring)?;
    // All flows are known before the clock runs.
    kernel.produce(2 * FEW)?;
    reader.read_all();
    let (made_before, _) = kernel.made_and_lost();
    let mut records = 0;
    let (took, cpu) = beside(&kernel, Some(bare * OFFERED), || records += reader.read_once().0)?;
    records += reader.read_all();
    let (made, lost) = kernel.made_and_lost();
    let offered = (made - made_before) as f64 / took.as_secs_f64();
    let share = (offered / bare * 1000.0).round() / 1000.0;
    let is_whole = records == made - made_before - lost;
    Ok(Line {
        bench: "ring_saturation",
        bare_per_s: bare as u64,
        offered_per_s: offered as u64,
        lost,
        records,
        share,
        cpu,
        ok: lost == 0 && is_whole && share >= SHARE,
    })
}

/// Events a second that the bare consumer takes of a producer that never waits.
fn bare_rate() -> Result<(f64, f64)> {
    let kernel = Kernel::new(RING, FEW)?;
    let bare = Bare::open(&kernel.ring, RING)?;
    let mut taken = 0;
    let (took, cpu) = beside(&kernel, None, || taken += bare.take())?;
    ensure!(taken > 0, "the producer submitted nothing");
    Ok((taken as f64 / took.as_secs_f64(), cpu))
}

/// Produces on the first CPU, at a rate or without pause, while the second one consumes. Returns for how long,
/// and how much of that time the consumer had its CPU.
fn beside(kernel: &Kernel, rate: Option<f64>, mut consume: impl FnMut()) -> Result<(Duration, f64)> {
    let done = AtomicBool::new(false);
    thread::scope(|scope| {
        let producer = scope.spawn(|| {
            let result = stay_on(0).and_then(|()| produce(kernel, rate));
            done.store(true, Relaxed);
            result
        });
        stay_on(1)?;
        let (start, cpu_start) = (Instant::now(), cpu_time()?);
        while !done.load(Relaxed) {
            consume();
        }
        let cpu = (cpu_time()? - cpu_start).as_secs_f64() / start.elapsed().as_secs_f64();
        let took = producer.join().ok().context("the producer panicked")??;
        Ok((took, (cpu * 1000.0).round() / 1000.0))
    })
}

fn produce(kernel: &Kernel, rate: Option<f64>) -> Result<Duration> {
    let start = Instant::now();
    let mut made = 0.0;
    while start.elapsed() < LASTS {
        if rate.is_none_or(|rate| made <= start.elapsed().as_secs_f64() * rate) {
            kernel.produce(CHUNK)?;
            made += f64::from(CHUNK);
        }
    }
    Ok(start.elapsed())
}

fn stay_on(cpu: usize) -> Result<()> {
    let mut cpus = CpuSet::new();
    cpus.set(cpu)?;
    sched_setaffinity(Pid::from_raw(0), &cpus).context("cannot choose a CPU")
}
