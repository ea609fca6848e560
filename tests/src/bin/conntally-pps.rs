//! Sends the packets of one UDP flow and tells what one of them took on this CPU's clock.
//!
//! In a guest whose clock counts instructions that is the number of instructions of the whole send path. Packets
//! are timed in small batches, and the median batch is told, so that a timer interrupt does not count.
#![expect(clippy::print_stdout, reason = "its result")]

use std::{
    net::{SocketAddr, UdpSocket},
    time::Instant,
};

use anyhow::{Context as _, Result, ensure};
use clap::Parser;

/// Send the packets of one UDP flow and print the nanoseconds of one.
#[derive(Parser)]
struct Options {
    /// Where to
    #[arg(long)]
    to: SocketAddr,
    /// Where from; another port is another flow
    #[arg(long)]
    from: SocketAddr,
    /// How many packets are timed
    #[arg(long, default_value_t = 20_000)]
    packets: u32,
    /// How many are sent before
    #[arg(long, default_value_t = 1_000)]
    warm_up: u32,
}

/// Packets that are timed together: less than a timer tick apart.
const BATCH: u32 = 100;

/// One UDP payload.
const PAYLOAD: [u8; 64] = [0x5a; 64];

fn main() -> Result<()> {
    let options = Options::parse();
    ensure!(options.packets >= BATCH, "at least {BATCH} packets, or there is nothing to time");
    let socket =
        UdpSocket::bind(options.from).with_context(|| format!("cannot send from {}", options.from))?;
    socket.connect(options.to).with_context(|| format!("cannot send to {}", options.to))?;
    send(&socket, options.warm_up)?;
    let mut batches = Vec::new();
    for _ in 0..options.packets / BATCH {
        let start = Instant::now();
        send(&socket, BATCH)?;
        batches.push(start.elapsed().as_nanos());
    }
    let (median, mean) = (median(&mut batches), mean(&batches));
    println!("{{\"packets\":{},\"median_ns\":{median},\"mean_ns\":{mean}}}", batches.len() as u32 * BATCH);
    Ok(())
}

fn send(socket: &UdpSocket, packets: u32) -> Result<()> {
    for _ in 0..packets {
        socket.send(&PAYLOAD).context("a packet was not sent")?;
    }
    Ok(())
}

/// Of one packet in the batch in the middle.
fn median(batches: &mut [u128]) -> u128 {
    batches.sort_unstable();
    batches.get(batches.len() / 2).copied().unwrap_or(0) / u128::from(BATCH)
}

/// Of one packet over all batches.
fn mean(batches: &[u128]) -> u128 {
    batches.iter().sum::<u128>() / (batches.len().max(1) as u128 * u128::from(BATCH))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_interrupted_batch_does_not_move_the_median() {
        let mut batches = [700_000, 700_100, 9_900_000];
        assert_eq!(median(&mut batches), 7_001);
        assert_eq!(mean(&batches), 37_667);
    }
}
