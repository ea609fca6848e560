//! A packet socket that books everything one namespace sends and receives into its ledger.

use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};

use anyhow::{Context, Result};
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::socket::{
    AddressFamily, LinkAddr, SockFlag, SockProtocol, SockType, recvfrom, setsockopt, socket, sockopt,
};

use crate::ledger::Ledger;
use crate::netns::Namespace;
use crate::packet::{self, SNAP};
use crate::sys;

/// Holds a burst of some ten thousand packets while the reader is not scheduled.
const BUFFER_BYTES: usize = 64 << 20;

/// The loopback is interface 1 in every namespace; a flow over it would be seen twice.
const LOOPBACK: usize = 1;

/// Which packets of a namespace are booked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Vantage {
    /// What it sends and what it receives: an end of the flows.
    Host,
    /// Only what it receives: a router, where every packet would be seen twice and is translated in between.
    Router,
}

/// A running capture. Stops when dropped.
#[derive(Debug)]
pub struct Capture {
    shared: Arc<Shared>,
    reader: Option<JoinHandle<()>>,
}

#[derive(Debug)]
struct Shared {
    socket: OwnedFd,
    vantage: Vantage,
    ledger: Mutex<Ledger>,
    stop: AtomicBool,
}

impl Capture {
    /// Starts it. Everything sent after this returned is booked.
    ///
    /// # Errors
    /// When the packet socket cannot be made, which needs `CAP_NET_RAW` and `CAP_NET_ADMIN`.
    pub fn start(namespace: &Namespace, vantage: Vantage) -> Result<Self> {
        let socket = namespace.within(open_socket)?;
        let ledger = Mutex::new(Ledger::new(namespace.inode()));
        let shared = Arc::new(Shared { socket, vantage, ledger, stop: AtomicBool::new(false) });
        let reader = thread::spawn({
            let shared = Arc::clone(&shared);
            move || shared.read_until_stopped()
        });
        Ok(Self { shared, reader: Some(reader) })
    }

    /// The ledger with everything booked that was sent until now.
    pub fn ledger(&self) -> MutexGuard<'_, Ledger> {
        let mut ledger = self.shared.lock();
        self.shared.pump(&mut ledger);
        ledger
    }

    /// Packets that the capture itself lost since it was last asked; anything above 0 makes the ledger worthless.
    ///
    /// # Errors
    /// The kernel's.
    pub fn dropped(&self) -> io::Result<u32> {
        sys::packet_drops(self.shared.socket.as_fd())
    }
}

impl Drop for Capture {
    fn drop(&mut self) {
        self.shared.stop.store(true, Ordering::Relaxed);
        if let Some(reader) = self.reader.take() {
            // A panic of the reader has shown itself on stderr; the ledger it left is short and fails the test.
            let _ = reader.join();
        }
    }
}

impl Shared {
    fn read_until_stopped(&self) {
        while !self.stop.load(Ordering::Relaxed) {
            let mut waiting = [PollFd::new(self.socket.as_fd(), PollFlags::POLLIN)];
            let _ = poll(&mut waiting, PollTimeout::from(20u8));
            self.pump(&mut self.lock());
        }
    }

    fn lock(&self) -> MutexGuard<'_, Ledger> {
        self.ledger.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Books all that waits. The lock on the ledger keeps two readers from changing the order of packets.
    fn pump(&self, ledger: &mut Ledger) {
        let mut buffer = [0u8; SNAP];
        loop {
            match recvfrom::<LinkAddr>(self.socket.as_raw_fd(), &mut buffer) {
                Ok((length, Some(from))) if self.is_ours(&from) => {
                    if let Some(parsed) = buffer.get(..length).and_then(packet::parse) {
                        ledger.note(parsed);
                    }
                }
                Ok(_) | Err(Errno::EINTR) => {}
                Err(_) => return,
            }
        }
    }

    fn is_ours(&self, from: &LinkAddr) -> bool {
        let outgoing = from.pkttype() == libc::PACKET_OUTGOING;
        from.ifindex() != LOOPBACK && !(outgoing && self.vantage == Vantage::Router)
    }
}

fn open_socket() -> Result<OwnedFd> {
    let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
    let socket = socket(AddressFamily::Packet, SockType::Datagram, flags, SockProtocol::EthAll)
        .context("cannot open a packet socket; run as root")?;
    setsockopt(&socket, sockopt::RcvBufForce, &BUFFER_BYTES)
        .context("cannot enlarge the capture's buffer")?;
    Ok(socket)
}
