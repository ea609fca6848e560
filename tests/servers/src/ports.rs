//! Ports that nobody listens on.

use std::net::{Ipv4Addr, TcpListener, UdpSocket};
use std::ops::Range;
use std::sync::atomic::{AtomicU16, Ordering};

use anyhow::{Context as _, Result};

/// Below the range that the kernel gives to clients, so that none of them takes a port between its choice and its use.
const RANGE: Range<u16> = 20_000..30_000;

/// The first of so many consecutive ports of loopback that are free, for TCP and for UDP.
///
/// Two calls of one process do not return the same ports; other processes begin elsewhere.
///
/// # Errors
/// When there are none.
pub fn free_ports(count: u16) -> Result<u16> {
    static TAKEN: AtomicU16 = AtomicU16::new(0);
    let span = RANGE.end - RANGE.start;
    let seed = u16::try_from(std::process::id() % 499).unwrap_or(0) * 20;
    for _ in 0..span {
        let next = TAKEN.fetch_add(count, Ordering::Relaxed);
        let first = RANGE.start + seed.wrapping_add(next) % span;
        let ports = first..first.saturating_add(count);
        if ports.end <= RANGE.end && ports.clone().all(is_free) {
            return Ok(first);
        }
    }
    None.context("no free ports on loopback")
}

fn is_free(port: u16) -> bool {
    let at = (Ipv4Addr::LOCALHOST, port);
    TcpListener::bind(at).is_ok() && UdpSocket::bind(at).is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ports_are_not_given_out_twice() {
        let (first, second) = (free_ports(3).unwrap(), free_ports(3).unwrap());
        assert!(first.abs_diff(second) >= 3, "{first} {second}");
    }

    #[test]
    fn a_port_that_is_listened_on_is_not_free() {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        assert!(!is_free(listener.local_addr().unwrap().port()));
    }
}
