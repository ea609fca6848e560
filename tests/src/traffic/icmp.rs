//! Echo requests of a chosen identifier; the other side's kernel answers them.

use std::net::{SocketAddr, UdpSocket};
use std::time::Instant;

use anyhow::{Context, Result, bail};

use super::{PATIENCE, Path, Sent, checksum};
use crate::key::{Counter, protocol};
use crate::sys;

const HEADER: u64 = 8;
const ECHO_V4: u8 = 8;
const ECHO_V6: u8 = 128;

/// One flow: an echo request of each payload size, each answered before the next.
///
/// # Errors
/// When an answer does not come.
pub fn echo(path: &Path<'_>, identifier: u16, sizes: &[usize]) -> Result<Sent> {
    let (kind, protocol) =
        if path.is_ipv6() { (ECHO_V6, protocol::ICMPV6) } else { (ECHO_V4, protocol::ICMP) };
    // A raw socket sends and receives by the same calls as a UDP socket.
    let socket = UdpSocket::from(path.client.within(|| Ok(sys::raw_socket(path.is_ipv6(), protocol)?))?);
    socket.set_read_timeout(Some(PATIENCE))?;
    let mut sent = Counter::default();
    for (sequence, size) in (0u16..).zip(sizes) {
        socket.send_to(&request(kind, identifier, sequence, *size), SocketAddr::new(path.to, 0))?;
        sent += Counter::packet(path.ip_header() + HEADER + *size as u64);
        await_answer(&socket, path.is_ipv6(), identifier, sequence)?;
    }
    Ok(Sent::mirrored(path.tuple(protocol, identifier, u16::from(kind) << 8), sent, sent))
}

/// For ICMPv6 the kernel overwrites the checksum (RFC 3542 §3.1).
fn request(kind: u8, identifier: u16, sequence: u16, size: usize) -> Vec<u8> {
    let body = |checksum: u16| {
        let mut packet = vec![kind, 0];
        packet.extend(checksum.to_be_bytes());
        packet.extend(identifier.to_be_bytes());
        packet.extend(sequence.to_be_bytes());
        packet.resize(packet.len() + size, 0x64);
        packet
    };
    body(checksum::internet(&body(0)))
}

fn await_answer(socket: &UdpSocket, ipv6: bool, identifier: u16, sequence: u16) -> Result<()> {
    // A raw IPv4 socket delivers the IP header too.
    let (skip, kind) = if ipv6 { (0, 129) } else { (20, 0) };
    let mut wanted = identifier.to_be_bytes().to_vec();
    wanted.extend(sequence.to_be_bytes());
    let mut buffer = [0; 2048];
    let deadline = Instant::now() + PATIENCE;
    while Instant::now() < deadline {
        let (length, _) = socket.recv_from(&mut buffer).context("an echo was not answered")?;
        let answer = buffer.get(skip..length).unwrap_or_default();
        if answer.first() == Some(&kind) && answer.get(4..8) == Some(wanted.as_slice()) {
            return Ok(());
        }
    }
    bail!("echo {identifier}/{sequence} was not answered")
}
