//! UDP: exchanges of any sizes, and bursts of one-packet flows.

use std::io::ErrorKind;
use std::net::{SocketAddr, UdpSocket};

use anyhow::{Context, Result, bail};

use super::{PATIENCE, Path, Sent};
use crate::key::{Counter, Totals, Tuple, protocol};

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
            totals: Totals::default(),
        })
    }

    /// Sends a payload to the server and waits for its arrival.
    ///
    /// # Errors
    /// When it cannot be sent or does not arrive whole.
    pub fn ask(&mut self, size: usize) -> Result<()> {
        self.client.send_to(&vec![0x61; size], self.target)?;
        self.totals.original += Counter::packet(self.overhead + size as u64);
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

fn socket(address: SocketAddr) -> Result<UdpSocket> {
    let socket = UdpSocket::bind(address).with_context(|| format!("cannot bind UDP {address}"))?;
    socket.set_read_timeout(Some(PATIENCE))?;
    Ok(socket)
}

fn arrival(socket: &UdpSocket, size: usize) -> Result<SocketAddr> {
    let mut buffer = [0; 2048];
    let (length, from) = socket.recv_from(&mut buffer).context("a UDP packet did not arrive")?;
    if length != size {
        bail!("a UDP packet of {size} bytes arrived with {length}");
    }
    Ok(from)
}
