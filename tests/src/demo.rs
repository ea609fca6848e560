//! A demonstration: traffic between two namespaces, live flows on the terminal, an account at the end.
//!
//! One agent writes its table to the terminal. Beside it runs a second one of the same kind whose records are
//! compared with what the generator sent: two agents at once do not disturb each other.

use std::io::{self, Write};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::Result;
use nix::sys::signal::{SigSet, Signal};
use nix::sys::signalfd::{SfdFlags, SignalFd};

use crate::agent::{Agent, Hook, Options, Process};
use crate::compare::{Verdict, compare};
use crate::key::{Counter, Totals};
use crate::lab::{FAMILIES, Family, Lab};
use crate::ledger::Account;
use crate::records::Records;
use crate::traffic::{self, Ending, Exchange};

const PAUSE: Duration = Duration::from_millis(250);
const FIRST_PORT: u16 = 20_000;

/// Shows an agent at work for this long; `false` when its figures are not those of the generator.
///
/// # Errors
/// When the network cannot be made, which needs root, or the agent does not start.
pub fn run(program: &Path, lasting: Duration) -> Result<bool> {
    let interrupt = Interrupt::watch()?;
    let mut lab = Lab::direct()?;
    let options = Options { program: program.to_owned(), hook: Hook::Auto, environment: Vec::new() };
    let mut table = options.command("table");
    // Ctrl-C is for the demonstration: it stops the agents in good order and removes the namespaces.
    let mut shown = Process::spawn(table.process_group(0), program)?;
    let mut accountant = Agent::start(&options)?;
    lab.capture()?;
    let played = play(&mut lab, lasting, &interrupt);
    lab.flush()?;
    let ledger = lab.ledger()?;
    let namespaces = lab.tracked();
    accountant.wait(Duration::from_secs(10), |records| records.ended(&namespaces) >= ledger.len());
    // Long enough to see the last flows end in the table.
    thread::sleep(Duration::from_secs(1));
    shown.signal(Signal::SIGTERM)?;
    shown.wait(Duration::from_secs(15))?;
    let ready_line = accountant.ready_line.clone();
    let ended = accountant.stop()?;
    played?;
    let verdict = compare(&ledger, &ended.output.records, &namespaces, 1);
    tell(&ready_line, &ledger, &ended.output.records, &namespaces, &verdict)?;
    Ok(verdict.exact())
}

/// Long-lived flows of both families, and short ones beside them.
fn play(lab: &mut Lab, lasting: Duration, interrupt: &Interrupt) -> Result<()> {
    let mut talks = Vec::new();
    for (family, port) in FAMILIES.into_iter().zip(FIRST_PORT..) {
        talks.push(Exchange::open(&lab.path(family)?, port, 7000)?);
    }
    let started = Instant::now();
    for round in 1u16.. {
        if started.elapsed() > lasting || interrupt.came() {
            break;
        }
        for talk in &mut talks {
            talk.ask(usize::from(round * 37 % 1400))?;
            talk.answer(usize::from(round * 91 % 1400))?;
        }
        play_round(lab, round)?;
        thread::sleep(PAUSE);
    }
    for talk in &talks {
        lab.promise(talk.sent()?);
    }
    Ok(())
}

fn play_round(lab: &mut Lab, round: u16) -> Result<()> {
    let family = if round.is_multiple_of(2) { Family::V4 } else { Family::V6 };
    let path = lab.path(family)?;
    let port = FIRST_PORT + 10 * round;
    let size = usize::from(round) * 4000;
    let sent = match round % 4 {
        0 | 1 => traffic::transfer(&path, port, 443, (size / 10, size), Ending::Close)?,
        2 => traffic::exchange(&path, port, 53, &[40], &[300])?,
        _ => traffic::echo(&path, round, &[56, 56, 56])?,
    };
    lab.promise(sent);
    Ok(())
}

fn tell(
    ready_line: &str,
    ledger: &[Account],
    records: &Records,
    namespaces: &[u32],
    verdict: &Verdict,
) -> Result<()> {
    let mut out = io::stdout().lock();
    let wire = sum(ledger.iter().map(|account| account.totals));
    let ours = records.accounts().filter(|flow| namespaces.contains(&flow.key.netns));
    let (flows, said) = ours.fold((0, Totals::default()), |(flows, mut all), flow| {
        all += flow.totals;
        (flows + 1, all)
    });
    writeln!(out, "\nagent: {ready_line}")?;
    writeln!(out, "{:<22}{:>10}{:>12}{:>16}", "", "flows", "packets", "bytes")?;
    row(&mut out, "sent and captured", ledger.len(), both(wire))?;
    row(&mut out, "reported by conntally", flows, both(said))?;
    for problem in &verdict.problems {
        writeln!(out, "  {problem}")?;
    }
    let (matched, of) = (verdict.matched, verdict.flows);
    writeln!(out, "{matched} of {of} flows agree to the byte, {} ends missing", verdict.missing_ends)?;
    Ok(())
}

fn row(out: &mut impl Write, what: &str, flows: usize, counter: Counter) -> io::Result<()> {
    writeln!(out, "{what:<22}{flows:>10}{:>12}{:>16}", counter.packets, counter.bytes)
}

fn both(totals: Totals) -> Counter {
    let mut counter = totals.original;
    counter += totals.reply;
    counter
}

fn sum(all: impl Iterator<Item = Totals>) -> Totals {
    all.fold(Totals::default(), |mut sum, totals| {
        sum += totals;
        sum
    })
}

/// Ctrl-C and SIGTERM, waiting to be asked for, so that everything is taken down in order.
struct Interrupt(SignalFd);

impl Interrupt {
    fn watch() -> Result<Self> {
        let signals: SigSet = [Signal::SIGINT, Signal::SIGTERM].into_iter().collect();
        signals.thread_block()?;
        Ok(Self(SignalFd::with_flags(&signals, SfdFlags::SFD_NONBLOCK | SfdFlags::SFD_CLOEXEC)?))
    }

    fn came(&self) -> bool {
        matches!(self.0.read_signal(), Ok(Some(_)))
    }
}
