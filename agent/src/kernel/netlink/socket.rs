//! A netlink socket for netfilter: options, datagrams, and requests that want one answer.

use std::{
    io,
    ops::RangeInclusive,
    os::fd::{AsFd, BorrowedFd},
};

use netlink_sys::{Socket, SocketAddr, protocols::NETLINK_NETFILTER};
use nix::sys::{
    socket::{getsockopt, setsockopt, sockopt},
    time::TimeVal,
};

use super::{attribute::Malformed, message::Messages};

/// Room for one datagram: the kernel fills at most 32 KiB in a dump.
/// <https://github.com/torvalds/linux/blob/v6.12/net/netlink/af_netlink.c#L1927>
pub const DATAGRAM: usize = 64 * 1024;

/// `NFNLGRP_CONNTRACK_NEW`
pub const GROUP_NEW: u32 = 1;
/// `NFNLGRP_CONNTRACK_DESTROY`
pub const GROUP_DESTROY: u32 = 3;

/// How long an answer of the kernel may take, in seconds: it makes it while the request is sent.
const ANSWER: libc::time_t = 10;

/// What the kernel said no to.
#[derive(Debug, thiserror::Error)]
#[error("{cause}")]
pub struct Refused {
    /// Sequence number of the request; `None` when there was no answer at all.
    pub sequence: Option<u32>,
    /// The error number, if there is one.
    pub errno: Option<i32>,
    /// Why.
    #[source]
    pub cause: io::Error,
}

impl From<io::Error> for Refused {
    fn from(cause: io::Error) -> Self {
        Self { sequence: None, errno: cause.raw_os_error(), cause }
    }
}

/// A socket in the network namespace in which it was opened, wherever it is used later. It keeps that namespace
/// alive.
#[derive(Debug)]
pub struct NetfilterSocket {
    socket: Socket,
}

impl AsFd for NetfilterSocket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

impl NetfilterSocket {
    /// A socket that waits (blocks) for answers.
    ///
    /// # Errors
    /// When the kernel has no netfilter netlink (`CONFIG_NETFILTER_NETLINK`) or no descriptor is left.
    pub fn open() -> io::Result<Self> {
        let mut socket = Socket::new(NETLINK_NETFILTER)?;
        socket.bind_auto()?;
        // Only better words for errors: a kernel without them answers as well.
        let _ = socket.set_ext_ack(true);
        let _ = socket.set_cap_ack(true);
        setsockopt(&socket, sockopt::ReceiveTimeout, &TimeVal::new(ANSWER, 0))?;
        Ok(Self { socket })
    }

    /// A socket for events of the given groups, which does not block and asks the kernel to say what it could not
    /// deliver: then it keeps undelivered destroy events and repeats them.
    /// <https://github.com/torvalds/linux/blob/v6.12/net/netfilter/nf_conntrack_ecache.c#L30>
    ///
    /// # Errors
    /// When the buffer or a group is refused (CAP_NET_ADMIN is needed).
    pub fn listen(receive_buffer: usize, groups: &[u32]) -> io::Result<Self> {
        let mut listener = Self { socket: Socket::new(NETLINK_NETFILTER)? };
        listener.enlarge(receive_buffer)?;
        listener.socket.set_broadcast_error(true)?;
        listener.socket.set_non_blocking(true)?;
        listener.socket.bind_auto()?;
        for group in groups {
            listener.socket.add_membership(*group)?;
        }
        Ok(listener)
    }

    /// Asks for a receive buffer of so many bytes; past the system's limit where the agent may.
    fn enlarge(&self, bytes: usize) -> io::Result<()> {
        if setsockopt(&self.socket, sockopt::RcvBufForce, &bytes).is_err() {
            setsockopt(&self.socket, sockopt::RcvBuf, &bytes)?;
        }
        Ok(())
    }

    /// The receive buffer that the kernel granted, in bytes; it counts its own overhead in, and so doubles what
    /// was asked for.
    ///
    /// # Errors
    /// When the kernel does not say.
    pub fn receive_buffer(&self) -> io::Result<usize> {
        Ok(getsockopt(&self.socket, sockopt::RcvBuf)?)
    }

    /// Sends requests to the kernel.
    ///
    /// # Errors
    /// When the kernel does not take them.
    pub fn send(&self, requests: &[u8]) -> io::Result<()> {
        let sent = self.socket.send_to(requests, &SocketAddr::new(0, 0), 0)?;
        if sent == requests.len() { Ok(()) } else { Err(io::ErrorKind::WriteZero.into()) }
    }

    /// The next datagram from the kernel; those of other processes are passed over.
    ///
    /// # Errors
    /// `WouldBlock` when a listener has nothing to read, `ENOBUFS` when events were lost, `InvalidData` for a
    /// datagram that is larger than the buffer.
    pub fn receive<'b>(&self, buffer: &'b mut [u8]) -> io::Result<&'b [u8]> {
        let capacity = buffer.len();
        loop {
            let (length, sender) = match self.socket.recv_from(&mut &mut *buffer, libc::MSG_TRUNC) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                received => received?,
            };
            if sender.port_number() != 0 {
                continue;
            }
            if length > capacity {
                return Err(io::Error::new(
                    io::ErrorKind::InvalidData,
                    format!("a netlink datagram has {length} bytes where at most {capacity} are expected"),
                ));
            }
            return Ok(buffer.get(..length).unwrap_or_default());
        }
    }

    /// Sends requests with these sequence numbers and waits until the kernel has acknowledged the last one, which
    /// must bear `NLM_F_ACK`.
    ///
    /// # Errors
    /// The first refusal of any of them.
    pub fn acknowledged(&self, requests: &[u8], sequences: RangeInclusive<u32>) -> Result<(), Refused> {
        self.send(requests)?;
        let mut buffer = vec![0; DATAGRAM];
        loop {
            for message in Messages::new(self.receive(&mut buffer)?) {
                let message = message.map_err(malformed)?;
                let sequence = message.sequence;
                if message.kind != libc::NLMSG_ERROR as u16 || !sequences.contains(&sequence) {
                    continue;
                }
                message.outcome().map_err(|refusal| Refused {
                    sequence: Some(sequence),
                    errno: Some(refusal.errno),
                    cause: refusal.into(),
                })?;
                if sequence == *sequences.end() {
                    return Ok(());
                }
            }
        }
    }
}

/// The error of a message that makes no sense, for callers that know only I/O errors.
pub(crate) fn malformed(cause: Malformed) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, cause)
}
