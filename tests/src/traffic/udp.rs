//! UDP: exchanges of any sizes, and bursts of one-packet flows.

use std::io::ErrorKind;
use std::net::{SocketAddr, UdpSocket};
use std::os::fd::AsFd;
use std::sync::Barrier;
use std::thread;

use anyhow::{Context, Result, anyhow, bail};
use nix::sys::socket::{AddressFamily, SockFlag, SockType, setsockopt, socket as new_socket, sockopt};

use super::{PATIENCE, Path, Sent, bind_soon, bind_to};
use crate::key::{Counter, Totals, Tuple, protocol};
use crate::sys;

const HEADER: u64 = 8;

/// One UDP flow that stays open.
#[derive(Debug)]
pub struct Exchange {
    client: UdpSocket,
    server: UdpSocket,
    /// The server's view of the client: another address and port when the source is translated.
    peer: Option<SocketAddr>,
    target: SocketAddr,
    tuple: Tuple,
    overhead: u64,
    /// Bytes of headers that only the client's packets have.
    options: u64,
    totals: Totals,
}

impl Exchange {
    /// Opens both sockets; nothing is sent yet.
    ///
    /// # Errors
    /// When a port is taken.
    pub fn open(path: &Path<'_>, source_port: u16, port: u16) -> Result<Self> {
        let from = SocketAddr::new(path.from, source_port);
        let client = path.client.within(|| socket(from))?;
        let server = path.server.within(|| socket(path.listen(port)))?;
        Ok(Self {
            client,
            server,
            peer: None,
            target: path.target(port),
            tuple: path.tuple(protocol::UDP, source_port, port),
            overhead: path.ip_header() + HEADER,
            options: 0,
            totals: Totals::default(),
        })
    }

    /// Gives the client's packets from now on an IP option or extension header, which adds so many bytes to each.
    ///
    /// # Errors
    /// When the kernel refuses the socket option.
    pub fn with_header(&mut self, (level, name): (i32, i32), value: &[u8], adds: u64) -> Result<()> {
        sys::set_option(self.client.as_fd(), level, name, value).context("cannot set an IP option")?;
        self.options += adds;
        Ok(())
    }

    /// Sends a payload that expires at the first router.
    ///
    /// # Errors
    /// When it cannot be sent.
    pub fn expire(&mut self, size: usize) -> Result<()> {
        let (level, name) = if self.target.is_ipv6() {
            (libc::IPPROTO_IPV6, libc::IPV6_UNICAST_HOPS)
        } else {
            (libc::IPPROTO_IP, libc::IP_TTL)
        };
        for (hops, payload) in [(1, Some(size)), (64, None)] {
            sys::set_option(self.client.as_fd(), level, name, &i32::to_ne_bytes(hops))?;
            if let Some(size) = payload {
                self.throw(size)?;
            }
        }
        Ok(())
    }

    /// Sends a payload to the server without waiting for its arrival.
    ///
    /// # Errors
    /// When it cannot be sent.
    pub fn throw(&mut self, size: usize) -> Result<()> {
        self.client.send_to(&vec![0x61; size], self.target)?;
        self.totals.original += Counter::packet(self.overhead + self.options + size as u64);
        Ok(())
    }

    /// Sends a payload to the server and waits for its arrival.
    ///
    /// # Errors
    /// When it cannot be sent or does not arrive whole.
    pub fn ask(&mut self, size: usize) -> Result<()> {
        self.throw(size)?;
        self.peer = Some(arrival(&self.server, size)?);
        Ok(())
    }

    /// Sends a payload back.
    ///
    /// # Errors
    /// When nothing was asked yet, it cannot be sent or does not arrive whole.
    pub fn answer(&mut self, size: usize) -> Result<()> {
        let peer = self.peer.context("the server was asked nothing yet")?;
        self.server.send_to(&vec![0x62; size], peer)?;
        self.totals.reply += Counter::packet(self.overhead + size as u64);
        arrival(&self.client, size)?;
        Ok(())
    }

    /// What was sent so far.
    ///
    /// # Errors
    /// When a socket has no address.
    pub fn sent(&self) -> Result<Sent> {
        let at = self.server.local_addr()?;
        let peer = self.peer.unwrap_or(SocketAddr::new(self.tuple.source, self.tuple.source_port));
        let answer = Tuple {
            protocol: protocol::UDP,
            source: at.ip(),
            destination: peer.ip(),
            source_port: at.port(),
            destination_port: peer.port(),
        };
        Ok(Sent { tuple: self.tuple, answer, totals: Some(self.totals) })
    }
}

/// One flow: payloads to the server, then payloads back.
///
/// # Errors
/// When a packet does not arrive.
pub fn exchange(
    path: &Path<'_>,
    source_port: u16,
    port: u16,
    there: &[usize],
    back: &[usize],
) -> Result<Sent> {
    let mut flow = Exchange::open(path, source_port, port)?;
    for size in there {
        flow.ask(*size)?;
    }
    for size in back {
        flow.answer(*size)?;
    }
    flow.sent()
}

