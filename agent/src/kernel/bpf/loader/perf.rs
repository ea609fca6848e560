//! The perf events by which the kernel offers probes on its functions.
#![expect(unsafe_code, reason = "system calls with raw attribute structs")]

use std::{
    ffi::CStr,
    io,
    os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd},
};

use aya_obj::generated::{
    PERF_EVENT_IOC_ENABLE, PERF_EVENT_IOC_SET_BPF, PERF_FLAG_FD_CLOEXEC, perf_event_attr,
};

/// What a probe is to be set on.
#[derive(Clone, Copy)]
pub(super) enum Place<'a> {
    /// The function at this address.
    Address(u64),
    /// The function of this name.
    Name(&'a CStr),
}

/// A breakpoint at the entry of a kernel function. `pmu` is the type of event that does it.
pub(super) fn open_probe(pmu: u32, place: Place<'_>) -> io::Result<OwnedFd> {
    // SAFETY: the struct is made of integers.
    let mut attr: perf_event_attr = unsafe { std::mem::zeroed() };
    attr.type_ = pmu;
    attr.size = size_of::<perf_event_attr>() as u32;
    match place {
        Place::Address(address) => attr.__bindgen_anon_4.config2 = address,
        Place::Name(name) => attr.__bindgen_anon_3.config1 = name.as_ptr() as u64,
    }
    // A probe is everywhere, whichever CPU its event is said to be of.
    let (every_process, first_cpu, no_group) = (-1, 0, -1);
    // SAFETY: `attr` and the name that it points to live until the call returns.
    let fd = unsafe {
        libc::syscall(
            libc::SYS_perf_event_open,
            &raw const attr,
            every_process,
            first_cpu,
            no_group,
            libc::c_ulong::from(PERF_FLAG_FD_CLOEXEC),
        )
    };
    if fd < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the kernel just made this descriptor for us.
    Ok(unsafe { OwnedFd::from_raw_fd(i32::try_from(fd).unwrap_or(-1)) })
}

/// Has a program run at an event, on kernels that know no link for that.
pub(super) fn set_program(event: BorrowedFd<'_>, program: BorrowedFd<'_>) -> io::Result<()> {
    ioctl(event, PERF_EVENT_IOC_SET_BPF, program.as_raw_fd())?;
    ioctl(event, PERF_EVENT_IOC_ENABLE, 0)
}

fn ioctl(event: BorrowedFd<'_>, request: u32, argument: i32) -> io::Result<()> {
    // SAFETY: both requests take a number.
    let result = unsafe { libc::ioctl(event.as_raw_fd(), request.into(), argument) };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}
