//! The few kernel calls that no safe crate offers.
#![expect(
    unsafe_code,
    reason = "raw IP sockets, the packet socket's loss counter, kernel programs of others"
)]

use std::ffi::CStr;
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

/// A kernel program that somebody loaded, by its number.
///
/// # Errors
/// When there is none of this number.
pub fn kernel_program(id: u32) -> io::Result<OwnedFd> {
    /// `BPF_PROG_GET_FD_BY_ID`
    const GET_BY_ID: libc::c_long = 13;
    let attributes = [id, 0, 0];
    // SAFETY: pointer and length describe the live array.
    let fd =
        unsafe { libc::syscall(libc::SYS_bpf, GET_BY_ID, attributes.as_ptr(), size_of_val(&attributes)) };
    owned(fd)
}

/// Loads a program for tracepoints that only asks for the time since the boot, by `bpf_ktime_get_boot_ns`.
///
/// # Errors
/// The kernel's.
pub fn load_clock_reader() -> io::Result<OwnedFd> {
    /// `BPF_PROG_LOAD`, and the type of program.
    const LOAD: libc::c_long = 5;
    const TRACEPOINT: u64 = 5;
    /// Call of a helper, a zero into the register of what is returned, and the return.
    const CODE: [u64; 3] = [125 << 32 | 0x85, 0xb7, 0x95];
    let licence = c"GPL";
    let attributes =
        [TRACEPOINT | (CODE.len() as u64) << 32, CODE.as_ptr() as u64, licence.as_ptr() as u64, 0, 0, 0];
    // SAFETY: the attributes, and what they point to, live until the call returns.
    owned(unsafe { libc::syscall(libc::SYS_bpf, LOAD, attributes.as_ptr(), size_of_val(&attributes)) })
}

/// Something at which the kernel runs programs.
#[derive(Clone, Copy, Debug)]
pub enum Event<'a> {
    /// The entry of a function; with what the kernel says in `/sys/bus/event_source/devices/kprobe/type`.
    Function(u32, &'a CStr),
    /// The tracepoint of this number.
    Tracepoint(u32),
}

/// Has a program run at an event, too, as long as what is returned is open.
///
/// # Errors
/// When there is no such event, or the program is of another kind.
pub fn run_at(event: Event<'_>, program: BorrowedFd<'_>) -> io::Result<OwnedFd> {
    /// `PERF_TYPE_TRACEPOINT`
    const TRACEPOINT: u32 = 2;
    /// `PERF_EVENT_IOC_SET_BPF` and `PERF_EVENT_IOC_ENABLE`
    const SET_PROGRAM: libc::c_ulong = 0x4004_2408;
    const ENABLE: libc::c_ulong = 0x2400;
    /// `PERF_FLAG_FD_CLOEXEC`
    const CLOSE_ON_EXEC: libc::c_ulong = 8;
    let (kind, config, name) = match event {
        Event::Function(kind, name) => (kind, 0, name.as_ptr() as u64),
        Event::Tracepoint(number) => (TRACEPOINT, u64::from(number), 0),
    };
    // `struct perf_event_attr` as it was first with probes: type and size, `config`, and the name in `config1`.
    let size = size_of::<[u64; 9]>() as u64;
    let attributes = [u64::from(kind) | size << 32, config, 0, 0, 0, 0, 0, name, 0];
    let (everybody, first_cpu, alone) = (-1, 0, -1);
    // SAFETY: the attributes, and the name that they point to, live until the call returns.
    let event = owned(unsafe {
        libc::syscall(
            libc::SYS_perf_event_open,
            attributes.as_ptr(),
            everybody,
            first_cpu,
            alone,
            CLOSE_ON_EXEC,
        )
    })?;
    for (request, argument) in [(SET_PROGRAM, program.as_raw_fd()), (ENABLE, 0)] {
        // SAFETY: both requests take a number.
        if unsafe { libc::ioctl(event.as_raw_fd(), request, argument) } < 0 {
            return Err(io::Error::last_os_error());
        }
    }
    Ok(event)
}

fn owned(fd: libc::c_long) -> io::Result<OwnedFd> {
    match i32::try_from(fd) {
        // SAFETY: the descriptor is new and nobody else's.
        Ok(fd) if fd >= 0 => Ok(unsafe { OwnedFd::from_raw_fd(fd) }),
        _ => Err(io::Error::last_os_error()),
    }
}

/// Asks how large the kernel's log is, which has the kernel call `security_syslog`. Nobody else does in a guest.
pub fn ask_for_size_of_log() {
    /// `SYSLOG_ACTION_SIZE_BUFFER`
    const SIZE: libc::c_int = 10;
    // SAFETY: this action looks at no pointer.
    unsafe { libc::klogctl(SIZE, std::ptr::null_mut(), 0) };
}
