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
    // SAFETY: a number, and zeros.
    owned(unsafe { bpf(GET_BY_ID, &[u64::from(id), 0]) })
}

/// Loads a program for tracepoints that only asks for the time since the boot, by `bpf_ktime_get_boot_ns`.
///
/// # Errors
/// The kernel's.
pub fn load_clock_reader() -> io::Result<OwnedFd> {
    /// `BPF_PROG_TYPE_TRACEPOINT`
    const TRACEPOINT: u32 = 5;
    // Call of a helper, a zero into the register of what is returned, and the return.
    load(TRACEPOINT, &[125 << 32 | 0x85, 0xb7, 0x95])
}

/// Memory of the kernel's whose content is chosen, as long as this lives.
#[derive(Debug)]
pub struct KernelMemory(OwnedFd);

impl KernelMemory {
    /// Fills new memory, the only element of an array.
    ///
    /// # Errors
    /// The kernel's.
    pub fn filled(content: &[u8]) -> io::Result<Self> {
        /// `BPF_MAP_CREATE`, `BPF_MAP_UPDATE_ELEM` and `BPF_MAP_TYPE_ARRAY`
        const CREATE: libc::c_long = 0;
        const UPDATE: libc::c_long = 2;
        const ARRAY: u64 = 2;
        allow_all_memory()?;
        let key = 0u32;
        let (key_size, entries) = (size_of_val(&key) as u64, 1);
        // SAFETY: only numbers.
        let map =
            owned(unsafe { bpf(CREATE, &[ARRAY | key_size << 32, content.len() as u64 | entries << 32]) })?;
        let element = [map.as_raw_fd() as u64, (&raw const key) as u64, content.as_ptr() as u64, 0];
        // SAFETY: the key, and content as long as an element, live until the call returns.
        match unsafe { bpf(UPDATE, &element) } {
            0 => Ok(Self(map)),
            _ => Err(io::Error::last_os_error()),
        }
    }

    /// Has the kernel call `bpf_get_current_comm` with the address of a place in this memory, where that writes 16
    /// bytes.
    ///
    /// # Errors
    /// The kernel's.
    pub fn pass_place(&self, offset: u32) -> io::Result<()> {
        /// `BPF_PROG_TYPE_RAW_TRACEPOINT`, and `BPF_PROG_TEST_RUN`
        const RAW_TRACEPOINT: u32 = 17;
        const RUN: libc::c_long = 10;
        let program = load(
            RAW_TRACEPOINT,
            &[
                // The address of the place as the first argument, 16 as the second; the call of the helper; the end.
                (self.0.as_raw_fd() as u64) << 32 | 0x2118,
                u64::from(offset) << 32,
                16 << 32 | 0x2b7,
                16 << 32 | 0x85,
                0xb7,
                0x95,
            ],
        )?;
        // SAFETY: a number, and zeros.
        match unsafe { bpf(RUN, &[program.as_raw_fd() as u64, 0, 0, 0, 0, 0, 0, 0, 0]) } {
            0 => Ok(()),
            _ => Err(io::Error::last_os_error()),
        }
    }
}

/// Before 5.11 the memory of maps counts as locked memory of their user's, and an agent has more than others may have.
fn allow_all_memory() -> io::Result<()> {
    let all = libc::rlimit { rlim_cur: libc::RLIM_INFINITY, rlim_max: libc::RLIM_INFINITY };
    // SAFETY: the limit lives until the call returns.
    match unsafe { libc::setrlimit(libc::RLIMIT_MEMLOCK, &raw const all) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

fn load(kind: u32, code: &[u64]) -> io::Result<OwnedFd> {
    /// `BPF_PROG_LOAD`
    const LOAD: libc::c_long = 5;
    let licence = c"GPL";
    let kind_and_length = u64::from(kind) | (code.len() as u64) << 32;
    let attributes = [kind_and_length, code.as_ptr() as u64, licence.as_ptr() as u64, 0, 0, 0];
    // SAFETY: code and licence live until the call returns.
    owned(unsafe { bpf(LOAD, &attributes) })
}

/// # Safety
/// The attributes are this command's, and what they point to lives until this returns.
unsafe fn bpf(command: libc::c_long, attributes: &[u64]) -> libc::c_long {
    // SAFETY: pointer and length describe the slice; for the rest, the caller's promise.
    unsafe { libc::syscall(libc::SYS_bpf, command, attributes.as_ptr(), size_of_val(attributes)) }
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
