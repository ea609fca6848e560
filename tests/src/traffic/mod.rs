//! The generator: real packets of many protocols between two namespaces, and an account of what was sent.

mod checksum;
mod icmp;
mod load;
mod raw;
mod sctp;
mod tcp;
mod udp;

pub use icmp::echo;
pub use load::{Load, Reins, load};
pub use raw::{experiment, gre, udplite};
pub use sctp::association;
pub use tcp::{Connection, Ending, connect, transfer};
pub use udp::{Exchange, burst, exchange, knock, race};

use std::io::{self, ErrorKind};
use std::net::{IpAddr, SocketAddr};
use std::os::fd::OwnedFd;
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use nix::sys::socket::{SockaddrStorage, bind};

use crate::key::{Counter, Totals, Tuple};
use crate::netns::Namespace;

/// How long the generator waits for a packet before it says that the network under test is broken.
pub const PATIENCE: Duration = Duration::from_secs(10);

/// How long an address may still be taken by a socket that was closed.
const FREE_WITHIN: Duration = Duration::from_secs(2);

/// Who opens flows to whom.
#[derive(Clone, Copy, Debug)]
pub struct Path<'a> {
    /// Where flows are opened.
    pub client: &'a Namespace,
    /// Where they are answered.
    pub server: &'a Namespace,
    /// The client's own address.
    pub from: IpAddr,
    /// The address the client sends to.
    pub to: IpAddr,
    /// The server's own address; differs from `to` when the destination is translated on the way.
    pub at: IpAddr,
    /// What is added to the destination port on the way.
    pub port_shift: u16,
}

impl Path<'_> {
    const fn is_ipv6(&self) -> bool {
        self.from.is_ipv6()
    }

    /// Bytes of an IP header on this path; nothing sends options.
    const fn ip_header(&self) -> u64 {
        if self.is_ipv6() { 40 } else { 20 }
    }

    const fn target(&self, port: u16) -> SocketAddr {
        SocketAddr::new(self.to, port)
    }

    const fn listen(&self, port: u16) -> SocketAddr {
        SocketAddr::new(self.at, port.wrapping_add(self.port_shift))
    }

    const fn tuple(&self, protocol: u8, source_port: u16, destination_port: u16) -> Tuple {
        Tuple { protocol, source: self.from, destination: self.to, source_port, destination_port }
    }
}

/// What the generator sent as one flow.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sent {
    /// Tuple as the client sent it.
    pub tuple: Tuple,
    /// Tuple of the answers as the server sent them.
    pub answer: Tuple,
    /// IP packets and bytes sent; `None` where the kernel's own TCP decides them.
    pub totals: Option<Totals>,
}

impl Sent {
    fn mirrored(tuple: Tuple, original: Counter, reply: Counter) -> Self {
        Self { tuple, answer: tuple.answer(), totals: Some(Totals { original, reply }) }
    }
}

/// Binds a socket of any protocol.
fn bind_to(socket: &OwnedFd, address: SocketAddr) -> Result<()> {
    use std::os::fd::AsRawFd;
    bind(socket.as_raw_fd(), &SockaddrStorage::from(address))
        .with_context(|| format!("cannot bind to {address}"))
}

/// Binds a socket to an address that may still be taken for a moment: a child that another thread is just starting
/// holds what was closed until it has become its program.
///
/// # Errors
/// When it cannot be bound, or is not free soon.
pub fn bind_soon<S>(bind: impl Fn() -> io::Result<S>) -> io::Result<S> {
    let deadline = Instant::now() + FREE_WITHIN;
    loop {
        match bind() {
            Err(error) if error.kind() == ErrorKind::AddrInUse && Instant::now() < deadline => {
                sleep(Duration::from_millis(10));
            }
            bound => return bound,
        }
    }
}
