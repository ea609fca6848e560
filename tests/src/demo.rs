//! A demonstration: traffic between two namespaces, live flows on the terminal, an account at the end.
//!
//! One agent writes its table to the terminal. Beside it runs a second one of the same kind whose records are
//! compared with what the generator sent: two agents at once do not disturb each other.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{ExitStatus, Stdio};
use std::sync::mpsc::{Sender, channel};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow};
use nix::sys::signal::{SigSet, Signal};
use nix::sys::signalfd::{SfdFlags, SignalFd};

use crate::agent::{Agent, Hook, Options, Process, READY_WITHIN, STOP_WITHIN};
use crate::compare::{Verdict, compare};
use crate::key::{Counter, Totals};
use crate::lab::{FAMILIES, Family, Lab, SERVER};
use crate::ledger::Account;
use crate::records::Records;
use crate::traffic::{self, Ending, Exchange};

const PAUSE: Duration = Duration::from_millis(250);
const FIRST_PORT: u16 = 20_000;

/// Shows an agent at work for this long, with that configuration or as a table; `false` when its figures are not those of
/// the generator.
///
/// # Errors
/// When the network cannot be made, which needs root, or the agent does not start.
pub fn run(program: &Path, configuration: Option<&Path>, lasting: Duration) -> Result<bool> {
    let interrupt = Interrupt::watch()?;
    // One end tracks, so each flow is in the table once.
    let mut lab = Lab::direct_tracking(&[SERVER])?;
    let options = Options { program: program.to_owned(), hook: Hook::Auto, environment: Vec::new() };
    introduce(lasting)?;
    let shown = Shown::start(&options, configuration)?;
    let mut accountant = Agent::start(&options)?;
    lab.capture()?;
    let played = play(&mut lab, lasting, &interrupt);
    writeln!(
        io::stdout(),
        "\nThe traffic is over. Its conntrack entries are deleted, so that every flow has its end.\n"
    )?;
    lab.flush()?;
    let ledger = lab.ledger()?;
    let namespaces = lab.tracked();
    accountant.wait(Duration::from_secs(10), |records| records.ended(&namespaces) >= ledger.len());
    // Long enough to see the last flows end in the table.
    thread::sleep(Duration::from_secs(1));
    let shown = shown.stop()?;
    let way = accountant.ready_line.trim_start_matches("ready ").to_owned();
    let ended = accountant.stop()?;
    played?;
    let mut verdict = compare(&ledger, &ended.output.records, &namespaces, 1);
    for (which, status) in [("shown", shown), ("second", ended.status)] {
        if !status.success() {
            verdict.problem(format!("the {which} agent ended with {status}"));
        }
    }
    writeln!(io::stdout(), "\nThe account of the second agent ({way}):\n")?;
    tell(&mut io::stdout().lock(), sent(&ledger), reported(&ended.output.records, &namespaces), &verdict)?;
    Ok(verdict.exact())
}

fn introduce(lasting: Duration) -> io::Result<()> {
    let seconds = lasting.as_secs();
    writeln!(
        io::stdout(),
        "\nTwo network namespaces talk to each other for {seconds} s; Ctrl-C ends it earlier. One agent shows their \
         flows below;\na second one, which is not shown, keeps the account for the end.\n"
    )
}

/// The agent whose table and log are on the terminal.
struct Shown {
    process: Process,
    log: JoinHandle<()>,
}

impl Shown {
    /// Starts it and waits until it is ready, since it could not count what was sent before.
    fn start(options: &Options, configuration: Option<&Path>) -> Result<Self> {
        let mut command =
            configuration.map_or_else(|| options.command("table"), |file| options.configured(file));
        // Ctrl-C is for the demonstration: it stops the agents in good order and removes the namespaces.
        command.process_group(0).stderr(Stdio::piped());
        let mut process = Process::spawn(&mut command, &options.program)?;
        let stderr = process.child.stderr.take().context("the agent has no standard error")?;
        let (say_ready, ready) = channel();
        let log = thread::spawn(move || pass_on(stderr, &say_ready));
        ready.recv_timeout(READY_WITHIN).context("the agent did not become ready, see its log above")?;
        Ok(Self { process, log })
    }

    fn stop(mut self) -> Result<ExitStatus> {
        self.process.signal(Signal::SIGTERM)?;
        let status = self.process.wait(STOP_WITHIN)?;
        self.log.join().map_err(|_| anyhow!("the reader of the agent's log panicked"))?;
        Ok(status)
    }
}

/// The sender is dropped when the agent closes its log, so its death is noticed at once.
fn pass_on(log: impl Read, say_ready: &Sender<()>) {
    for line in BufReader::new(log).lines().map_while(Result::ok) {
        if line.starts_with("ready") {
            // Nobody waits for a second one.
            let _ = say_ready.send(());
        }
        // A terminal that is gone is no reason to leave the agent with a full pipe.
        let _ = writeln!(io::stderr(), "{line}");
    }
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

/// Both directions of a number of flows together.
#[derive(Default)]
struct Sum {
    flows: usize,
    counter: Counter,
}

impl Sum {
    fn of(all: impl Iterator<Item = Totals>) -> Self {
        all.fold(Self::default(), |mut sum, totals| {
            sum.flows += 1;
            sum.counter += totals.original;
            sum.counter += totals.reply;
            sum
        })
    }
}

fn sent(ledger: &[Account]) -> Sum {
    Sum::of(ledger.iter().map(|account| account.totals))
}

fn reported(records: &Records, namespaces: &[u32]) -> Sum {
    let ours = records.accounts().filter(|flow| namespaces.contains(&flow.key.netns));
    Sum::of(ours.map(|flow| flow.totals))
}

fn tell(out: &mut impl Write, sent: Sum, reported: Sum, verdict: &Verdict) -> io::Result<()> {
    writeln!(out, "{:<22}{:>10}{:>12}{:>16}", "", "flows", "packets", "bytes")?;
    for (what, Sum { flows, counter }) in [("sent by the generator", sent), ("seen by conntally", reported)] {
        writeln!(out, "{what:<22}{flows:>10}{:>12}{:>16}", counter.packets, counter.bytes)?;
    }
    writeln!(out)?;
    for problem in &verdict.problems {
        writeln!(out, "  {problem}")?;
    }
    let (matched, flows, ends) = (verdict.matched, verdict.flows, verdict.missing_ends);
    if verdict.exact() {
        writeln!(out, "EXACT: all {flows} flows have their end and agree to the packet and byte.")
    } else {
        writeln!(out, "NOT EXACT: {matched} of {flows} flows agree, {ends} ends are missing.")
    }
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

#[cfg(test)]
mod tests {
    use super::*;

    fn told(verdict: &Verdict) -> String {
        let mut out = Vec::new();
        let sum = || Sum { flows: 2, counter: Counter { packets: 10, bytes: 900 } };
        tell(&mut out, sum(), sum(), verdict).unwrap();
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn the_last_line_says_whether_the_account_is_exact() {
        let mut verdict = Verdict { matched: 2, ..Verdict::new(2, 1, 4) };
        let text = told(&verdict);
        assert!(text.contains("seen by conntally") && text.contains("900"), "{text}");
        assert!(text.lines().last().is_some_and(|line| line.starts_with("EXACT: all 2 flows")), "{text}");
        verdict.problem("a flow is missing".to_owned());
        let text = told(&verdict);
        assert!(text.contains("\n  a flow is missing\nNOT EXACT: 2 of 2"), "{text}");
    }
}
