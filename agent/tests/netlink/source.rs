//! The netlink source against the running kernel: births, updates, ends, namespaces that come and go.

use std::{
    collections::HashMap,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use crate::namespace::{TestNamespace, tcp, udp};
use conntally::{
    kernel::{
        netlink::{conntrack, socket::NetfilterSocket},
        netns::within,
        tracking::Tracking,
    },
    model::{EndReason, Observation, ObservationKind, Totals},
    source::{
        Batch, Progress, Scope, Source,
        netlink::{NetlinkOptions, NetlinkSource, dump_all},
    },
};

/// IPv4 and UDP headers and 100 bytes of payload.
const DATAGRAM: u64 = 20 + 8 + 100;

/// A source and everything it has said of one namespace.
struct Listener {
    source: NetlinkSource,
    netns: u32,
    heard: Vec<Observation>,
}

impl Listener {
    fn start(netns: u32) -> Self {
        Self::with(netns, quick())
    }

    fn with(netns: u32, options: NetlinkOptions) -> Self {
        Self { source: NetlinkSource::start(options).unwrap(), netns, heard: Vec::new() }
    }

    async fn read(&mut self) -> bool {
        let mut batch = Batch::default();
        self.source.read(&mut batch).await.unwrap();
        self.keep(&batch);
        batch.settled
    }

    fn keep(&mut self, batch: &Batch) {
        self.heard.extend(batch.observations.iter().filter(|o| o.netns == self.netns));
    }

    /// The first observation of that kind of the flow from that port.
    async fn wait_for(&mut self, kind: ObservationKind, port: u16) -> Observation {
        let deadline = Instant::now() + Duration::from_secs(10);
        while Instant::now() < deadline {
            if let Some(found) = self.heard.iter().find(|o| o.kind == kind && o.original.src_port == port) {
                return *found;
            }
            self.read().await;
        }
        panic!("no {kind:?} of port {port} in {:#?}", self.heard);
    }

    /// Reads until the source has surely seen the namespace.
    async fn wait_until_watching(&mut self, ns: &TestNamespace) {
        send(ns, 4_000, 1);
        self.wait_for_any(4_000).await;
    }

    async fn wait_for_any(&mut self, port: u16) {
        let deadline = Instant::now() + Duration::from_secs(10);
        while !self.heard.iter().any(|o| o.original.src_port == port) {
            assert!(Instant::now() < deadline, "the namespace was not found");
            self.read().await;
        }
    }

    async fn drain(&mut self) {
        loop {
            let mut batch = Batch::default();
            let progress = self.source.drain(&mut batch).await.unwrap();
            self.keep(&batch);
            if progress == Progress::Finished {
                return;
            }
        }
    }

    fn count(&self, kind: ObservationKind, port: u16) -> usize {
        self.heard.iter().filter(|o| o.kind == kind && o.original.src_port == port).count()
    }
}

/// Options with which a test need not wait for seconds.
fn quick() -> NetlinkOptions {
    NetlinkOptions {
        dump_interval: Duration::from_millis(100),
        rate_curve: vec![(Duration::ZERO, Duration::from_millis(200))],
        ..NetlinkOptions::default()
    }
}

fn send(ns: &TestNamespace, port: u16, datagrams: u32) {
    let from = format!("127.0.0.1:{port}");
    within(ns.namespace(), || udp(&from, "127.0.0.1:53", datagrams)).unwrap();
}

fn flush(ns: &TestNamespace) {
    within(ns.namespace(), || conntrack::flush(&NetfilterSocket::open().unwrap()).unwrap()).unwrap();
}

fn tracked(purpose: &str) -> Option<(TestNamespace, Tracking)> {
    let ns = TestNamespace::create(purpose)?;
    let tracking = within(ns.namespace(), Tracking::enable).unwrap().unwrap();
    Some((ns, tracking))
}

fn datagrams(totals: &Totals) -> (u64, u64) {
    (totals.original.packets, totals.original.bytes)
}

#[tokio::test]
async fn a_flow_is_new_then_updated_then_ended_with_exact_totals() {
    let Some((ns, _tracking)) = tracked("life") else { return };
    let mut listener = Listener::start(ns.namespace().inode);
    listener.wait_until_watching(&ns).await;

    send(&ns, 5_001, 3);
    let new = listener.wait_for(ObservationKind::New, 5_001).await;
    assert_eq!(datagrams(&new.totals), (3, 3 * DATAGRAM));
    assert!(new.has_counters && new.start_ns != 0 && new.original.dst_port == 53);

    send(&ns, 5_001, 2);
    let update = listener.wait_for(ObservationKind::Update, 5_001).await;
    assert_eq!(datagrams(&update.totals), (5, 5 * DATAGRAM));
    assert_eq!(update.start_ns, new.start_ns);

    send(&ns, 5_001, 1);
    flush(&ns);
    let end = listener.wait_for(ObservationKind::End, 5_001).await;
    assert_eq!(datagrams(&end.totals), (6, 6 * DATAGRAM));
    assert_eq!((end.end_reason, end.start_ns), (Some(EndReason::Deleted), new.start_ns));
    assert!(end.boot_ns >= update.boot_ns);
}

#[tokio::test]
async fn a_flow_shorter_than_any_dump_is_known_by_its_end() {
    let Some((ns, _tracking)) = tracked("short") else { return };
    let mut listener = Listener::start(ns.namespace().inode);
    listener.wait_until_watching(&ns).await;
    for port in 6_000..6_050 {
        send(&ns, port, 1);
        flush(&ns);
    }
    for port in 6_000..6_050 {
        let end = listener.wait_for(ObservationKind::End, port).await;
        assert_eq!(datagrams(&end.totals), (1, DATAGRAM));
        assert_eq!(listener.count(ObservationKind::End, port), 1);
    }
}

#[tokio::test]
async fn flows_that_were_there_before_exist_and_those_without_event_are_found_gone() {
    let Some((ns, _tracking)) = tracked("before") else { return };
    send(&ns, 7_001, 4);
    let mut listener = Listener::start(ns.namespace().inode);
    let existing = listener.wait_for(ObservationKind::Existing, 7_001).await;
    assert_eq!(datagrams(&existing.totals), (4, 4 * DATAGRAM));
    flush(&ns);
    // Whether the kernel tells of the end of a flow older than the listener depends on nf_conntrack_events.
    let deadline = Instant::now() + Duration::from_secs(10);
    let ends = |l: &Listener| l.count(ObservationKind::Gone, 7_001) + l.count(ObservationKind::End, 7_001);
    while ends(&listener) == 0 && Instant::now() < deadline {
        listener.read().await;
    }
    for _ in 0..10 {
        listener.read().await;
    }
    assert_eq!(ends(&listener), 1);
}

#[tokio::test]
async fn once_started_it_knows_what_was_there_and_sees_every_birth() {
    let Some((ns, _tracking)) = tracked("ready") else { return };
    ns.sysctl("nf_conntrack_timestamp", "0");
    send(&ns, 7_001, 4);
    let mut listener = Listener::start(ns.namespace().inode);
    send(&ns, 7_001, 1);
    send(&ns, 7_002, 1);
    flush(&ns);
    let existing = listener.wait_for(ObservationKind::Existing, 7_001).await;
    assert_eq!(datagrams(&existing.totals), (4, 4 * DATAGRAM), "as it was before the start returned");
    let new = listener.wait_for(ObservationKind::New, 7_002).await;
    assert_eq!((new.start_ns, datagrams(&new.totals)), (0, (1, DATAGRAM)));
    listener.wait_for(ObservationKind::End, 7_002).await;
}

#[tokio::test]
async fn draining_tells_the_latest_totals_of_flows_that_live() {
    let Some((ns, _tracking)) = tracked("last") else { return };
    let options = NetlinkOptions {
        rate_curve: vec![(Duration::ZERO, Duration::from_secs(3_600))],
        ..NetlinkOptions::default()
    };
    send(&ns, 7_001, 4);
    let mut listener = Listener::with(ns.namespace().inode, options);
    send(&ns, 7_001, 2);
    listener.drain().await;
    let update = listener.wait_for(ObservationKind::Update, 7_001).await;
    assert_eq!(datagrams(&update.totals), (6, 6 * DATAGRAM));
}

#[tokio::test]
async fn a_namespace_that_goes_ends_its_flows_with_their_totals_and_is_let_go() {
    let Some((mut ns, tracking)) = tracked("gone") else { return };
    let mut listener = Listener::start(ns.namespace().inode);
    listener.wait_until_watching(&ns).await;
    send(&ns, 8_001, 7);
    listener.wait_for(ObservationKind::New, 8_001).await;
    send(&ns, 8_001, 2);
    // Without the table the entries stay; their last packets are told by the last dump.
    drop(tracking);
    ns.delete();
    let end = listener.wait_for(ObservationKind::End, 8_001).await;
    assert_eq!((datagrams(&end.totals), end.end_reason), ((9, 9 * DATAGRAM), Some(EndReason::Deleted)));
}

#[tokio::test]
async fn a_namespace_is_let_go_soon_after_everyone_else_has_left_it() {
    let (Some(stays), Some(mut goes)) = (TestNamespace::create("stays"), TestNamespace::create("goes"))
    else {
        return;
    };
    // The kernel removes the near end of the pair when it destroys the namespace of the far end.
    stays.run(&["ip", "link", "add", "near", "type", "veth", "peer", "name", "far"]);
    stays.run(&["ip", "link", "set", "far", "netns", goes.name()]);
    let mut listener = Listener::start(goes.namespace().inode);
    tokio::time::sleep(Duration::from_millis(1_500)).await;
    goes.delete();
    let deadline = Instant::now() + Duration::from_secs(3);
    while stays.output(&["ip", "link"]).contains("near") {
        assert!(Instant::now() < deadline, "the source keeps the namespace alive");
        listener.read().await;
    }
}

#[tokio::test]
async fn an_ignored_namespace_is_not_listened_to() {
    let Some((ns, _tracking)) = tracked("ignored") else { return };
    let inode = ns.namespace().inode;
    let options = NetlinkOptions { ignore_netns: vec![inode], ..quick() };
    let mut listener = Listener::with(inode, options);
    let deadline = Instant::now() + Duration::from_millis(1_500);
    while Instant::now() < deadline {
        send(&ns, 5_001, 1);
        listener.read().await;
    }
    assert!(listener.heard.is_empty(), "{:?}", listener.heard);
}

#[tokio::test]
async fn each_reason_of_an_end_that_the_kernel_tells_is_named() {
    let Some((ns, _tracking)) = tracked("reasons") else { return };
    ns.sysctl("nf_conntrack_udp_timeout", "1");
    ns.sysctl("nf_conntrack_tcp_timeout_time_wait", "1");
    let mut listener = Listener::start(ns.namespace().inode);
    listener.wait_until_watching(&ns).await;

    send(&ns, 5_001, 1);
    let (client, bytes) = within(ns.namespace(), || tcp("[::1]:0", 5_000)).unwrap();
    let timeout = listener.wait_for(ObservationKind::End, 5_001).await;
    assert_eq!(timeout.end_reason, Some(EndReason::Timeout));

    let closed = listener.wait_for(ObservationKind::End, client).await;
    assert_eq!(closed.end_reason, Some(EndReason::Closed));
    assert_eq!(closed.original.source().to_string(), "::1");
    let overhead = (40 + 20) * closed.totals.original.packets;
    assert!(closed.totals.original.bytes >= overhead + bytes, "{:?}", closed.totals);
    assert!(closed.totals.reply.packets >= 3, "{:?}", closed.totals);
}

#[tokio::test]
async fn pings_of_both_families_have_type_code_and_identifier() {
    let Some((ns, _tracking)) = tracked("ping") else { return };
    let mut listener = Listener::start(ns.namespace().inode);
    listener.wait_until_watching(&ns).await;
    for (address, asked, answered, size) in [("127.0.0.1", 8, 0, 84), ("::1", 128, 129, 104)] {
        ns.run(&["ping", "-q", "-c", "2", "-i", "0.2", "-e", "4711", address]);
        flush(&ns);
        let end = listener.wait_for(ObservationKind::End, 4711).await;
        assert_eq!(end.original.destination().to_string(), address);
        assert_eq!((end.original.dst_port, end.reply.dst_port), (asked << 8, answered << 8));
        assert_eq!((end.totals.original.packets, end.totals.reply.packets), (2, 2));
        assert_eq!(end.totals.original.bytes, 2 * size);
        listener.heard.clear();
    }
}

/// The same few tuples come and go while dumps run all the time.
#[tokio::test]
async fn under_churn_every_flow_ends_exactly_once_and_nothing_follows_its_end() {
    let Some((ns, _tracking)) = tracked("churn") else { return };
    let options = NetlinkOptions {
        dump_interval: Duration::ZERO,
        rate_curve: vec![(Duration::ZERO, Duration::ZERO)],
        ..NetlinkOptions::default()
    };
    let mut listener = Listener::with(ns.namespace().inode, options);
    listener.wait_until_watching(&ns).await;
    flush(&ns);
    let sent = Arc::new(AtomicBool::new(false));
    let (done, handle) = (Arc::clone(&sent), ns.namespace().try_clone().unwrap());
    let sender = std::thread::spawn(move || {
        within(&handle, || churn(1_500)).unwrap();
        done.store(true, Ordering::Release);
    });
    while !sent.load(Ordering::Acquire) {
        listener.read().await;
    }
    sender.join().unwrap();
    for _ in 0..20 {
        listener.read().await;
    }
    let mut lives: HashMap<_, Vec<&Observation>> = HashMap::new();
    for seen in listener.heard.iter().filter(|o| o.original.src_port >= 5_000) {
        lives.entry((seen.original.src_port, seen.start_ns)).or_default().push(seen);
    }
    assert_eq!(lives.len(), 1_500);
    for life in lives.values() {
        let end = life.last().unwrap();
        let ends = life.iter().filter(|o| matches!(o.kind, ObservationKind::End | ObservationKind::Gone));
        assert!(ends.count() == 1 && end.kind == ObservationKind::End, "{life:#?}");
        assert_eq!(datagrams(&end.totals), (2, 2 * DATAGRAM));
        assert!(life.iter().all(|o| o.totals.original.packets <= 2));
    }
}

/// So many flows of two datagrams each, over three tuples.
fn churn(flows: u16) {
    let socket = NetfilterSocket::open().unwrap();
    for flow in 0..flows {
        udp(&format!("127.0.0.1:{}", 5_000 + flow % 3), "127.0.0.1:53", 2);
        if flow % 3 == 2 {
            conntrack::flush(&socket).unwrap();
        }
    }
}

#[tokio::test]
async fn an_overflow_is_counted_and_no_end_is_lost() {
    let Some((ns, _tracking)) = tracked("flood") else { return };
    let options = NetlinkOptions { receive_buffer: 4096, ..quick() };
    let mut listener = Listener::with(ns.namespace().inode, options);
    listener.wait_until_watching(&ns).await;
    for round in 0..40 {
        for port in 0..50 {
            send(&ns, 10_000 + round * 50 + port, 1);
        }
        flush(&ns);
    }
    let overflows = |source: &NetlinkSource| {
        source.losses().iter().find(|(reason, _)| *reason == "netlink_overflow").unwrap().1
    };
    let deadline = Instant::now() + Duration::from_secs(60);
    let ended = |l: &Listener| {
        l.heard.iter().filter(|o| o.kind == ObservationKind::End && o.original.src_port >= 10_000).count()
    };
    while ended(&listener) < 2_000 && Instant::now() < deadline {
        listener.read().await;
    }
    for _ in 0..10 {
        listener.read().await;
    }
    eprintln!("{} overflows, {} of 2000 ends", overflows(&listener.source), ended(&listener));
    assert_eq!(ended(&listener), 2_000, "the kernel repeats the ends that it could not deliver");
    assert!(
        listener.heard.iter().all(|o| o.kind != ObservationKind::Gone),
        "an end to come is no missed one"
    );
    assert!(overflows(&listener.source) > 0, "the test must overflow the socket");
}

#[tokio::test]
async fn quiet_batches_settle_and_draining_finishes() {
    let Some((ns, _tracking)) = tracked("settle") else { return };
    let mut listener = Listener::start(ns.namespace().inode);
    listener.wait_until_watching(&ns).await;
    // Others may make traffic on this machine meanwhile.
    let deadline = Instant::now() + Duration::from_secs(30);
    let mut settled = 0;
    while settled < 5 {
        assert!(Instant::now() < deadline, "{settled} batches were settled within 30 s");
        settled += u32::from(listener.read().await);
    }

    send(&ns, 9_001, 1);
    flush(&ns);
    listener.drain().await;
    assert_eq!(listener.count(ObservationKind::End, 9_001), 1, "what was under way is not lost");
}

#[tokio::test]
async fn each_of_the_looks_asked_for_shows_every_flow() {
    let Some((ns, _tracking)) = tracked("looks") else { return };
    send(&ns, 9_100, 1);
    let mut listener = Listener::with(ns.namespace().inode, NetlinkOptions { looks: 2, ..quick() });
    let deadline = Instant::now() + Duration::from_secs(10);
    let mut looks = Vec::new();
    while looks.len() < 2 {
        assert!(Instant::now() < deadline, "{looks:?} within 10 s");
        let mut batch = Batch::default();
        listener.source.read(&mut batch).await.unwrap();
        listener.keep(&batch);
        if let Some(look) = batch.look {
            let seen = listener.heard.iter().filter(|o| o.boot_ns >= look.began_boot_ns);
            assert_eq!(seen.map(|o| o.original.src_port).collect::<Vec<_>>(), [9_100]);
            assert!(matches!(&look.scope, Scope::Namespaces(inodes) if inodes.contains(&listener.netns)));
            looks.push(look);
        }
    }
}

#[test]
fn a_seed_hands_over_every_flow_of_every_namespace_asked_for() {
    let Some((ns, _tracking)) = tracked("seed") else { return };
    for port in 0..300 {
        send(&ns, 20_000 + port, 1);
    }
    let mut ports = Vec::new();
    let seeded = dump_all(&[ns.namespace().try_clone().unwrap()], |found| {
        ports.extend(found.iter().map(|o| o.original.src_port));
    });
    ports.sort_unstable();
    assert_eq!(ports, (20_000..20_300).collect::<Vec<_>>());
    assert!(seeded.failed.is_empty() && seeded.malformed == 0 && seeded.flows == 300);
}
