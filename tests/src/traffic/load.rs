//! Traffic that goes on until it is told to stop: short flows and long ones beside each other.

use std::net::SocketAddr;
use std::ops::Range;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{PoisonError, RwLock};
use std::thread;
use std::time::Duration;

use anyhow::Result;

use super::udp::{Exchange, socket};
use super::{Path, Sent};
use crate::key::{Counter, protocol};

/// UDP's header.
const HEADER: u64 = 8;

/// Flows that stay open all the while, below the ports of the short ones.
const LONG: u16 = 4;

/// What was sent.
#[derive(Debug, Default)]
pub struct Load {
    /// Flows of one packet.
    pub short: Vec<Sent>,
    /// Flows that went on from the beginning to the end.
    pub long: Vec<Sent>,
}

/// How long a load goes on, and when it must hold still.
#[derive(Debug)]
pub struct Reins {
    /// Between two rounds, so that others on this machine have their turn.
    pause: Duration,
    stop: AtomicBool,
    /// Held for reading while packets are under way.
    moving: RwLock<()>,
}

impl Reins {
    /// For a load with such pauses.
    #[must_use]
    pub const fn new(pause: Duration) -> Self {
        Self { pause, stop: AtomicBool::new(false), moving: RwLock::new(()) }
    }

    /// Ends the load after its present round.
    pub fn stop(&self) {
        self.stop.store(true, Ordering::Relaxed);
    }

    /// Whether it was told to end.
    #[must_use]
    pub fn stopped(&self) -> bool {
        self.stop.load(Ordering::Relaxed)
    }

    /// Does something while no packet is under way.
    pub fn while_still<T>(&self, work: impl FnOnce() -> T) -> T {
        let _still = self.moving.write().unwrap_or_else(PoisonError::into_inner);
        work()
    }
}

/// Sends until told to stop: in each round one flow of one packet from the next of the source ports, and a packet
/// each way of one of the long flows. When the source ports are used up only the long flows go on.
///
/// # Errors
/// When a packet cannot be sent or does not arrive.
pub fn load(path: &Path<'_>, mut source_ports: Range<u16>, port: u16, reins: &Reins) -> Result<Load> {
    let long: Range<u16> = source_ports.start.saturating_sub(LONG)..source_ports.start;
    let opened = |source_port: u16| Exchange::open(path, source_port, port + 1 + source_port - long.start);
    let mut exchanges = long.clone().map(opened).collect::<Result<Vec<Exchange>>>()?;
    // Someone must listen, or the server's kernel answers each packet with an ICMP error.
    let _listener = path.server.within(|| socket(path.listen(port)))?;
    let short = path.client.within(|| {
        let mut short = Vec::new();
        let mut round = 0;
        // Each of the long flows is to speak at least once, however soon it is over.
        while !reins.stopped() || round < exchanges.len() {
            let moving = reins.moving.read().unwrap_or_else(PoisonError::into_inner);
            if let Some(source_port) = source_ports.next() {
                short.push(one_packet(path, source_port, port)?);
            }
            let count = exchanges.len();
            if let Some(exchange) = exchanges.get_mut(round % count) {
                exchange.ask(100 + round % 400)?;
                exchange.answer(50 + round % 300)?;
            }
            round += 1;
            drop(moving);
            thread::sleep(reins.pause);
        }
        Ok(short)
    })?;
    let long = exchanges.iter().map(Exchange::sent).collect::<Result<_>>()?;
    Ok(Load { short, long })
}

fn one_packet(path: &Path<'_>, source_port: u16, port: u16) -> Result<Sent> {
    let size = usize::from(source_port % 700);
    let client = socket(SocketAddr::new(path.from, source_port))?;
    client.send_to(&vec![0x63; size], path.target(port))?;
    let packet = Counter::packet(path.ip_header() + HEADER + size as u64);
    Ok(Sent::mirrored(path.tuple(protocol::UDP, source_port, port), packet, Counter::default()))
}
