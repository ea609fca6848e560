//! Scenarios in which the network itself fails: links, ports, packets.

use std::thread;
use std::time::Duration;

use anyhow::{Context, Result, ensure};

use super::{Outcome, Settings, Stage};
use crate::lab::{CLIENT, FAMILIES, Family, Lab, ROUTER, SERVER};
use crate::traffic::{self, Ending, Exchange};

/// Timeouts that are lowered for the last packets, longer than the pauses between these.
const TIMEOUTS: [&str; 3] =
    ["nf_conntrack_udp_timeout", "nf_conntrack_udp_timeout_stream", "nf_conntrack_tcp_timeout_established"];

/// Seconds of these timeouts.
const EXPIRES: u64 = 3;

/// The way to the server breaks while flows are under way; they time out.
pub(super) fn link_down(settings: &Settings) -> Result<Outcome> {
    let mut stage = Stage::open(settings, Lab::routed()?)?;
    let mut exchanges = Vec::new();
    let mut connections = Vec::new();
    for family in FAMILIES {
        let path = stage.lab.path(family)?;
        let mut exchange = Exchange::open(&path, 20_001, 7001)?;
        exchange.ask(100)?;
        exchange.answer(200)?;
        exchanges.push(exchange);
        connections.push(traffic::connect(&path, 20_002, 7002)?);
    }
    // From their next packets on.
    for key in TIMEOUTS {
        stage.lab.netfilter(key, EXPIRES)?;
    }
    // The connections are in the middle of it: what the server still sends goes nowhere.
    thread::scope(|scope| {
        for connection in &connections {
            scope.spawn(move || connection.pour());
        }
        thread::sleep(Duration::from_millis(300));
        stage.lab.namespace(ROUTER)?.ip(&["link", "set", "right", "down"])?;
        exchanges.iter_mut().try_for_each(|exchange| (0..3).try_for_each(|_| exchange.throw(300)))
    })?;
    for exchange in exchanges {
        let sent = exchange.sent()?;
        stage.expect_end(&sent.tuple, &["timeout"])?;
        stage.lab.promise(sent);
    }
    for connection in &connections {
        stage.expect_end(&connection.tuple(), &["timeout"])?;
    }
    stage.lab.quiet();
    thread::sleep(Duration::from_secs(EXPIRES + 1));
    // Listing makes the kernel remove what has expired.
    stage.lab.conntrack()?;
    stage.finish(2 * 2)
}

/// Errors by ICMP belong to the flows that they are about; conntrack counts them nowhere.
pub(super) fn icmp_errors(settings: &Settings) -> Result<Outcome> {
    let mut stage = Stage::open(settings, Lab::routed()?)?;
    for family in FAMILIES {
        for number in 0..5 {
            let sent = traffic::knock(&stage.lab.path(family)?, 20_001 + number, 7001, 100)?;
            stage.lab.promise(sent);
        }
        // The first packet makes the flow; the others are counted before the router drops them.
        let mut exchange = Exchange::open(&stage.lab.path(family)?, 20_010, 7002)?;
        exchange.ask(100)?;
        (0..5).try_for_each(|_| exchange.expire(200))?;
        exchange.answer(300)?;
        let sent = exchange.sent()?;
        stage.lab.promise(sent);
    }
    stage.finish(2 * 6)
}

/// Drops some packets of known flows after conntrack counted them. Only data: conntrack passes a repeated handshake by
/// without counting it.
const DROPPING: &str = "add table inet lossy
add chain inet lossy in { type filter hook input priority 10; }
add rule inet lossy in ct state established meta l4proto tcp meta length > 300 numgen inc mod 17 == 3 counter drop";

/// More than a few retransmission timeouts of 200 ms, each twice the one before.
const SENT_AGAIN: Duration = Duration::from_millis(1500);

/// TCP over a path that loses packets: what is sent again is counted again.
pub(super) fn retransmits(settings: &Settings) -> Result<Outcome> {
    let lab = Lab::direct()?;
    for place in [CLIENT, SERVER] {
        lab.namespace(place)?.exec("nft", &[DROPPING])?;
    }
    let mut stage = Stage::open(settings, lab)?;
    for family in FAMILIES {
        for number in 0..3 {
            let path = stage.lab.path(family)?;
            let sent = traffic::transfer(&path, 20_001 + number, 7001, (100_000, 100_000), Ending::Close)?;
            stage.lab.promise(sent);
        }
    }
    // The last acknowledgement may have been dropped, too.
    thread::sleep(SENT_AGAIN);
    let dropped = dropped(&stage.lab)?;
    let mut outcome = stage.finish(2 * 2 * 3)?;
    if dropped < 20 {
        outcome.verdict.problem(format!("only {dropped} packets were dropped: nothing is proven"));
    }
    Ok(outcome)
}

fn dropped(lab: &Lab) -> Result<u64> {
    let mut sum = 0;
    for place in [CLIENT, SERVER] {
        let rules = lab.namespace(place)?.exec("nft", &["list", "chain", "inet", "lossy", "in"])?;
        let mut words = rules.split_whitespace().skip_while(|word| *word != "packets");
        sum += words.nth(1).context("nft lists no counter")?.parse::<u64>()?;
    }
    Ok(sum)
}

/// A header of 8 bytes that says nothing: no next header yet, 4 bytes of padding (RFC 8200 §4.2).
const PADDING_HEADER: [u8; 8] = [0, 0, 1, 4, 0, 0, 0, 0];

/// Four of IPv4's option "no operation".
const NO_OPERATIONS: [u8; 4] = [1; 4];

/// Larger than the network's 1500 bytes: three parts.
const LARGE: usize = 4000;

/// IP options, extension headers, fragments: conntrack counts the whole packet, as it was before or after it was cut.
pub(super) fn extension_headers(settings: &Settings) -> Result<Outcome> {
    let mut stage = Stage::open(settings, Lab::direct()?)?;
    for family in FAMILIES {
        let mut exchange = Exchange::open(&stage.lab.path(family)?, 20_001, 7001)?;
        exchange.ask(LARGE)?;
        exchange.answer(LARGE + 1)?;
        exchange.ask(10)?;
        stage.lab.promise(exchange.sent()?);
    }
    let mut exchange = Exchange::open(&stage.lab.path(Family::V4)?, 20_002, 7002)?;
    exchange.with_header((libc::IPPROTO_IP, libc::IP_OPTIONS), &NO_OPERATIONS, 4)?;
    exchange.ask(100)?;
    exchange.answer(100)?;
    stage.lab.promise(exchange.sent()?);
    // With destination options in front of the fragment header the receiving kernel drops what it put together.
    let headers = [(libc::IPV6_HOPOPTS, LARGE), (libc::IPV6_DSTOPTS, 1000)];
    let mut exchange = Exchange::open(&stage.lab.path(Family::V6)?, 20_003, 7003)?;
    for (header, size) in headers {
        exchange.with_header((libc::IPPROTO_IPV6, header), &PADDING_HEADER, 8)?;
        exchange.ask(100)?;
        exchange.ask(size)?;
        exchange.answer(200)?;
    }
    let sent = exchange.sent()?;
    ensure!(sent.totals.is_some(), "an exchange knows what it sent");
    stage.lab.promise(sent);
    stage.finish(2 * 4)
}
