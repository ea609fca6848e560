//! One network namespace under watch: its sockets, its dump under way, its known flows.

use std::{
    fs, io,
    os::fd::{AsFd, BorrowedFd},
    time::{Duration, Instant},
};

use super::{
    clock::Moment,
    known::{CHEAP, Known, Rules},
    losses::{LossCounters, count},
};
use crate::{
    kernel::{
        netlink::{
            conntrack::{self, ConntrackMessage, MESSAGE_DELETE, MESSAGE_NEW},
            dump::{Dump, DumpProgress},
            message::Messages,
            socket::{GROUP_DESTROY, GROUP_NEW, NetfilterSocket},
        },
        netns::{Namespace, Place, within},
    },
    model::Observation,
};

/// Datagrams of a dump that are read before events get their turn.
const DUMP_DATAGRAMS: usize = 8;

/// Events that are read at most before other work gets its turn.
pub(super) const EVENTS: usize = 4096;

/// Events that are read at most before flows are judged. With more of them waiting the next dump judges.
const CATCH_UP: usize = 1 << 16;

/// How long after an overflow nothing is found gone: the kernel repeats undelivered ends every 10 ms until they are
/// delivered or overflow the socket again.
/// <https://github.com/torvalds/linux/blob/v6.12/net/netfilter/nf_conntrack_ecache.c#L33>
const REPEATS: Duration = Duration::from_secs(2);

/// What a turn of work needs besides the watch itself.
pub(super) struct Turn<'a> {
    pub(super) buffer: &'a mut [u8],
    /// Flows of one datagram of a dump.
    pub(super) part: &'a mut Vec<ConntrackMessage>,
    pub(super) out: &'a mut Vec<Observation>,
    pub(super) losses: &'a LossCounters,
}

/// Whether events are made in a namespace: 0 never, 1 always, 2 (since 5.19) for flows that begin while somebody listens.
/// <https://docs.kernel.org/networking/nf_conntrack-sysctl.html>
const EVENTS_SWITCH: &str = "/proc/sys/net/netfilter/nf_conntrack_events";

/// How far a dump that reports each flow has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Recital {
    Unasked,
    Asked,
    Running,
    Done,
}

/// A namespace under watch. Its sockets keep the namespace alive, so it must be dissolved soon after everyone else
/// has left.
#[derive(Debug)]
pub(super) struct Watch {
    inode: u32,
    name: Option<String>,
    place: Place,
    events: NetfilterSocket,
    requests: NetfilterSocket,
    events_are_off: bool,
    known: Known,
    dump: Option<Dump>,
    sequence: u32,
    /// Entries of the table when it was last asked.
    entries: u32,
    dump_started: Instant,
    next_dump: Instant,
    /// Not even an overflow makes a dump come sooner.
    pause_until: Instant,
    /// Events were lost: the next dump is wanted whatever the figures say.
    urgent: bool,
    last_overflow: Option<Instant>,
    dissolving: bool,
    /// When a last look was asked for.
    hurried: Option<Instant>,
    /// A dump that began after that was complete.
    has_looked: bool,
    recital: Recital,
}

impl Watch {
    /// Listens first and dumps later, so that nothing falls between.
    pub(super) fn open(namespace: &Namespace, receive_buffer: usize, rules: Rules) -> io::Result<Self> {
        let (events, requests, switch) = within(namespace, || {
            let events = NetfilterSocket::listen(receive_buffer, &[GROUP_NEW, GROUP_DESTROY])?;
            io::Result::Ok((events, NetfilterSocket::open()?, fs::read_to_string(EVENTS_SWITCH)))
        })??;
        let now = Instant::now();
        Ok(Self {
            inode: namespace.inode,
            name: namespace.name.clone(),
            place: namespace.place(),
            events,
            requests,
            // Where it cannot be read, the kernel was built without, and tells everything.
            events_are_off: switch.is_ok_and(|switch| switch.trim() == "0"),
            known: Known::new(namespace.inode, rules),
            dump: None,
            sequence: 0,
            entries: 0,
            dump_started: now,
            next_dump: now,
            pause_until: now,
            urgent: true,
            last_overflow: None,
            dissolving: false,
            hurried: None,
            has_looked: false,
            recital: Recital::Unasked,
        })
    }

    pub(super) const fn inode(&self) -> u32 {
        self.inode
    }

