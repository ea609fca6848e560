//! The few kernel calls that no safe crate offers.
#![expect(unsafe_code, reason = "raw IP sockets of any protocol number and the packet socket's loss counter")]

use std::io;
use std::mem;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::sync::OnceLock;

/// A raw IP socket for one protocol number, in the calling thread's network namespace.
///
/// # Errors
/// The kernel's, `EPERM` without `CAP_NET_RAW`.
pub fn raw_socket(ipv6: bool, protocol: u8) -> io::Result<OwnedFd> {
    let family = if ipv6 { libc::AF_INET6 } else { libc::AF_INET };
    // SAFETY: no pointer is passed.
    let fd = unsafe { libc::socket(family, libc::SOCK_RAW | libc::SOCK_CLOEXEC, i32::from(protocol)) };
    if fd < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the descriptor is new and nobody else's.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// Sets an option of a socket to these bytes, for options that no safe crate knows.
///
/// # Errors
/// The kernel's.
pub fn set_option(socket: BorrowedFd<'_>, level: i32, name: i32, value: &[u8]) -> io::Result<()> {
    let length = libc::socklen_t::try_from(value.len()).map_err(io::Error::other)?;
    // SAFETY: pointer and length describe the live slice.
    let outcome = unsafe { libc::setsockopt(socket.as_raw_fd(), level, name, value.as_ptr().cast(), length) };
    if outcome < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

/// Whether this kernel knows UDP-Lite. Newer ones have dropped it, from their sockets and from conntrack alike:
/// to those it is a protocol without ports.
pub fn knows_udplite() -> bool {
    static KNOWN: OnceLock<bool> = OnceLock::new();
    *KNOWN.get_or_init(|| {
        // SAFETY: no pointer is passed.
        let fd = unsafe {
            libc::socket(libc::AF_INET, libc::SOCK_DGRAM | libc::SOCK_CLOEXEC, libc::IPPROTO_UDPLITE)
        };
        if fd < 0 {
            return false;
        }
        // SAFETY: the descriptor is new and nobody else's.
        drop(unsafe { OwnedFd::from_raw_fd(fd) });
        true
    })
}

/// How many packets a packet socket dropped since it was last asked (packet(7), `PACKET_STATISTICS`).
///
/// # Errors
/// The kernel's.
pub fn packet_drops(socket: BorrowedFd<'_>) -> io::Result<u32> {
    // SAFETY: the struct is plain numbers.
    let mut statistics: libc::tpacket_stats = unsafe { mem::zeroed() };
    let mut length = size_of::<libc::tpacket_stats>() as libc::socklen_t;
    // SAFETY: pointer and length describe the live local above.
    let outcome = unsafe {
        libc::getsockopt(
            socket.as_raw_fd(),
            libc::SOL_PACKET,
            libc::PACKET_STATISTICS,
            (&raw mut statistics).cast(),
            &raw mut length,
        )
    };
    if outcome < 0 { Err(io::Error::last_os_error()) } else { Ok(statistics.tp_drops) }
}
