//! The way of an update from the kernel's ring buffer to a record: instructions, the rate that it keeps up with, and
//! what a million flows cost more than ten thousand. Needs root.
#![expect(clippy::print_stdout, reason = "its result")]

#[path = "../instructions/mod.rs"]
mod instructions;

mod kernel;

#[path = "../outcome/mod.rs"]
mod outcome;

mod reader;

mod saturation;

use std::{os::fd::RawFd, process::ExitCode, time::Duration};

use anyhow::{Context as _, Result, ensure};
use serde::Serialize;

use self::{
    kernel::{Kernel, inherited},
    reader::{READ_LIMIT, Reader},
};

/// Bytes of the ring: some 322,000 events.
const RING: u32 = 64 << 20;

/// Flows of the small table, and of the big one.
const FEW: u32 = 10_000;
const MANY: u32 = 1_000_000;

/// Instructions of an update at most.
const INSTRUCTIONS: u64 = 900;

/// How much more CPU time an update among many flows may take than among few.
const TIMES: f64 = 2.0;

/// Events that are timed together, and how often.
const FILLING: u32 = RING / 208 / 2;
const ROUNDS: usize = 21;

#[derive(Serialize)]
struct Instructions {
    bench: &'static str,
    instructions: u64,
    limit: u64,
    ok: bool,
}

#[derive(Serialize)]
struct Locality {
    bench: &'static str,
    /// CPU time of an update with 10,000 living flows, in nanoseconds.
    few_ns: f64,
    /// The same with a million.
    many_ns: f64,
    times: f64,
    limit: f64,
    ok: bool,
}

fn main() -> ExitCode {
    outcome::exit_code(run())
}

fn run() -> Result<bool> {
    if instructions::answer(counted)? {
        return Ok(true);
    }
    let only = std::env::args().nth(1).filter(|argument| !argument.starts_with('-'));
    let wanted = |name| only.as_deref().is_none_or(|only| only == name);
    let mut all_ok = true;
    if wanted("instructions") {
        let line = measure_instructions()?;
        println!("{}", serde_json::to_string(&line)?);
        all_ok &= line.ok;
    }
    if wanted("saturation") {
        let line = saturation::measure()?;
        println!("{}", serde_json::to_string(&line)?);
        all_ok &= line.ok;
    }
    if wanted("flows") {
        let line = measure_locality()?;
        println!("{}", serde_json::to_string(&line)?);
        all_ok &= line.ok;
    }
    Ok(all_ok)
}

/// Reads a ring that was filled before and has stopped growing.
fn measure_instructions() -> Result<Instructions> {
    let kernel = Kernel::new(RING, FEW)?;
    let work = format!("ring {}", kernel.share_ring()?);
    let refill = || {
        Reader::open(&kernel.ring)?.read_all();
        kernel.produce(RING / 208)
    };
    let reads = |reads: u64| reads * READ_LIMIT;
    let instructions = instructions::per_repetition(&work, reads(3), reads(15), refill)?;
    Ok(Instructions { bench: "ring", instructions, limit: INSTRUCTIONS, ok: instructions <= INSTRUCTIONS })
}

/// The work that is counted: that many updates of flows that are known already.
fn counted(work: &str, updates: u64) -> Result<()> {
    let fd: RawFd = work.rsplit(' ').next().unwrap_or_default().parse().context("no such work")?;
    let mut reader = Reader::open(&inherited(fd)?)?;
    let first_sights = reader.read(READ_LIMIT);
    ensure!(first_sights == READ_LIMIT, "the ring was not filled");
    let records = reader.read(updates);
    ensure!(records == updates, "{records} records of {updates} updates");
    Ok(())
}

/// Measures both in turn, so that both meet the same neighbours on this machine.
fn measure_locality() -> Result<Locality> {
    let (mut few, mut many) = (Among::new(FEW)?, Among::new(MANY)?);
    let (mut few_ns, mut many_ns) = (Vec::new(), Vec::new());
    for _ in 0..ROUNDS {
        few_ns.push(few.cost()?);
        many_ns.push(many.cost()?);
    }
    let (few_ns, many_ns) = (median(few_ns), median(many_ns));
    let times = (many_ns / few_ns * 100.0).round() / 100.0;
    Ok(Locality { bench: "ring_flows", few_ns, many_ns, times, limit: TIMES, ok: times <= TIMES })
}

/// A ring and a reader that knows all its flows.
struct Among {
    kernel: Kernel,
    reader: Reader,
}

impl Among {
    fn new(flows: u32) -> Result<Self> {
        let kernel = Kernel::new(RING, flows)?;
        let mut reader = Reader::open(&kernel.ring)?;
        for _ in 0..flows.div_ceil(FILLING) {
            kernel.produce(FILLING)?;
            reader.read_all();
        }
        ensure!(reader.flows() == flows as usize, "{} flows instead of {flows}", reader.flows());
        Ok(Self { kernel, reader })
    }

    /// CPU time of an update, in nanoseconds.
    fn cost(&mut self) -> Result<f64> {
        self.kernel.produce(FILLING)?;
        let start = cpu_time()?;
        let updates = self.reader.read_all();
        Ok((cpu_time()? - start).as_nanos() as f64 / updates.max(1) as f64)
    }
}

fn median(mut costs: Vec<f64>) -> f64 {
    costs.sort_by(f64::total_cmp);
    costs.get(costs.len() / 2).copied().unwrap_or(f64::NAN).round()
}

/// CPU time of this thread.
pub(crate) fn cpu_time() -> Result<Duration> {
    let time = nix::time::clock_gettime(nix::time::ClockId::CLOCK_THREAD_CPUTIME_ID)?;
    Ok(Duration::from(time))
}
