//! The thread of the netlink source: it follows namespaces, reads events and dumps, and sends what they told.

use std::{
    collections::HashSet,
    io,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use tokio::sync::mpsc;

use super::{
    Delivery, NetlinkOptions, Shared,
    clock::Moment,
    known::Rules,
    looks::Looks,
    losses::count,
    watch::{EVENTS, Turn, Watch},
};
use crate::{
    kernel::{
        netlink::{conntrack::ConntrackMessage, socket::DATAGRAM},
        netns::{self, Namespace},
    },
    model::{Observation, RateCurve},
    source::Look,
};

/// How long nothing may happen before an empty delivery says so.
const IDLE: Duration = Duration::from_millis(100);

/// Events that come within this time are delivered together: a wake-up for each would cost more than it tells.
const GATHER: Duration = Duration::from_millis(5);

/// How often new namespaces are looked for.
const SCAN: Duration = Duration::from_secs(1);

/// How often the places of the known ones are looked at.
const LOOK: Duration = Duration::from_millis(100);

/// How often losses are told of in the log, at most.
const WARN: Duration = Duration::from_secs(10);

/// Observations that are delivered together, about.
const DELIVERY: usize = 4096;

/// How long the start waits for the first dumps.
const FIRST_LOOK: Duration = Duration::from_secs(5);

/// Observations that may wait for the start's end: 50 MB.
const BACKLOG: usize = 1 << 18;

/// How long the end waits for the last dumps, and then for the last events.
const LAST_LOOK: Duration = Duration::from_secs(3);

/// Owns every socket and all that is known of the flows.
#[derive(Debug)]
pub(super) struct Worker {
    options: NetlinkOptions,
    rules: Rules,
    shared: Arc<Shared>,
    sender: mpsc::Sender<Delivery>,
    watches: Vec<Watch>,
    /// Namespaces that were refused: told of once.
    refused: HashSet<u32>,
    next_scan: Instant,
    next_look: Instant,
    next_warning: Instant,
    overflows_told: u64,
    looks: Looks,
    buffer: Vec<u8>,
    part: Vec<ConntrackMessage>,
    out: Vec<Observation>,
}

impl Worker {
    /// Listens in the calling thread's namespace.
    pub(super) fn new(
        options: NetlinkOptions,
        shared: Arc<Shared>,
        sender: mpsc::Sender<Delivery>,
    ) -> io::Result<Self> {
        let rules = Rules {
            curve: RateCurve::new(&options.rate_curve),
            early_ns: u64::try_from(options.dump_interval.as_nanos() / 2).unwrap_or(u64::MAX),
            since_real_ns: Moment::now().real_ns,
            max_flows: options.max_flows,
            tracked: Arc::new(AtomicUsize::new(0)),
        };
        let now = Instant::now();
        let looks = Looks::new(options.looks);
        let mut worker = Self {
            options,
            rules,
            shared,
            sender,
            watches: Vec::new(),
            refused: HashSet::new(),
            next_scan: now,
            next_look: now,
            next_warning: now,
            overflows_told: 0,
            looks,
            buffer: vec![0; DATAGRAM],
            part: Vec::new(),
            out: Vec::new(),
        };
        let own = netns::current()?;
        if !worker.options.ignore_netns.contains(&own.inode) {
            worker.watch(&own)?;
        }
        Ok(worker)
    }

    /// Reports every flow that is there at the start, of each reachable namespace. What it finds waits for the
    /// first delivery.
    pub(super) fn prepare(&mut self) {
        let until = Instant::now() + FIRST_LOOK;
        loop {
            self.follow_namespaces();
            self.read_events();
            self.dump();
            let late = self.names(|watch| !watch.has_baseline());
            if late.is_empty() {
                return;
            }
            if Instant::now() > until || self.out.len() > BACKLOG {
                tracing::warn!(
                    "flows of these network namespaces are not all known yet, and what they moved before they are is \
                     not accounted: {late}"
                );
                return;
            }
            self.breathe();
        }
    }

    /// Works until it is told to stop or nobody reads any more.
    pub(super) fn run(mut self) {
        while !self.shared.stop.load(Ordering::Acquire) {
            let as_of = self.shared.handed.load(Ordering::Acquire);
            self.follow_namespaces();
            let settled = self.read_events();
            self.dump();
            self.warn();
            let look = self.looks.advance(&mut self.watches);
            if self.deliver(settled.then_some(as_of), look).is_none() {
                return;
            }
            self.wait(settled);
        }
        // When nobody reads any more there is nobody to tell.
        let _ = self.finish();
    }

    /// Tells what living flows moved since they were last reported, and then what events are left. `None` when
    /// nobody reads any more.
    fn finish(&mut self) -> Option<()> {
        self.look_last()?;
        let until = Instant::now() + LAST_LOOK;
        loop {
            let as_of = self.shared.handed.load(Ordering::Acquire);
            let settled = self.read_events();
            self.deliver(settled.then_some(as_of), None)?;
            if settled || Instant::now() > until {
                return Some(());
            }
        }
    }

    fn look_last(&mut self) -> Option<()> {
        self.watches.iter_mut().for_each(Watch::hurry);
        let until = Instant::now() + LAST_LOOK;
        loop {
            self.read_events();
            self.dump();
            self.deliver(None, None)?;
            let late = self.names(|watch| !watch.has_looked());
            if late.is_empty() {
                return Some(());
            }
            if Instant::now() > until {
                tracing::warn!(
                    "the latest bytes of flows in these network namespaces are not accounted: {late}"
                );
                return Some(());
            }
            self.breathe();
        }
    }

    /// The namespaces of which this is so.
    fn names(&self, is_so: impl Fn(&Watch) -> bool) -> String {
        let watches = self.watches.iter().filter(|watch| is_so(watch));
        let names = watches.map(|watch| match watch.name() {
            Some(name) => format!("{} ({name})", watch.inode()),
            None => watch.inode().to_string(),
        });
        names.collect::<Vec<_>>().join(", ")
    }

    /// Between dumps of which none is under way.
    fn breathe(&self) {
        if !self.watches.iter().any(Watch::is_dumping) {
            thread::sleep(GATHER);
        }
    }

    /// True when every event socket was read until empty.
    fn read_events(&mut self) -> bool {
        let (watches, mut turn) = self.turn();
        let mut empty = true;
        for watch in watches {
            empty &= watch.read_events(&mut turn, EVENTS);
        }
        empty
    }

    fn dump(&mut self) {
        let interval = self.options.dump_interval;
        let (watches, mut turn) = self.turn();
        for watch in watches {
            watch.start_dump(&mut turn, interval);
            watch.continue_dump(&mut turn);
        }
    }

    fn turn(&mut self) -> (&mut Vec<Watch>, Turn<'_>) {
        let Self { watches, buffer, part, out, shared, .. } = self;
        (watches, Turn { buffer, part, out, losses: &shared.losses })
    }

    /// In pieces, of which the last one says `as_of` and `look`. `None` when nobody reads any more.
    fn deliver(&mut self, as_of: Option<u64>, mut look: Option<Look>) -> Option<()> {
        let mut rest = std::mem::take(&mut self.out).into_iter();
        loop {
            let observations = rest.by_ref().take(DELIVERY).collect();
            let is_last = rest.len() == 0;
            let as_of = as_of.filter(|_| is_last);
            let look = look.take_if(|_| is_last);
            self.sender.blocking_send(Delivery { observations, as_of, look }).ok()?;
            if is_last {
                return Some(());
            }
        }
    }

    /// Until an event comes or it is time to look around, unless there is work.
    fn wait(&self, settled: bool) {
        if !settled || self.watches.iter().any(Watch::is_dumping) {
            return;
        }
        let mut sockets: Vec<_> =
            self.watches.iter().map(|w| PollFd::new(w.event_socket(), PollFlags::POLLIN)).collect();
        let next_dump = self.watches.iter().map(Watch::next_dump).min();
        let until_dump = next_dump.map_or(IDLE, |at| at.saturating_duration_since(Instant::now()));
        let timeout = PollTimeout::try_from(until_dump.min(IDLE)).unwrap_or(PollTimeout::ZERO);
        if !matches!(poll(&mut sockets, timeout), Ok(0)) {
            thread::sleep(GATHER);
        }
    }

    /// Looks for namespaces that came or went: often at the places of the known ones, as the agent's sockets keep
    /// alive what others have left; now and then everywhere.
    fn follow_namespaces(&mut self) {
        let now = Instant::now();
        if now < self.next_look {
            return;
        }
        self.next_look = now + LOOK;
        if now < self.next_scan && self.watches.iter().all(Watch::is_in_place) {
            return;
        }
        self.next_scan = now + SCAN;
        let inodes = netns::reachable_inodes();
        self.leave(&inodes);
        let all_known = inodes.iter().all(|inode| self.is_known(*inode));
        if all_known && self.watches.iter().all(Watch::is_in_place) {
            return;
        }
        for namespace in netns::reachable() {
            self.meet(&namespace);
        }
    }

    fn is_known(&self, inode: u32) -> bool {
        self.options.ignore_netns.contains(&inode) || self.watches.iter().any(|w| w.inode() == inode)
    }

    /// Ends the flows of namespaces that nobody can reach any more.
    fn leave(&mut self, inodes: &HashSet<u32>) {
        self.refused.retain(|inode| inodes.contains(inode));
        let (watches, mut turn) = self.turn();
        for left in watches.extract_if(.., |watch| !inodes.contains(&watch.inode())) {
            tracing::info!(netns = left.inode(), "network namespace is gone");
            left.dissolve(&mut turn);
        }
    }

    fn meet(&mut self, namespace: &Namespace) {
        if let Some(watch) = self.watches.iter_mut().find(|w| w.inode() == namespace.inode) {
            watch.move_to(namespace.place());
        } else if !self.is_known(namespace.inode)
            && let Err(error) = self.watch(namespace)
            && self.refused.insert(namespace.inode)
        {
            count(&self.shared.losses.namespace_refused);
            let (netns, name) = (namespace.inode, namespace.name.as_deref());
            tracing::error!(netns, name, %error, "flows of this network namespace are not seen; run with CAP_SYS_ADMIN and CAP_NET_ADMIN");
        }
    }

    fn watch(&mut self, namespace: &Namespace) -> io::Result<()> {
        let wanted = self.options.receive_buffer;
        let watch = Watch::open(namespace, wanted, self.rules.clone())?;
        let granted = watch.receive_buffer()?;
        let (netns, name) = (namespace.inode, namespace.name.as_deref());
        tracing::debug!(netns, name, granted, "listening to conntrack by netlink");
        if granted < wanted {
            tracing::warn!(
                netns,
                name,
                wanted,
                granted,
                "the netlink receive buffer is smaller than asked for; raise net.core.rmem_max or run with CAP_NET_ADMIN"
            );
        }
        if watch.events_are_off() {
            count(&self.shared.losses.events_off);
            tracing::warn!(
                netns,
                name,
                "the kernel tells nothing of flows here that begin or end: those shorter than a second are not seen; run \
                 `sysctl -w net.netfilter.nf_conntrack_events=1` in this network namespace and start the agent again"
            );
        }
        self.watches.push(watch);
        Ok(())
    }

    /// An overflow is mended by the dump that follows, yet a person may want a larger buffer.
    fn warn(&mut self) {
        let overflows = self.shared.losses.overflow.load(Ordering::Relaxed);
        if overflows > self.overflows_told && Instant::now() >= self.next_warning {
            let times = overflows - self.overflows_told;
            tracing::warn!(
                times,
                "conntrack events came faster than they were read and were found by dumps instead; enlarge the receive buffer"
            );
            self.overflows_told = overflows;
            self.next_warning = Instant::now() + WARN;
        }
    }
}