/// One packet to a port where nobody listens, whose ICMP error is waited for.
///
/// # Errors
/// When no error comes.
pub fn knock(path: &Path<'_>, source_port: u16, port: u16, size: usize) -> Result<Sent> {
    let target = path.target(port);
    let client = path.client.within(|| {
        let client = socket(SocketAddr::new(path.from, source_port))?;
        client.connect(target)?;
        Ok(client)
    })?;
    client.send(&vec![0x64; size])?;
    match client.recv(&mut [0; 1]) {
        Err(refused) if refused.kind() == ErrorKind::ConnectionRefused => {}
        other => bail!("{other:?} in place of an error for a closed port"),
    }
    let packet = Counter::packet(path.ip_header() + HEADER + size as u64);
    let tuple = path.tuple(protocol::UDP, source_port, port);
    Ok(Sent::mirrored(tuple, packet, Counter::default()))
}

/// As many one-packet flows as there are source ports. Nothing answers; sizes vary from flow to flow. Packets
/// that the client's own conntrack refuses, because its table is full, were not sent.
///
/// # Errors
/// When a packet cannot be sent.
pub fn burst(path: &Path<'_>, source_ports: std::ops::Range<u16>, port: u16) -> Result<Vec<Sent>> {
    // Someone must listen, or the server's kernel answers each packet with an ICMP error.
    let _listener = path.server.within(|| socket(path.listen(port)))?;
    let (from, target) = (path.from, path.target(port));
    path.client.within(|| {
        let mut all = Vec::with_capacity(source_ports.len());
        for source_port in source_ports {
            let size = usize::from(source_port % 700);
            let client = socket(SocketAddr::new(from, source_port))?;
            match client.send_to(&vec![0x63; size], target) {
                Err(refused) if refused.kind() == ErrorKind::PermissionDenied => continue,
                other => other.context("cannot send a UDP packet")?,
            };
            let packet = Counter::packet(path.ip_header() + HEADER + size as u64);
            let tuple = path.tuple(protocol::UDP, source_port, port);
            all.push(Sent::mirrored(tuple, packet, Counter::default()));
        }
        Ok(all)
    })
}

/// Packets that each of two sockets sends into a flow that both open at once.
const RACED: usize = 3;

/// One flow per source port, opened at the same moment by two threads with a socket each. What arrives is for a
/// capture to tell. Returns the flows' tuples.
///
/// # Errors
/// When a packet cannot be sent.
pub fn race(path: &Path<'_>, source_ports: std::ops::Range<u16>, port: u16) -> Result<Vec<Tuple>> {
    let tuples =
        source_ports.clone().map(|source_port| path.tuple(protocol::UDP, source_port, port)).collect();
    let _listener = path.server.within(|| socket(path.listen(port)))?;
    let mut pairs = path.client.within(|| {
        let shared = |source_port| shared_socket(SocketAddr::new(path.from, source_port));
        source_ports
            .map(|source_port| Ok([shared(source_port)?, shared(source_port)?]))
            .collect::<Result<Vec<_>>>()
    })?;
    let (start, target) = (Barrier::new(2), path.target(port));
    let run = |sockets: Vec<UdpSocket>, size: usize| -> Result<()> {
        for socket in sockets {
            start.wait();
            for _ in 0..RACED {
                // A packet that lost the race for its entry may be refused: it was not sent.
                let _ = socket.send_to(&vec![0x65; size], target);
            }
        }
        Ok(())
    };
    let (first, second) = pairs.drain(..).map(|[first, second]| (first, second)).unzip();
    thread::scope(|scope| {
        let other = scope.spawn(|| run(first, 100));
        run(second, 200)?;
        other.join().map_err(|_| anyhow!("a sender panicked"))?
    })?;
    Ok(tuples)
}

/// A socket whose address others may have too.
fn shared_socket(address: SocketAddr) -> Result<UdpSocket> {
    let family = if address.is_ipv6() { AddressFamily::Inet6 } else { AddressFamily::Inet };
    let socket = new_socket(family, SockType::Datagram, SockFlag::SOCK_CLOEXEC, None)?;
    setsockopt(&socket, sockopt::ReuseAddr, &true)?;
    bind_to(&socket, address)?;
    Ok(UdpSocket::from(socket))
}

pub(super) fn socket(address: SocketAddr) -> Result<UdpSocket> {
    let socket =
        bind_soon(|| UdpSocket::bind(address)).with_context(|| format!("cannot bind UDP {address}"))?;
    socket.set_read_timeout(Some(PATIENCE))?;
    Ok(socket)
}

fn arrival(socket: &UdpSocket, size: usize) -> Result<SocketAddr> {
    let mut buffer = vec![0; size.max(1) + 1];
    let (length, from) = socket.recv_from(&mut buffer).context("a UDP packet did not arrive")?;
    if length != size {
        bail!("a UDP packet of {size} bytes arrived with {length}");
    }
    Ok(from)
}
