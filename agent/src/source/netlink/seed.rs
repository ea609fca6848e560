//! One look at every flow that exists: what any source needs at its start.

use std::io;

use super::clock::Moment;
use crate::{
    kernel::{
        netlink::{
            conntrack,
            dump::{Dump, DumpProgress},
            socket::{DATAGRAM, NetfilterSocket},
        },
        netns::{Namespace, within},
    },
    model::{Observation, ObservationKind},
};

/// A dump that was disturbed is repeated so many times.
const ATTEMPTS: u32 = 3;

/// How the look went.
#[derive(Debug, Default)]
pub struct Seeded {
    /// Flows handed over, repeated ones included.
    pub flows: u64,
    /// Messages that made no sense.
    pub malformed: u64,
    /// Namespaces that could not be dumped, and why.
    pub failed: Vec<(u32, io::Error)>,
    /// Namespaces whose dump was disturbed each time: flows may be missing.
    pub incomplete: Vec<u32>,
}

/// Hands over every flow of the given namespaces as [`ObservationKind::Existing`], about a hundred at a time. A
/// flow may come twice. Waits for the kernel: not for a runtime's thread.
pub fn dump_all(namespaces: &[Namespace], mut each: impl FnMut(Vec<Observation>)) -> Seeded {
    let mut seeded = Seeded::default();
    for namespace in namespaces {
        let done = within(namespace, NetfilterSocket::open)
            .and_then(|socket| dump_one(&socket?, namespace.inode, &mut seeded, &mut each));
        if let Err(error) = done {
            seeded.failed.push((namespace.inode, error));
        }
    }
    seeded
}

fn dump_one(
    socket: &NetfilterSocket,
    netns: u32,
    seeded: &mut Seeded,
    each: &mut impl FnMut(Vec<Observation>),
) -> io::Result<()> {
    if conntrack::entries(socket, 1)? == 0 {
        return Ok(());
    }
    for attempt in 0..ATTEMPTS {
        if read_through(socket, netns, attempt + 2, seeded, each)? == DumpProgress::Complete {
            return Ok(());
        }
    }
    seeded.incomplete.push(netns);
    Ok(())
}

fn read_through(
    socket: &NetfilterSocket,
    netns: u32,
    sequence: u32,
    seeded: &mut Seeded,
    each: &mut impl FnMut(Vec<Observation>),
) -> io::Result<DumpProgress> {
    let mut dump = Dump::start(socket, sequence)?;
    let mut buffer = vec![0; DATAGRAM];
    loop {
        let mut found = Vec::new();
        let boot_ns = Moment::now().boot_ns;
        let progress = dump.next(socket, &mut buffer, |flow| match flow {
            Ok(flow) => found.push(flow.observation(ObservationKind::Existing, netns, boot_ns)),
            Err(_) => seeded.malformed += 1,
        })?;
        seeded.flows += u64::try_from(found.len()).unwrap_or_default();
        if !found.is_empty() {
            each(found);
        }
        if progress != DumpProgress::More {
            return Ok(progress);
        }
    }
}
