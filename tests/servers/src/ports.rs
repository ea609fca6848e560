//! Ports that nobody listens on.

use std::net::{Ipv4Addr, TcpListener, UdpSocket};
use std::ops::Range;
use std::os::linux::net::SocketAddrExt as _;
use std::os::unix::net::{SocketAddr, UnixListener};
use std::sync::{Mutex, PoisonError};

use anyhow::{Context as _, Result};

/// Below the range that the kernel gives to clients, so that none of them takes a port between its choice and its use.
const RANGE: Range<u16> = 20_000..30_000;

/// So many ports are one process's.
const BLOCK: u16 = 100;

/// Ports that no other process hands out, nor tries whether they are free, which takes them for a moment.
struct Block {
    left: Range<u16>,
    /// An abstract address, which the kernel gives back when the process ends.
    _lock: UnixListener,
}

/// The first of so many consecutive ports of loopback that are free, for TCP and for UDP.
///
/// Two calls do not return the same ports, whatever process they are of.
///
/// # Errors
/// When there are none.
pub fn free_ports(count: u16) -> Result<u16> {
    static BLOCKS: Mutex<Vec<Block>> = Mutex::new(Vec::new());
    let mut blocks = BLOCKS.lock().unwrap_or_else(PoisonError::into_inner);
    loop {
        if let Some(first) = blocks.last_mut().and_then(|block| block.take(count)) {
            return Ok(first);
        }
        blocks.push(Block::reserve().context("no free ports on loopback")?);
    }
}

impl Block {
    /// One that nobody has.
    fn reserve() -> Option<Self> {
        RANGE.step_by(BLOCK.into()).find_map(|first| {
            let address = SocketAddr::from_abstract_name(format!("conntally-ports-{first}")).ok()?;
            let lock = UnixListener::bind_addr(&address).ok()?;
            Some(Self { left: first..first + BLOCK, _lock: lock })
        })
    }

    fn take(&mut self, count: u16) -> Option<u16> {
        while self.left.len() >= usize::from(count) {
            let first = self.left.start;
            self.left.start += count;
            if (first..self.left.start).all(is_free) {
                return Some(first);
            }
        }
        None
    }
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
    fn a_block_is_reserved_once() {
        let (one, other) = (Block::reserve().unwrap(), Block::reserve().unwrap());
        assert_ne!(one.left, other.left);
    }

    #[test]
    fn a_port_that_is_listened_on_is_not_free() {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        assert!(!is_free(listener.local_addr().unwrap().port()));
    }
}
