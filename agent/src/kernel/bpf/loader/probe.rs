//! Attaches a program to the entry of a kernel function by a kprobe.

use std::{
    ffi::{CStr, CString},
    fs, io,
    os::fd::{AsFd, BorrowedFd, OwnedFd},
};

use super::{
    perf::{self, Place},
    program::Program,
    syscall,
};

/// Where the kernel says which type of perf event a kprobe is.
///
/// <https://github.com/torvalds/linux/blob/v5.10/Documentation/ABI/testing/sysfs-bus-event_source-devices-format>
const PMU: &str = "/sys/bus/event_source/devices/kprobe/type";

/// A probe with its program. Dropping it detaches the program and removes the probe, unless the link is pinned.
pub(in super::super) struct Probe {
    _event: OwnedFd,
    /// `None` before 5.15: there the event itself holds the program.
    link: Option<OwnedFd>,
}

/// Why a function could not be probed.
#[derive(Debug, thiserror::Error)]
#[error("kprobe on {function}: {what}")]
pub(in super::super) struct ProbeError {
    function: String,
    what: &'static str,
    #[source]
    error: io::Error,
}

impl Probe {
    /// Attaches a loaded kprobe program, by the function's address where it is known: old kernels look a name up by
    /// unpacking all names that they have, several times for each probe.
    pub(in super::super) fn attach(
        program: &Program,
        function: &str,
        address: Option<u64>,
    ) -> Result<Self, ProbeError> {
        let failed = |what| move |error| ProbeError { function: function.to_owned(), what, error };
        let name = CString::new(function).map_err(|error| failed("no such name")(error.into()))?;
        let pmu = pmu().map_err(failed("the kernel offers no probes"))?;
        let event = open(pmu, &name, address).map_err(failed("the probe cannot be set"))?;
        let link = link(program, &event).map_err(failed("the program cannot be attached to the probe"))?;
        Ok(Self { _event: event, link })
    }

    /// What can be pinned.
    pub(super) fn link(&self) -> Option<BorrowedFd<'_>> {
        self.link.as_ref().map(AsFd::as_fd)
    }
}

fn open(pmu: u32, name: &CStr, address: Option<u64>) -> io::Result<OwnedFd> {
    let by_address = address.map(|address| perf::open_probe(pmu, Place::Address(address)));
    match by_address {
        Some(Ok(event)) => Ok(event),
        // The module may have been loaded anew since the address was read.
        _ => perf::open_probe(pmu, Place::Name(name)),
    }
}

fn link(program: &Program, event: &OwnedFd) -> io::Result<Option<OwnedFd>> {
    match syscall::link_to_event(program.as_fd(), event.as_fd()) {
        Ok(link) => Ok(Some(link)),
        Err(error) if error.raw_os_error() == Some(libc::EINVAL) => {
            perf::set_program(event.as_fd(), program.as_fd()).map(|()| None)
        }
        Err(error) => Err(error),
    }
}

fn pmu() -> io::Result<u32> {
    let text = fs::read_to_string(PMU)?;
    text.trim()
        .parse()
        .map_err(|_| io::Error::new(io::ErrorKind::InvalidData, format!("{PMU} holds no number")))
}
