//! Protocols whose packets are built by hand and sent through raw sockets at both ends.

use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::time::Instant;

use anyhow::{Context, Result, bail};

use super::{PATIENCE, Path, Sent, bind_to, checksum};
use crate::key::{Counter, Totals, protocol};
use crate::netns::Namespace;
use crate::sys;

/// Both ends of a hand-made flow.
pub(super) struct Ends {
    client: End,
    server: End,
    ip_header: u64,
    /// What was sent so far.
    pub(super) totals: Totals,
}

/// One end: a raw socket, which sends and receives by the same calls as a UDP socket.
struct End {
    socket: UdpSocket,
    peer: SocketAddr,
    ip_header_received: usize,
}

impl Ends {
    pub(super) fn open(path: &Path<'_>, protocol: u8) -> Result<Self> {
        Ok(Self {
            client: End::open(path.client, protocol, path.from, path.to)?,
            server: End::open(path.server, protocol, path.at, path.from)?,
            ip_header: path.ip_header(),
            totals: Totals::default(),
        })
    }

    /// Sends from the client, and waits until the server has it.
    pub(super) fn there(&mut self, payload: &[u8]) -> Result<()> {
        self.totals.original += Counter::packet(self.ip_header + payload.len() as u64);
        self.client.send(payload)?;
        self.server.expect(payload)
    }

    /// Sends from the server, and waits until the client has it.
    pub(super) fn back(&mut self, payload: &[u8]) -> Result<()> {
        self.totals.reply += Counter::packet(self.ip_header + payload.len() as u64);
        self.server.send(payload)?;
        self.client.expect(payload)
    }
}

impl End {
    fn open(namespace: &Namespace, protocol: u8, own: IpAddr, peer: IpAddr) -> Result<Self> {
        let descriptor = namespace.within(|| Ok(sys::raw_socket(own.is_ipv6(), protocol)?))?;
        bind_to(&descriptor, SocketAddr::new(own, 0))?;
        let socket = UdpSocket::from(descriptor);
        socket.set_read_timeout(Some(PATIENCE))?;
        // Only a raw IPv4 socket delivers the IP header too.
        let ip_header_received = if own.is_ipv4() { 20 } else { 0 };
        Ok(Self { socket, peer: SocketAddr::new(peer, 0), ip_header_received })
    }

    fn send(&self, payload: &[u8]) -> Result<()> {
        self.socket.send_to(payload, self.peer).context("cannot send a raw packet")?;
        Ok(())
    }

    fn expect(&self, payload: &[u8]) -> Result<()> {
        let mut buffer = [0; 2048];
        let deadline = Instant::now() + PATIENCE;
        while Instant::now() < deadline {
            let (length, _) = self.socket.recv_from(&mut buffer).context("a raw packet did not arrive")?;
            if buffer.get(self.ip_header_received..length) == Some(payload) {
                return Ok(());
            }
        }
        bail!("a raw packet did not arrive")
    }
}

/// One GRE flow (RFC 2784, no key).
///
/// # Errors
/// When a packet does not arrive.
pub fn gre(path: &Path<'_>, there: &[usize], back: &[usize]) -> Result<Sent> {
    // No flags, version 0; ether type "experimental" (IEEE 802 local), so that no tunnel takes it for its own.
    by_header(path, protocol::GRE, &[0, 0, 0x88, 0xb5], there, back)
}

/// One flow of a protocol that conntrack knows only by its number.
///
/// # Errors
/// When a packet does not arrive.
pub fn experiment(path: &Path<'_>, there: &[usize], back: &[usize]) -> Result<Sent> {
    by_header(path, protocol::EXPERIMENT, &[], there, back)
}

/// One UDP-Lite flow (RFC 3828), the checksum over the whole packet.
///
/// # Errors
/// When a packet does not arrive.
pub fn udplite(
    path: &Path<'_>,
    source_port: u16,
    port: u16,
    there: &[usize],
    back: &[usize],
) -> Result<Sent> {
    let mut ends = Ends::open(path, protocol::UDPLITE)?;
    for size in there {
        ends.there(&udplite_packet((path.from, source_port), (path.to, port), *size))?;
    }
    for size in back {
        ends.back(&udplite_packet((path.at, port), (path.from, source_port), *size))?;
    }
    let (source_port, port) = if sys::knows_udplite() { (source_port, port) } else { (0, 0) };
    let tuple = path.tuple(protocol::UDPLITE, source_port, port);
    Ok(Sent::mirrored(tuple, ends.totals.original, ends.totals.reply))
}

fn by_header(path: &Path<'_>, protocol: u8, header: &[u8], there: &[usize], back: &[usize]) -> Result<Sent> {
    let mut ends = Ends::open(path, protocol)?;
    let payload = |size: usize, fill: u8| [header, &vec![fill; size]].concat();
    for size in there {
        ends.there(&payload(*size, 0x65))?;
    }
    for size in back {
        ends.back(&payload(*size, 0x66))?;
    }
    Ok(Sent::mirrored(path.tuple(protocol, 0, 0), ends.totals.original, ends.totals.reply))
}

fn udplite_packet(from: (IpAddr, u16), to: (IpAddr, u16), size: usize) -> Vec<u8> {
    const COVERS_ALL: [u8; 2] = [0, 0];
    let body = |checksum: u16| {
        let ports = [from.1.to_be_bytes(), to.1.to_be_bytes()].concat();
        let mut packet = [ports.as_slice(), &COVERS_ALL, &checksum.to_be_bytes()].concat();
        packet.resize(packet.len() + size, 0x67);
        packet
    };
    body(checksum::with_pseudo_header(from.0, to.0, protocol::UDPLITE, &body(0)))
}
