//! Proves the hooks on packets of the agent's own, in a network namespace that nobody else sees.
//!
//! A thread makes the namespace and opens sockets in it; the namespace lives as long as the sockets, which any
//! thread may use. In it every packet of a flow speaks, so each must appear exactly once.

use std::{
    fs, io,
    net::{Ipv4Addr, UdpSocket},
    thread,
    time::{Duration, Instant},
};

use anyhow::Context;
use conntally_common::{Event, EventFlags, EventKind, SELFTEST_ADDRESS, Visit};
use nix::sched::{CloneFlags, unshare};
use zerocopy::FromBytes;

use super::{KernelSide, ring::Ring};
use crate::kernel::{
    interface,
    netlink::{conntrack, socket::NetfilterSocket},
    netns,
    tracking::Tracking,
};

/// The address that the test's packets go from and to.
const ADDRESS: Ipv4Addr = Ipv4Addr::from_octets(SELFTEST_ADDRESS);

/// Whether the event is of a self-test, of this agent or another.
#[must_use]
pub fn is_selftest(event: &Event) -> bool {
    let [original, _] = &event.tuples;
    let is_test = |address: &[u8; 16]| address.starts_with(&ADDRESS.octets());
    i32::from(original.family) == libc::AF_INET && is_test(&original.src) && is_test(&original.dst)
}

/// Packets of the test's flow.
const PACKETS: u64 = 6;

/// What each of them carries.
const PAYLOAD: &[u8] = b"conntally";

/// Bytes of each of them as IP counts: header, UDP header, payload.
const PACKET_BYTES: u64 = 20 + 8 + PAYLOAD.len() as u64;

/// How long the last update may take: sending runs the hooks before it returns, so nearly nothing.
const UPDATE_PATIENCE: Duration = Duration::from_millis(10);

/// How long the end may take, which waits for the last reference to the entry; what a program that was interrupted while
/// it wrote keeps in the ring behind it; and what waits in the queue before the flow.
const END_PATIENCE: Duration = Duration::from_secs(2);

/// How often one set of hooks is tried.
pub(super) const ATTEMPTS: usize = 3;

/// The same with attempts at which rings were full, which prove nothing against the hooks.
pub(super) const MOST_ATTEMPTS: usize = 10;

/// Trials that one namespace is good for: there are two sets of hooks.
const TRIALS: usize = 2 * MOST_ATTEMPTS;

/// Why a hook may be right although nothing proves it.
const FULL: &str = "the rings were full meanwhile (source.ring_bytes, source.end_ring_bytes)";

/// What is to be proven.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Trial {
    /// The hooks on packets see each once, and the end is seen.
    Packets,
    /// A sweep sees what packets moved, and the end is seen.
    Sweep,
    /// The end is seen.
    Ends,
}

/// What the packets proved.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// Every packet was seen exactly once (by a sweep: all of them), and the end with the right totals.
    EachOnce,
    /// No packet was seen.
    None,
    /// Some packets were seen never or twice, or the end was not.
    Wrong(String),
}

/// What one trial proved.
#[derive(Debug)]
pub(super) struct Outcome {
    /// About the hooks on packets.
    pub(super) packets: Verdict,
    /// Whether the hook on deletions saw the request that removed the flow.
    pub(super) deletion_is_seen: bool,
    /// Whether a ring was full meanwhile, so that what was not seen may have happened.
    pub(super) was_full: bool,
}

/// The namespace, with what was opened in it.
pub(super) struct PrivateNamespace {
    netns: u32,
    receiver: UdpSocket,
    senders: Vec<UdpSocket>,
    conntrack: NetfilterSocket,
    _tracking: Tracking,
}

impl PrivateNamespace {
    /// Makes the namespace. The calling thread stays where it is.
    pub(super) fn open() -> anyhow::Result<Self> {
        thread::spawn(Self::open_here)
            .join()
            .unwrap_or_else(|_| Err(anyhow::anyhow!("the self-test's thread panicked")))
    }

    fn open_here() -> anyhow::Result<Self> {
        unshare(CloneFlags::CLONE_NEWNET).context("no network namespace of its own")?;
        interface::bring_up("lo").context("its loopback interface cannot be brought up")?;
        let tracking = Tracking::enable().context("its connections cannot be tracked")?;
        fs::write("/proc/sys/net/netfilter/nf_conntrack_acct", "1")
            .context("its accounting cannot be switched on")?;
        let receiver = UdpSocket::bind((ADDRESS, 0))?;
        receiver.set_nonblocking(true)?;
        let senders = (0..TRIALS).map(|_| sender(&receiver)).collect::<io::Result<_>>()?;
        let conntrack = NetfilterSocket::open().context("its connections cannot be flushed")?;
        Ok(Self { netns: netns::current()?.inode, receiver, senders, conntrack, _tracking: tracking })
    }