    pub(super) fn name(&self) -> Option<&str> {
        self.name.as_deref()
    }

    /// Whether the kernel was told to say nothing of flows that begin or end.
    pub(super) const fn events_are_off(&self) -> bool {
        self.events_are_off
    }

    /// Whether every flow that was there at first has been reported.
    pub(super) const fn has_baseline(&self) -> bool {
        self.known.has_baseline()
    }

    /// Asks for one more dump, of everything that moved.
    pub(super) fn hurry(&mut self) {
        let now = Instant::now();
        self.known.hurry();
        self.urgent = true;
        self.next_dump = now;
        self.hurried = Some(now);
    }

    /// Whether that dump was complete.
    pub(super) const fn has_looked(&self) -> bool {
        self.has_looked
    }

    /// Asks for a dump that reports each flow, moved or not.
    pub(super) fn recite(&mut self) {
        self.recital = Recital::Asked;
        self.next_dump = Instant::now();
    }

    /// Whether that dump was complete.
    pub(super) fn has_recited(&self) -> bool {
        self.recital == Recital::Done
    }

    /// Whether there are flows that are not kept in mind.
    pub(super) const fn is_overfull(&self) -> bool {
        self.known.is_overfull()
    }

    /// The bytes that the kernel granted to the event socket.
    pub(super) fn receive_buffer(&self) -> io::Result<usize> {
        self.events.receive_buffer()
    }

