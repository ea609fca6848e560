//! TCP connections by the kernel's own stack: opened, used in both directions, closed or reset.

use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::os::fd::AsRawFd;
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result, anyhow, bail};
use nix::libc::linger;
use nix::sys::socket::{
    AddressFamily, SockFlag, SockType, SockaddrStorage, connect as connect_socket, setsockopt, socket,
    sockopt,
};

use super::{PATIENCE, Path, Sent, bind_soon, bind_to};
use crate::key::{Tuple, protocol};

/// Sent at a time by [`Connection::pour`].
const POURED: usize = 4 << 10;

/// How a connection ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ending {
    /// The client closes, then the server.
    Close,
    /// The client resets it.
    Reset,
}

/// An open connection.
#[derive(Debug)]
pub struct Connection {
    client: TcpStream,
    server: TcpStream,
    tuple: Tuple,
    answer: Tuple,
}

/// Opens a connection from a chosen port.
///
/// # Errors
/// When a port is taken or the handshake fails.
pub fn connect(path: &Path<'_>, source_port: u16, port: u16) -> Result<Connection> {
    let listener = path.server.within(|| listen(path.listen(port)))?;
    let from = SocketAddr::new(path.from, source_port);
    let client = path.client.within(|| connect_from(from, path.target(port)))?;
    let (server, peer) = listener.accept().context("the connection did not arrive")?;
    for stream in [&client, &server] {
        stream.set_read_timeout(Some(PATIENCE))?;
        stream.set_nodelay(true)?;
    }
    let at = server.local_addr()?;
    let answer = Tuple {
        protocol: protocol::TCP,
        source: at.ip(),
        destination: peer.ip(),
        source_port: at.port(),
        destination_port: peer.port(),
    };
    Ok(Connection { client, server, tuple: path.tuple(protocol::TCP, source_port, port), answer })
}

impl Connection {
    /// Sends both ways at once and waits until all has arrived.
    ///
    /// # Errors
    /// When it does not arrive.
    pub fn carry(&self, up: usize, down: usize) -> Result<()> {
        thread::scope(|scope| {
            let upward = scope.spawn(|| write_all(&self.client, up));
            let downward = scope.spawn(|| write_all(&self.server, down));
            let arrived_up = scope.spawn(|| read_exactly(&self.server, up));
            read_exactly(&self.client, down)?;
            for worker in [upward, downward, arrived_up] {
                worker.join().map_err(|_| anyhow!("a TCP worker panicked"))??;
            }
            Ok(())
        })
    }

    /// Its tuple as the client sent it.
    #[must_use]
    pub const fn tuple(&self) -> Tuple {
        self.tuple
    }

    /// Sends from the server as long as anything goes, or the buffers are full for a while; reads nothing but what
    /// arrives.
    pub fn pour(&self) {
        const STUCK: Duration = Duration::from_secs(1);
        // A socket without the timeout would only make this last.
        let _ = self.server.set_write_timeout(Some(STUCK));
        let _ = self.client.set_read_timeout(Some(STUCK));
        thread::scope(|scope| {
            scope.spawn(|| while write_all(&self.server, POURED).is_ok() {});
            scope.spawn(|| while read_exactly(&self.client, POURED).is_ok() {});
        });
    }

    /// Ends it and waits until both sides have seen that. What was sent is for a capture to tell.
    ///
    /// # Errors
    /// When the other side does not notice.
    pub fn end(self, ending: Ending) -> Result<Sent> {
        let sent = Sent { tuple: self.tuple, answer: self.answer, totals: None };
        match ending {
            Ending::Close => self.close()?,
            Ending::Reset => self.reset()?,
        }
        Ok(sent)
    }

    fn close(mut self) -> Result<()> {
        self.client.shutdown(Shutdown::Write)?;
        expect_end(&mut self.server)?;
        self.server.shutdown(Shutdown::Write)?;
        expect_end(&mut self.client)
    }

    fn reset(mut self) -> Result<()> {
        setsockopt(&self.client, sockopt::Linger, &linger { l_onoff: 1, l_linger: 0 })?;
        drop(self.client);
        match self.server.read(&mut [0; 1]) {
            Err(cause) if cause.kind() == ErrorKind::ConnectionReset => Ok(()),
            other => bail!("the server saw {other:?} in place of a reset"),
        }
    }
}

/// A whole connection.
///
/// # Errors
/// When any step of it fails.
pub fn transfer(
    path: &Path<'_>,
    source_port: u16,
    port: u16,
    (up, down): (usize, usize),
    ending: Ending,
) -> Result<Sent> {
    let connection = connect(path, source_port, port)?;
    connection.carry(up, down)?;
    connection.end(ending)
}

fn listen(address: SocketAddr) -> Result<TcpListener> {
    bind_soon(|| TcpListener::bind(address)).with_context(|| format!("cannot listen on {address}"))
}

fn connect_from(from: SocketAddr, target: SocketAddr) -> Result<TcpStream> {
    let family = if from.is_ipv6() { AddressFamily::Inet6 } else { AddressFamily::Inet };
    let socket = socket(family, SockType::Stream, SockFlag::SOCK_CLOEXEC, None)?;
    setsockopt(&socket, sockopt::ReuseAddr, &true)?;
    bind_to(&socket, from)?;
    connect_socket(socket.as_raw_fd(), &SockaddrStorage::from(target))
        .with_context(|| format!("cannot connect to {target}"))?;
    Ok(TcpStream::from(socket))
}

fn write_all(mut stream: &TcpStream, size: usize) -> Result<()> {
    let block = [0x69; 16 << 10];
    let mut left = size;
    while left > 0 {
        let part = block.get(..left.min(block.len())).unwrap_or_default();
        stream.write_all(part).context("cannot send over TCP")?;
        left -= part.len();
    }
    Ok(())
}

fn read_exactly(mut stream: &TcpStream, size: usize) -> Result<()> {
    let mut buffer = vec![0; 64 << 10];
    let mut left = size;
    while left > 0 {
        let wanted = left.min(buffer.len());
        let part = buffer.get_mut(..wanted).unwrap_or_default();
        match stream.read(part).context("TCP data did not arrive")? {
            0 => bail!("the connection ended with {left} bytes missing"),
            length => left -= length,
        }
    }
    Ok(())
}

fn expect_end(stream: &mut TcpStream) -> Result<()> {
    match stream.read(&mut [0; 1]).context("the other side did not close")? {
        0 => Ok(()),
        _ => bail!("data in place of the end of a connection"),
    }
}
