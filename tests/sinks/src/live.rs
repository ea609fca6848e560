//! Live flows between two network namespaces, for an agent that follows them, and the ledger of what was on the wire.

use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use conntally_tests::lab::{CLIENT, FAMILIES, Lab};
use conntally_tests::traffic::{self, Connection, Exchange};

use crate::chance::Chance;
use crate::sum::{Counter, Sum};

/// What the two ends have for addresses; whatever else moves on this machine is none of a case's business.
pub const ADDRESSES: &str = "host in {10.203.0.0/16, fd20:3::/32}";

/// Between two steps of the traffic.
const PACE: Duration = Duration::from_millis(4);

/// Flows of one packet that are opened at once, to a port of their own.
const BURST: u16 = 5;
const FIRST_SOURCE: u16 = 21_000;
const LAST_SOURCE: u16 = 60_000;
const FIRST_PORT: u16 = 10_000;

/// A step in so many opens such flows.
const SELDOM: u64 = 12;

/// The netlink source dumps once a second; what it did not dump of a flow older than itself is lost at its end.
const DUMPED: Duration = Duration::from_millis(2_500);

/// What the kernel tells of ends has reached the agent by then.
const HEARD: Duration = Duration::from_secs(1);

/// Flows that go on, and others that are opened beside them and stay until they are ended.
#[derive(Debug)]
pub struct Live {
    lab: Lab,
    exchanges: Vec<Exchange>,
    connections: Vec<Connection>,
    /// Bursts that were opened, and those of them that were ended: the oldest.
    opened: u16,
    ended: u16,
    /// Flows of crowds.
    crowded: u16,
    random: Chance,
}

impl Live {
    /// Makes namespaces that count with or without an agent; nothing moves yet. The thread has its turn on the host.
    ///
    /// # Errors
    /// When that cannot be made, which needs root.
    pub fn open(seed: u64) -> Result<Self> {
        let mut lab = Lab::direct_tracking(&[CLIENT])?;
        for key in ["nf_conntrack_acct", "nf_conntrack_timestamp"] {
            lab.netfilter(key, 1)?;
        }
        lab.capture()?;
        let (exchanges, connections) = (Vec::new(), Vec::new());
        Ok(Self { lab, exchanges, connections, opened: 0, ended: 0, crowded: 0, random: Chance::of(seed) })
    }

    /// Opens the flows that go on. What moved before the first agent came would be in no sum.
    ///
    /// # Errors
    /// When a port is taken or a packet does not arrive.
    pub fn begin(&mut self) -> Result<()> {
        for family in FAMILIES {
            let path = self.lab.path(family)?;
            for port in 0..10 {
                self.exchanges.push(Exchange::open(&path, 20_100 + port, 7_100 + port)?);
            }
            self.connections.push(traffic::connect(&path, 20_002, 7_002)?);
        }
        Ok(())
    }

    /// Moves flows and opens some until it is told to stop.
    ///
    /// # Errors
    /// When a packet does not arrive.
    pub fn move_until(&mut self, stop: &AtomicBool) -> Result<()> {
        while !stop.load(Ordering::SeqCst) {
            self.step()?;
            sleep(PACE);
        }
        Ok(())
    }

    /// The same for that long.
    ///
    /// # Errors
    /// See there.
    pub fn move_for(&mut self, time: Duration) -> Result<()> {
        let until = Instant::now() + time;
        while Instant::now() < until {
            self.step()?;
            sleep(PACE);
        }
        Ok(())
    }

    /// Bursts that were opened so far.
    #[must_use]
    pub const fn opened(&self) -> u16 {
        self.opened
    }

    /// Opens flows of one packet, each to a port of its own, which no other flow has.
    ///
    /// # Errors
    /// When there are no more ports, or a packet cannot be sent.
    pub fn crowd(&mut self, flows: u16) -> Result<()> {
        for number in self.crowded..self.crowded + flows {
            let family = FAMILIES.get(usize::from(number % 2)).context("no such family")?;
            let source = FIRST_SOURCE.checked_add(number).context("there are no more ports")?;
            traffic::burst(&self.lab.path(*family)?, source..source + 1, FIRST_PORT + number)?;
        }
        self.crowded += flows;
        Ok(())
    }