    pub(super) fn event_socket(&self) -> BorrowedFd<'_> {
        self.events.as_fd()
    }

    /// Whether the namespace is still where it was found. Cheap.
    pub(super) fn is_in_place(&self) -> bool {
        self.place.holds()
    }

    /// When it wants to be dumped.
    pub(super) const fn next_dump(&self) -> Instant {
        self.next_dump
    }

    /// Follows the namespace to another place.
    pub(super) fn move_to(&mut self, place: Place) {
        self.place = place;
    }

    pub(super) const fn is_dumping(&self) -> bool {
        self.dump.is_some()
    }

    /// Reads events until there are none, or `limit` of them: with a listener beside it that is full, the kernel
    /// repeats ends faster than they can be read. True when there are none.
    pub(super) fn read_events(&mut self, turn: &mut Turn<'_>, limit: usize) -> bool {
        for _ in 0..limit {
            let datagram = match self.events.receive(turn.buffer) {
                Ok(datagram) => datagram,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return true,
                Err(error) if error.raw_os_error() == Some(libc::ENOBUFS) => {
                    self.overflowed(turn.losses);
                    continue;
                }
                Err(error) => {
                    count(&turn.losses.malformed);
                    tracing::debug!(netns = self.inode, %error, "cannot read conntrack events");
                    return true;
                }
            };
            let now = Moment::now();
            for message in Messages::new(datagram) {
                let flow = message.and_then(|message| match message.kind {
                    MESSAGE_NEW | MESSAGE_DELETE => conntrack::decode(&message).map(Some),
                    _ => Ok(None),
                });
                match flow {
                    Ok(Some(flow)) if flow.destroyed => self.known.ended(&flow, now, turn.out),
                    Ok(Some(flow)) => self.known.born(&flow, now, turn.out),
                    Ok(None) => {}
                    Err(_) => count(&turn.losses.malformed),
                }
            }
        }
        false
    }

    /// The kernel repeats the ends that it could not deliver; births are found by a dump at once.
    fn overflowed(&mut self, losses: &LossCounters) {
        count(&losses.overflow);
        self.urgent = true;
        let now = Instant::now();
        self.next_dump = self.pause_until.max(now);
        self.last_overflow = Some(now);
        tracing::debug!(netns = self.inode, "conntrack events overflowed the netlink socket");
    }

    /// Starts a dump when it is time for one and it could tell something.
    pub(super) fn start_dump(&mut self, turn: &mut Turn<'_>, interval: Duration) {
        let now = Instant::now();
        if self.dump.is_some() || now < self.dump_time(interval) {
            return;
        }
        self.next_dump = now + interval;
        self.dump_started = now;
        if let Err(error) = self.try_start_dump(turn) {
            self.dump_failed(&error, turn.losses);
        }
    }

    /// A new flow is not kept waiting for the counters that report it where a dump costs little.
    fn dump_time(&self, interval: Duration) -> Instant {
        if self.known.has_births() && self.entries <= CHEAP {
            self.next_dump.min(self.dump_started + interval / 4).max(self.pause_until)
        } else {
            self.next_dump
        }
    }

    fn try_start_dump(&mut self, turn: &mut Turn<'_>) -> io::Result<()> {
        self.sequence = self.sequence.wrapping_add(1);
        let entries = conntrack::entries(&self.requests, self.sequence)?;
        self.entries = entries;
        let reciting = self.recital == Recital::Asked;
        if reciting {
            self.recital = Recital::Running;
        }
        if entries == 0 {
            self.finish_dump(turn);
            return Ok(());
        }
        if self.urgent || self.dissolving || reciting || self.known.wants_dump(entries, Moment::now()) {
            self.sequence = self.sequence.wrapping_add(1);
            self.known.begin_dump(reciting);
            self.dump = Some(Dump::start(&self.requests, self.sequence)?);
        }
        Ok(())
    }

    /// Reads a part of the dump under way.
    pub(super) fn continue_dump(&mut self, turn: &mut Turn<'_>) {
        for _ in 0..DUMP_DATAGRAMS {
            let Some(mut dump) = self.dump.take() else { return };
            match self.read_dump(&mut dump, turn) {
                Ok(DumpProgress::More) => self.dump = Some(dump),
                Ok(DumpProgress::Complete) => self.finish_dump(turn),
                Ok(DumpProgress::Interrupted) => self.pause(),
                Err(error) => self.dump_failed(&error, turn.losses),
            }
        }
    }

    /// Takes in the next datagram of the dump after the events of all that happened before it: so the birth of a
    /// flow is known before the flow is seen, and the end of one before the next in its place is.
    fn read_dump(&mut self, dump: &mut Dump, turn: &mut Turn<'_>) -> io::Result<DumpProgress> {
        turn.part.clear();
        let progress = dump.next(&self.requests, turn.buffer, |flow| match flow {
            Ok(flow) => turn.part.push(flow),
            Err(_) => count(&turn.losses.malformed),
        });
        self.read_events(turn, EVENTS);
        let now = Moment::now();
        for flow in turn.part.iter() {
            if self.dissolving {
                self.known.dissolved(flow, now, turn.out);
            } else if !self.known.dumped(flow, now, turn.out) {
                count(&turn.losses.table_full);
            }
        }
        progress
    }

    /// An end that the kernel told of while the dump ran must be known before anything is found gone.
    fn finish_dump(&mut self, turn: &mut Turn<'_>) {
        self.urgent = false;
        self.known.completed();
        self.has_looked = self.hurried.is_some_and(|since| self.dump_started >= since);
        let all_read = self.read_events(turn, CATCH_UP);
        let ends_may_be_repeated = self.last_overflow.is_some_and(|last| last.elapsed() < REPEATS);
        if all_read && !ends_may_be_repeated {
            self.known.judge(Moment::now(), turn.out);
            if self.recital == Recital::Running {
                self.recital = Recital::Done;
            }
        }
        self.pause();
    }

    fn dump_failed(&mut self, error: &io::Error, losses: &LossCounters) {
        count(&losses.dump_failed);
        self.pause();
        tracing::debug!(netns = self.inode, %error, "cannot dump conntrack, trying again");
    }

    /// Dumping takes half of a core at most.
    fn pause(&mut self) {
        self.known.end_dump();
        if self.recital == Recital::Running {
            self.recital = Recital::Asked;
        }
        self.pause_until = Instant::now() + self.dump_started.elapsed();
        self.next_dump = self.next_dump.max(self.pause_until);
    }

    /// Everyone has left the namespace: reads its flows a last time and ends them. Takes the time of a dump.
    pub(super) fn dissolve(mut self, turn: &mut Turn<'_>) {
        self.finish_running_dump(turn);
        self.dissolving = true;
        if let Err(error) = self.try_start_dump(turn) {
            self.dump_failed(&error, turn.losses);
        }
        self.finish_running_dump(turn);
        self.known.abandon(Moment::now(), turn.out);
    }

    fn finish_running_dump(&mut self, turn: &mut Turn<'_>) {
        while self.dump.is_some() {
            self.continue_dump(turn);
        }
        self.read_events(turn, CATCH_UP);
    }
}
