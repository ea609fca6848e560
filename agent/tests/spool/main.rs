//! A sink with a spool as a person runs it: a server that is away, a kill, a disk that is full; nothing is lost.
#![expect(clippy::unwrap_used, reason = "a test that cannot be set up has failed")]

mod agent;
#[path = "../http/mod.rs"]
mod http;
#[path = "../sights/ports.rs"]
mod ports_of_flows;
mod server;
#[path = "../sights/mod.rs"]
mod sights;

use std::path::Path;
use std::process::Command;
use std::thread::sleep;
use std::time::Duration;

use agent::{Lab, READ_TO_ITS_END};
use server::{Mood, Server, Stored};
use tempfile::TempDir;

const AT_ONCE: Mood = Mood::Up(Duration::ZERO);

/// Records of a request.
const BATCH: usize = 100;

/// Each flow was told of twice, and moved 9 packets of 100 bytes each way.
fn expect_all(stored: &Stored, flows: usize) {
    let field = |line: &str, name: &str| {
        let fields = line.rsplit(' ').nth(1).unwrap();
        let value = fields.split(',').find_map(|field| field.strip_prefix(name)?.strip_prefix('='));
        value.map_or(0, |value| value.trim_end_matches('i').parse::<usize>().unwrap())
    };
    let sum = |name: &str| stored.lines.keys().map(|line| field(line, name)).sum::<usize>();
    assert_eq!(stored.lines.len(), 2 * flows);
    assert_eq!((sum("source_packets"), sum("destination_bytes")), (9 * flows, 900 * flows));
}

/// Lines that came again.
fn doubles(stored: &Stored) -> usize {
    stored.lines.values().map(|times| times - 1).sum()
}

#[test]
fn what_a_server_did_not_take_is_delivered_by_the_next_agent() {
    let server = Server::start(Mood::Away);
    let lab = Lab::new(&server, None);
    let log = lab.replay(4_000).finish();
    assert!(log.contains("account: nothing was lost"), "{log}");
    assert!(log.contains("account: spooled, to be delivered by the next start records=8000"), "{log}");
    server.become_(AT_ONCE);
    let log = lab.replay(0).finish();
    assert!(log.contains("an earlier agent has left these in the spool"), "{log}");
    assert!(!log.contains("account: spooled"), "{log}");
    expect_all(&server.stored(), 4_000);
    assert_eq!(doubles(&server.stored()), 0);
}

/// What the last statement says of what waits for a sink: records, bytes, and for how long the oldest.
fn waiting(stored: &Stored, sink: &str) -> [usize; 3] {
    let tag = format!(",sink={sink} ");
    let told =
        stored.lines.keys().filter(|line| line.starts_with("conntally_waiting,") && line.contains(&tag));
    let last = told.max_by_key(|line| line.rsplit(' ').next().unwrap().parse::<u64>().unwrap());
    let fields = last.unwrap().rsplit(' ').nth(1).unwrap().to_owned();
    ["waiting_records=", "waiting_bytes=", "oldest_ms="].map(|name| {
        let value = fields.split(',').find_map(|field| field.strip_prefix(name)).unwrap();
        value.trim_end_matches('i').parse().unwrap()
    })
}

#[test]
fn what_waits_in_a_spool_is_told_to_other_sinks_until_it_is_delivered() {
    let (away, watching) = (Server::start(Mood::Away), Server::start(AT_ONCE));
    let lab = Lab::new(&away, None).watched_by(&watching);
    let log = lab.replay(4_000).finish();
    assert!(log.contains("waiting for live: 8000 records of 7200000 bytes, the oldest for "), "{log}");
    let [records, bytes, oldest_ms] = waiting(&watching.stored(), "live");
    assert_eq!((records, bytes), (8_000, 4_000 * 2 * 900));
    assert!((1..60_000).contains(&oldest_ms), "{oldest_ms} ms");
    assert_eq!(waiting(&watching.stored(), "watching"), [0, 0, 0]);

    away.become_(AT_ONCE);
    let watching = Server::start(AT_ONCE);
    let log = lab.watched_by(&watching).replay(0).finish_unasked();
    assert!(!log.contains("waiting for"), "{log}");
    assert_eq!(waiting(&watching.stored(), "live"), [0, 0, 0]);
    expect_all(&away.stored(), 4_000);
}

#[test]
fn what_waits_goes_to_the_database_that_is_configured_now_and_the_log_says_so() {
    let server = Server::start(Mood::Away);
    let lab = Lab::new(&server, None);
    let log = lab.replay(100).finish();
    assert!(!log.contains("was meant for"), "{log}");
    let lab = lab.into_database("archive");
    server.become_(AT_ONCE);
    let log = lab.replay(0).finish();
    let url = format!("at http://{}", server.address);
    let told = format!(
        "was meant for database flows {url}; it goes to database archive {url} now, as is configured"
    );
    assert!(log.contains(&told), "{log}");
    expect_all(&server.stored(), 100);
    assert!(!lab.replay(0).finish().contains("was meant for"), "it is told once");
}

#[test]
fn a_server_that_comes_back_gets_all_that_was_too_much_for_the_queue() {
    let server = Server::start(Mood::Stuck);
    let lab = Lab::new(&server, None);
    let agent = lab.replay(4_000);
    lab.wait_until_spooled();
    server.become_(AT_ONCE);
    let log = agent.finish();
    assert!(log.contains("account: nothing was lost"), "{log}");
    expect_all(&server.stored(), 4_000);
    assert_eq!(doubles(&server.stored()), 0);
}

