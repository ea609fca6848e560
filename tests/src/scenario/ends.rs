//! Scenarios about how flows end.

use std::fs;
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result};

use super::{Outcome, Settings, Stage};
use crate::key::Tuple;
use crate::lab::{CLIENT, FAMILIES, Family, Lab, SERVER};
use crate::traffic::{self, Ending};

/// Timeouts that are lowered to a second.
const SHORT_TIMEOUTS: [&str; 4] = [
    "nf_conntrack_udp_timeout",
    "nf_conntrack_udp_timeout_stream",
    "nf_conntrack_tcp_timeout_time_wait",
    "nf_conntrack_sctp_timeout_closed",
];

/// Timeouts count in jiffies, and an entry is removed by the next look at it after that.
const EXPIRED: Duration = Duration::from_millis(2500);

/// An acknowledgement may cross the reset; it still belongs to the old flow.
const SETTLED: Duration = Duration::from_millis(5);

/// Closed, timed out, deleted by request, flushed.
pub(super) fn reasons(settings: &Settings) -> Result<Outcome> {
    let mut stage = Stage::open(settings, Lab::direct()?)?;
    for key in SHORT_TIMEOUTS {
        stage.lab.netfilter(key, 1)?;
    }
    for family in FAMILIES {
        let path = stage.lab.path(family)?;
        let closed = [
            traffic::transfer(&path, 20_001, 7001, (10, 10), Ending::Close)?,
            traffic::association(&path, 20_002, 7002, &[10])?,
        ];
        let idle = traffic::exchange(&path, 20_003, 7003, &[10], &[20])?;
        let deleted = traffic::echo(&path, 4711, &[56])?;
        for sent in closed {
            stage.expect_end(&sent.tuple, &["closed"])?;
            stage.lab.promise(sent);
        }
        stage.expect_end(&idle.tuple, &["timeout"])?;
        stage.expect_end(&deleted.tuple, &["deleted"])?;
        stage.lab.promise(idle);
        stage.lab.promise(deleted);
    }
    delete_echoes(&stage.lab)?;
    thread::sleep(EXPIRED);
    stage.lab.conntrack()?;
    let flushed = traffic::gre(&stage.lab.path(Family::V4)?, &[10], &[10])?;
    stage.expect_end(&flushed.tuple, &["deleted"])?;
    stage.lab.promise(flushed);
    stage.finish(2 * 9)
}

fn delete_echoes(lab: &Lab) -> Result<()> {
    lab.quiet();
    for place in [CLIENT, SERVER] {
        let namespace = lab.namespace(place)?;
        namespace.exec("conntrack", &["-D", "-p", "icmp"])?;
        namespace.exec("conntrack", &["-D", "-f", "ipv6", "-p", "icmpv6"])?;
    }
    Ok(())
}

/// A tuple that is opened again while its old entry waits to expire.
pub(super) fn replaced(settings: &Settings) -> Result<Outcome> {
    reopen(settings, 2)
}

/// The same over and over: entries come and go at the same address, and each has its own life.
pub(super) fn reuse(settings: &Settings) -> Result<Outcome> {
    reopen(settings, 60)
}

fn reopen(settings: &Settings, times: usize) -> Result<Outcome> {
    let stage = Stage::open(settings, Lab::direct()?)?;
    for family in FAMILIES {
        let path = stage.lab.path(family)?;
        for time in 1..=times {
            let sent = traffic::transfer(&path, 20_001, 7001, (10 * time, time), Ending::Reset)?;
            if time < times {
                thread::sleep(SETTLED);
                stage.expect_end(&sent.tuple, &["replaced"])?;
                stage.lab.cut(&sent.tuple);
            }
        }
    }
    stage.finish(2 * 2 * times)
}

/// A namespace that is removed with all its flows.
pub(super) fn namespace(settings: &Settings) -> Result<Outcome> {
    let mut stage = Stage::open(settings, Lab::direct()?)?;
    if stage.by_netlink() {
        return Ok(Outcome::skip("ctnetlink tells nothing of a namespace that is gone"));
    }
    let mut tuples: Vec<Tuple> = Vec::new();
    for family in FAMILIES {
        let path = stage.lab.path(family)?;
        tuples.push(traffic::exchange(&path, 20_001, 7001, &[10], &[20])?.tuple);
        tuples.push(traffic::transfer(&path, 20_002, 7002, (1000, 1000), Ending::Close)?.tuple);
        tuples.extend(traffic::burst(&path, 21_000..21_200, 7003)?.iter().map(|sent| sent.tuple));
    }
    stage.lab.quiet();
    for tuple in &tuples {
        stage.expect_end(tuple, &["deleted", "closed"])?;
    }
    stage.remove(SERVER)?;
    stage.finish(2 * tuples.len())
}

/// How many flows a namespace may have; the machine's value goes for all.
pub(super) const MAX: &str = "/proc/sys/net/netfilter/nf_conntrack_max";
const BUCKETS: &str = "/sys/module/nf_conntrack/parameters/hashsize";

/// More flows than the table may hold: the kernel evicts some. Both limits are the machine's, so guests only.
pub(super) fn evicted(settings: &Settings) -> Result<Outcome> {
    let before = [(MAX, read(MAX)?), (BUCKETS, read(BUCKETS)?)];
    // Eviction looks only into a few buckets: with few of them there is always something to be found.
    write(BUCKETS, "512")?;
    write(MAX, "400")?;
    let outcome = overfill(settings);
    for (path, value) in before {
        write(path, &value)?;
    }
    outcome
}

fn overfill(settings: &Settings) -> Result<Outcome> {
    let stage = Stage::open(settings, Lab::direct_tracking(&[CLIENT])?)?;
    let path = stage.lab.path(Family::V4)?;
    let sent = traffic::burst(&path, 20_000..21_500, 7001)?;
    let any = stage.reasons(&["evicted", "deleted"]);
    stage.lab.expect_remaining(&any);
    let by_netlink = stage.by_netlink();
    let (mut outcome, ended) = stage.finish_with(sent.len())?;
    let evicted = ended
        .output
        .records
        .accounts()
        .filter(|account| account.end_reason.as_deref() == Some("evicted"))
        .count();
    if evicted < 500 && !by_netlink {
        outcome.verdict.problem(format!("{evicted} flows reported as evicted, at least 500 were"));
    }
    Ok(outcome)
}

pub(super) fn read(path: &str) -> Result<String> {
    Ok(fs::read_to_string(path).with_context(|| format!("cannot read {path}"))?.trim().to_owned())
}

/// Plays something while the machine has another value there.
pub(super) fn while_set<T>(path: &str, value: &str, play: impl FnOnce() -> Result<T>) -> Result<T> {
    let found = read(path)?;
    write(path, value)?;
    let played = play();
    write(path, &found)?;
    played
}

pub(super) fn write(path: &str, value: &str) -> Result<()> {
    fs::write(path, value).with_context(|| format!("cannot write {value} to {path}"))
}