    /// Ends the latest flow of a crowd.
    ///
    /// # Errors
    /// When the kernel does not forget it.
    pub fn end_latest(&self) -> Result<()> {
        let number = self.crowded.checked_sub(1).context("there is no crowd")?;
        self.forget(number, FIRST_PORT + number)
    }

    /// Ends all flows when the agent has had the time to hear of what they moved. Exchanges that go on are other flows
    /// from then on; connections are closed.
    ///
    /// # Errors
    /// When the kernel does not forget them.
    pub fn disperse(&mut self) -> Result<()> {
        sleep(DUMPED);
        self.scatter()
    }

    /// The same at once, which an agent hears in full of flows that are younger than itself.
    ///
    /// # Errors
    /// See there.
    pub fn scatter(&mut self) -> Result<()> {
        self.connections.clear();
        self.lab.flush()
    }

    /// Ends the flows of the oldest burst, if it is older than this one. They have been quiet since they began, so that an
    /// agent has met them with all they will ever have moved.
    ///
    /// # Errors
    /// When the kernel does not forget them.
    pub fn end_older_than(&mut self, burst: u16) -> Result<()> {
        if self.ended >= burst {
            return Ok(());
        }
        self.forget(self.ended, FIRST_PORT + self.ended)?;
        self.ended += 1;
        Ok(())
    }

    /// Ends all flows when the agent has had the time to hear of all that moved; tells what did, on the wire.
    ///
    /// # Errors
    /// When the ledger is worth nothing.
    pub fn end(&self) -> Result<Sum> {
        sleep(DUMPED);
        self.lab.flush()?;
        sleep(HEARD);
        let mut sum = Sum::default();
        for account in self.lab.ledger()? {
            let counter =
                |of: conntally_tests::key::Counter| Counter { packets: of.packets, bytes: of.bytes };
            let (source, destination) = (account.totals.original, account.totals.reply);
            sum += Sum { flows: 1, source: counter(source), destination: counter(destination) };
        }
        Ok(sum)
    }

    /// A number below another one.
    pub const fn draw(&mut self, below: u64) -> u64 {
        self.random.below(below)
    }

    /// Has the kernel forget the flows to a port; families take turns.
    fn forget(&self, number: u16, port: u16) -> Result<()> {
        let family = if number.is_multiple_of(2) { "ipv4" } else { "ipv6" };
        let port = port.to_string();
        let delete = ["-D", "-f", family, "-p", "udp", "--dport", &port];
        self.lab.namespace(CLIENT)?.exec("conntrack", &delete)?;
        Ok(())
    }

    fn step(&mut self) -> Result<()> {
        let (chosen, size) = (self.draw(self.exchanges.len() as u64), usize::try_from(self.draw(1_000))?);
        let exchange = self.exchanges.get_mut(usize::try_from(chosen)?).context("no such exchange")?;
        exchange.ask(size)?;
        exchange.answer(size / 2)?;
        if self.draw(4) == 0 && !self.connections.is_empty() {
            let chosen = usize::try_from(self.draw(self.connections.len() as u64))?;
            self.connections.get(chosen).context("no such connection")?.carry(size, 100)?;
        }
        if self.draw(SELDOM) == 0 {
            self.burst()?;
        }
        Ok(())
    }

    fn burst(&mut self) -> Result<()> {
        let source = FIRST_SOURCE + self.opened * BURST;
        let family = FAMILIES.get(usize::from(self.opened % 2)).context("no such family")?;
        if source < LAST_SOURCE {
            let path = self.lab.path(*family)?;
            traffic::burst(&path, source..source + BURST, FIRST_PORT + self.opened)?;
            self.opened += 1;
        }
        Ok(())
    }
}