    /// Inode of the namespace.
    pub(super) const fn netns(&self) -> u32 {
        self.netns
    }

    /// Sends packets past the hooks that are attached now, and judges what they said.
    pub(super) fn run(&mut self, side: &mut KernelSide, trial: Trial) -> anyhow::Result<Outcome> {
        let sender = self.senders.pop().context("the self-test ran too often")?;
        let mut seen = Seen::default();
        // Nobody has read what others moved since the hooks were attached; where that is full, the flow has no room.
        self.announce(side, &mut seen)?;
        let full_before = side.times_full();
        self.send(&sender, 1, side, &mut seen)?;
        if trial == Trial::Sweep {
            self.await_announced(side, &mut seen)?;
        }
        self.send(&sender, PACKETS - 1, side, &mut seen)?;
        if let (Trial::Sweep, Some(flow)) = (trial, seen.flow) {
            sweep(side, flow, &mut seen)?;
        }
        let patience = if trial == Trial::Ends { Duration::ZERO } else { UPDATE_PATIENCE };
        self.collect(side, &mut seen, patience, |seen| seen.has_every_update(trial));
        conntrack::flush(&self.conntrack).context("the self-test's flow cannot be removed")?;
        self.collect(side, &mut seen, END_PATIENCE, |seen| seen.end.is_some());
        let was_full = side.times_full() != full_before;
        let packets = match seen.verdict(trial) {
            Verdict::None if was_full => Verdict::Wrong(FULL.to_owned()),
            Verdict::Wrong(why) if was_full => Verdict::Wrong(format!("{why}; {FULL}")),
            verdict => verdict,
        };
        Ok(Outcome { packets, deletion_is_seen: seen.end_was_requested, was_full })
    }

    /// Waits for the flow's announcement.
    fn await_announced(&self, side: &mut KernelSide, seen: &mut Seen) -> anyhow::Result<()> {
        let started = Instant::now();
        loop {
            self.announce(side, seen)?;
            if seen.flow.is_some() || started.elapsed() > UPDATE_PATIENCE {
                return Ok(());
            }
            thread::sleep(Duration::from_millis(1));
        }
    }

    /// Has all flows announced that wait for it. Small rings do not hold them all at once.
    fn announce(&self, side: &mut KernelSide, seen: &mut Seen) -> anyhow::Result<()> {
        let started = Instant::now();
        loop {
            let more_wait = side.announce_some()?;
            self.read(side, seen);
            if !more_wait || started.elapsed() > END_PATIENCE {
                return Ok(());
            }
        }
    }

    /// Sends packets, and has the rings empty for each.
    fn send(
        &self,
        sender: &UdpSocket,
        packets: u64,
        side: &mut KernelSide,
        seen: &mut Seen,
    ) -> io::Result<()> {
        for _ in 0..packets {
            sender.send(PAYLOAD)?;
            self.discard_received();
            self.read(side, seen);
        }
        Ok(())
    }

    fn discard_received(&self) {
        let mut buffer = [0u8; 64];
        while self.receiver.recv(&mut buffer).is_ok() {}
    }

    /// Reads the rings until `complete` or out of patience; nobody is out of patience with a ring whose next record is
    /// still being written.
    fn collect(
        &self,
        side: &mut KernelSide,
        seen: &mut Seen,
        patience: Duration,
        complete: impl Fn(&Seen) -> bool,
    ) {
        let started = Instant::now();
        loop {
            self.read(side, seen);
            let patience = if side.is_held_up() { patience.max(END_PATIENCE) } else { patience };
            if complete(seen) || started.elapsed() > patience {
                return;
            }
            thread::sleep(Duration::from_millis(1));
        }
    }

    /// Reads the rings, and keeps the events of others.
    fn read(&self, side: &mut KernelSide, seen: &mut Seen) {
        let mut others = Vec::new();
        read_ring(side.updates(), self.netns, seen, &mut others);
        read_ring(side.ends(), self.netns, seen, &mut others);
        read_ring(side.overflow(), self.netns, seen, &mut others);
        side.set_aside(others);
    }
}

/// What the hooks said of the test's flow.
#[derive(Debug, Default)]
struct Seen {
    /// Total packets in each update, as they came.
    updates: Vec<u64>,
    /// Total packets at the end.
    end: Option<u64>,
    /// Whether the end told that it came by request.
    end_was_requested: bool,
    /// Address and birth of the flow.
    flow: Option<(u64, u64)>,
}

