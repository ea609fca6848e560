//! Makes flows of one packet, ends them, and tells what a flow took on a CPU whose clock counts instructions.
//!
//! Whatever accounts the flows writes to this program's standard input, a line a record. What is told is the time
//! from the first packet until the last line was read, less the time in which the CPU had nothing to do and less
//! the reading itself. Idle time is what a process gets that runs only when nobody else wants to.
#![expect(clippy::print_stdout, reason = "its result")]

use std::{
    fs,
    io::{Read, stdin},
    net::{IpAddr, SocketAddr, UdpSocket},
    process::{Child, Command},
    sync::atomic::{AtomicU64, Ordering::Relaxed},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, ensure};
use clap::Parser;
use nix::time::{ClockId, clock_gettime};

/// Make flows of one packet, end them, and print the nanoseconds of one.
#[derive(Parser)]
struct Options {
    /// Where to
    #[arg(long)]
    to: IpAddr,
    /// Where from
    #[arg(long)]
    from: IpAddr,
    /// How many
    #[arg(long)]
    flows: u64,
    /// Lines of a flow on standard input; 0 if nobody writes
    #[arg(long, default_value_t = 2)]
    lines: u64,
    /// Only send: one packet of each flow, the same flows each time; none ends and nothing is measured
    #[arg(long)]
    only_send: bool,
}

/// Destination ports of each source port.
const PORTS: u64 = 50_000;

/// How long nothing may come before it counts as lost. Also: what is freed later is freed in this time.
const QUIET: Duration = Duration::from_secs(3);

static LINES: AtomicU64 = AtomicU64::new(0);
static READING_NS: AtomicU64 = AtomicU64::new(0);

fn main() -> Result<()> {
    let options = Options::parse();
    if options.only_send {
        return send(&options);
    }
    let idle = Idle::start()?;
    if options.lines > 0 {
        thread::spawn(read_lines);
    }
    let (start, idle_before, reading_before) =
        (Instant::now(), idle.nanoseconds()?, READING_NS.load(Relaxed));
    send(&options)?;
    let sent = start.elapsed();
    // The ends come all at once, as fast as the kernel can.
    let flushed = Command::new("conntrack").arg("--flush").output().context("cannot run conntrack")?;
    ensure!(flushed.status.success(), "conntrack --flush failed");
    wait_for_quiet();
    let spent = start.elapsed().as_nanos() as u64;
    let reading = READING_NS.load(Relaxed) - reading_before;
    let busy = spent.saturating_sub(idle.nanoseconds()? - idle_before).saturating_sub(reading);
    println!(
        "{{\"flows\":{},\"busy_ns\":{},\"reading_ns\":{},\"lines\":{},\"sent_ms\":{}}}",
        options.flows,
        busy / options.flows.max(1),
        reading / options.flows.max(1),
        LINES.load(Relaxed),
        sent.as_millis(),
    );
    Ok(())
}

/// Each flow has a pair of ports of its own.
fn send(options: &Options) -> Result<()> {
    let mut left = options.flows;
    for source in 30_000.. {
        if left == 0 {
            break;
        }
        let here = SocketAddr::new(options.from, source);
        let socket = UdpSocket::bind(here).with_context(|| format!("cannot send from {here}"))?;
        for port in (1_000..).take(left.min(PORTS) as usize) {
            socket.send_to(&[0x5a; 64], (options.to, port)).context("a packet was not sent")?;
        }
        left -= left.min(PORTS);
    }
    Ok(())
}

/// Counts lines until the writer is gone, and what that takes.
fn read_lines() {
    let mut buffer = vec![0; 64 * 1024];
    while let Ok(read @ 1..) = stdin().lock().read(&mut buffer) {
        let lines = buffer.iter().take(read).filter(|&&byte| byte == b'\n').count();
        LINES.fetch_add(lines as u64, Relaxed);
        if let Ok(time) = clock_gettime(ClockId::CLOCK_THREAD_CPUTIME_ID) {
            READING_NS.store(Duration::from(time).as_nanos() as u64, Relaxed);
        }
    }
}

/// Until no more lines have come for a while.
fn wait_for_quiet() {
    let (mut lines, mut since) = (LINES.load(Relaxed), Instant::now());
    while since.elapsed() < QUIET {
        thread::sleep(Duration::from_millis(100));
        let now = LINES.load(Relaxed);
        if now != lines {
            (lines, since) = (now, Instant::now());
        }
    }
}

/// A process that runs when nobody else does (`SCHED_IDLE`).
struct Idle(Child);

impl Idle {
    fn start() -> Result<Self> {
        let loops = ["-i", "0", "sh", "-c", "while :; do :; done"];
        let idle = Self(Command::new("chrt").args(loops).spawn().context("cannot run chrt")?);
        thread::sleep(Duration::from_millis(200));
        ensure!(idle.nanoseconds()? > 0, "the idle process does not run");
        Ok(idle)
    }

    /// How long it has run, from the first number of `schedstat`.
    fn nanoseconds(&self) -> Result<u64> {
        let path = format!("/proc/{}/schedstat", self.0.id());
        let text = fs::read_to_string(&path).with_context(|| format!("cannot read {path}"))?;
        text.split_whitespace()
            .next()
            .and_then(|number| number.parse().ok())
            .context("no number in schedstat")
    }
}

impl Drop for Idle {
    fn drop(&mut self) {
        // It may be gone already.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}