#[test]
fn a_replay_waits_for_its_server_longer_than_a_shutdown_may_take() {
    let server = Server::start(Mood::Away);
    let lab = Lab::new(&server, None).hasty();
    let agent = lab.replay(4_000);
    agent.wait_for(READ_TO_ITS_END);
    sleep(Duration::from_secs(2));
    server.become_(AT_ONCE);
    let log = agent.finish_unasked();
    assert!(log.contains("account: nothing was lost") && !log.contains("account: spooled"), "{log}");
    expect_all(&server.stored(), 4_000);
}

#[test]
fn an_agent_that_is_killed_again_and_again_loses_nothing() {
    let server = Server::start(Mood::Stuck);
    let lab = Lab::new(&server, None);
    let mut agent = lab.replay(4_000);
    lab.wait_until_spooled();
    server.become_(Mood::Up(Duration::from_millis(5)));
    for more in [3, 1, 7, 12, 5] {
        let before = server.stored().requests;
        agent.wait_until("requests", || server.stored().requests >= before + more);
        agent.kill();
        agent = lab.replay(0);
    }
    let log = agent.finish();
    assert!(!log.contains("damaged"), "{log}");
    expect_all(&server.stored(), 4_000);
    let doubles = doubles(&server.stored());
    assert!(doubles <= 5 * BATCH, "{doubles}: each kill may cost the request that was under way");
}

#[test]
fn what_is_damaged_is_counted_and_the_rest_is_delivered() {
    let server = Server::start(Mood::Away);
    let lab = Lab::new(&server, None);
    lab.replay(4_000).finish();
    let segment = lab.spool.join("segment.0");
    let mut bytes = std::fs::read(&segment).unwrap();
    // Within the body of the first request, which is of flows that are born.
    bytes[200] ^= 1;
    std::fs::write(&segment, bytes).unwrap();
    server.become_(AT_ONCE);
    let log = lab.replay(0).finish();
    assert!(log.contains("account: lost live.spool_damaged 100"), "{log}");
    assert!(log.contains("lost by live.spool_damaged: 20000 bytes, 200 packets, 0 flows"), "{log}");
    assert!(!log.contains('≠'), "{log}");
    assert_eq!((server.stored().lines.len(), doubles(&server.stored())), (8_000 - BATCH, 0));
}

/// A file system of a megabyte, as long as it is not dropped.
struct SmallDisk(TempDir);

impl SmallDisk {
    /// `None`, with the reason said, where none can be made.
    fn mount() -> Option<Self> {
        let dir = TempDir::new().unwrap();
        let mut mount = Command::new("mount");
        mount.args(["-t", "tmpfs", "-o", "size=1m", "none"]).arg(dir.path());
        if nix::unistd::geteuid().is_root() && mount.status().is_ok_and(|status| status.success()) {
            return Some(Self(dir));
        }
        assert!(
            std::env::var_os("REQUIRE_ROOT_TESTS").is_none(),
            "not root, and REQUIRE_ROOT_TESTS forbids to skip"
        );
        eprintln!("skipped: needs root to mount a small file system");
        None
    }

    fn path(&self) -> &Path {
        self.0.path()
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        // What does not go now goes with the machine.
        drop(Command::new("umount").arg("-l").arg(self.path()).status());
    }
}

#[test]
fn a_full_disk_is_told_and_survived() {
    let Some(disk) = SmallDisk::mount() else { return };
    let server = Server::start(Mood::Stuck);
    let lab = Lab::new(&server, Some(disk.path()));
    let agent = lab.replay(8_000);
    agent.wait_for("make room on the disk");
    server.become_(AT_ONCE);
    let log = agent.finish();
    assert!(log.contains("takes records again"), "{log}");
    assert!(log.contains("account: nothing was lost"), "{log}");
    expect_all(&server.stored(), 8_000);
    assert_eq!(doubles(&server.stored()), 0);
}

#[test]
fn a_directory_that_another_agent_uses_is_refused() {
    let server = Server::start(Mood::Stuck);
    let lab = Lab::new(&server, None);
    let agent = lab.replay(10);
    agent.wait_until("the spool", || lab.spool.join("lock").exists());
    let second = lab.replay(10);
    second.wait_for("is in use by process");
    drop((agent, second));
}

#[test]
fn how_much_a_request_held_that_is_missing_is_unknown() {
    let server = Server::start(Mood::Away);
    let lab = Lab::new(&server, None);
    lab.replay(4_000).finish();
    let segment = lab.spool.join("segment.0");
    let mut bytes = std::fs::read(&segment).unwrap();
    // Within the head of the first request.
    bytes[64 + 20] ^= 1;
    std::fs::write(&segment, bytes).unwrap();
    server.become_(AT_ONCE);
    let log = lab.replay(0).finish();
    assert!(log.contains("account: lost live.spool_missing 1 "), "{log}");
    assert!(log.contains("completeness of bytes unknown, at most 100 %, "), "{log}");
    assert!(log.contains("; of unknown amount: live.spool_missing 1\n"), "{log}");
    assert_eq!((server.stored().lines.len(), doubles(&server.stored())), (8_000 - BATCH, 0));
}