impl Seen {
    fn note(&mut self, event: &Event) {
        self.flow.get_or_insert((event.conntrack, event.born_ns));
        let counter = &event.counters[0];
        // A total that does not fit the packets is noted as a packet that never was.
        let packets = if counter.bytes == counter.packets * PACKET_BYTES { counter.packets } else { 0 };
        match event.kind {
            EventKind::END => {
                self.end = Some(packets);
                self.end_was_requested = event.flags & EventFlags::DELETED_BY_NETLINK != 0;
            }
            // A typed program announces the flow by its first packet, a probe by its second.
            _ if packets != 1 => self.updates.push(packets),
            _ => {}
        }
    }

    /// The first packet is not in the kernel's table yet when it is accounted; every later one must speak once. A sweep
    /// tells of all at once.
    fn has_every_update(&self, trial: Trial) -> bool {
        match trial {
            Trial::Packets => self.updates.iter().copied().eq(2..=PACKETS),
            Trial::Sweep => self.updates == [PACKETS],
            Trial::Ends => true,
        }
    }

    fn verdict(&self, trial: Trial) -> Verdict {
        if self.has_every_update(trial) && self.end == Some(PACKETS) {
            return Verdict::EachOnce;
        }
        if self.updates.is_empty() && self.end == Some(PACKETS) {
            return Verdict::None;
        }
        Verdict::Wrong(format!(
            "of {PACKETS} packets it saw numbers {:?}, and {:?} in all at the end",
            self.updates, self.end
        ))
    }
}

/// Has the test's flow looked at, of which the first packet is known.
fn sweep(side: &mut KernelSide, (conntrack, born_ns): (u64, u64), seen: &mut Seen) -> anyhow::Result<()> {
    let known = Visit { conntrack, born_ns, packets: 1, ..Visit::default() };
    side.sweep(&mut [known], |_, event| seen.note(event)).map(drop)
}

fn read_ring(ring: &mut Ring, netns: u32, seen: &mut Seen, others: &mut Vec<Event>) {
    while let Some(item) = ring.take() {
        match Event::read_from_bytes(item) {
            Ok(event) if event.netns == netns => seen.note(&event),
            Ok(event) => others.push(event),
            Err(_) => {
                tracing::error!(bytes = item.len(), "an event of the wrong size came from the kernel side")
            }
        }
    }
    ring.give_back();
}

fn sender(receiver: &UdpSocket) -> io::Result<UdpSocket> {
    let sender = UdpSocket::bind((ADDRESS, 0))?;
    sender.connect(receiver.local_addr()?)?;
    Ok(sender)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seen_in(trial: Trial, updates: &[u64], end: Option<u64>) -> Verdict {
        Seen { updates: updates.to_vec(), end, end_was_requested: true, flow: None }.verdict(trial)
    }

    fn seen(updates: &[u64], end: Option<u64>) -> Verdict {
        seen_in(Trial::Packets, updates, end)
    }

    #[test]
    fn a_sweep_is_proven_by_one_update_with_all_packets() {
        assert_eq!(seen_in(Trial::Sweep, &[6], Some(6)), Verdict::EachOnce);
        assert_eq!(seen_in(Trial::Sweep, &[], Some(6)), Verdict::None);
        assert!(matches!(seen_in(Trial::Sweep, &[5], Some(6)), Verdict::Wrong(_)));
        assert!(matches!(seen_in(Trial::Sweep, &[6], Some(5)), Verdict::Wrong(_)));
        assert_eq!(seen_in(Trial::Ends, &[], Some(6)), Verdict::EachOnce);
    }

    #[test]
    fn a_hook_is_proven_only_by_every_packet_once() {
        assert_eq!(seen(&[2, 3, 4, 5, 6], Some(6)), Verdict::EachOnce);
        assert_eq!(seen(&[], Some(6)), Verdict::None);
        assert!(matches!(seen(&[2, 3, 3, 4, 5, 6], Some(6)), Verdict::Wrong(_)));
        assert!(matches!(seen(&[2, 4, 6], Some(6)), Verdict::Wrong(_)));
        assert!(matches!(seen(&[2, 3, 4, 5, 6], Some(7)), Verdict::Wrong(_)));
        assert!(matches!(seen(&[2, 3, 4, 5, 6], None), Verdict::Wrong(_)));
        assert!(matches!(seen(&[], None), Verdict::Wrong(_)));
    }
}
