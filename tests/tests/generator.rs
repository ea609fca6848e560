//! The generator, the ledger and the comparator against the running kernel, with `conntrack -L` playing the agent.

use anyhow::Result;
use conntally_tests::compare::compare;
use conntally_tests::conntrack;
use conntally_tests::isolation::Turn;
use conntally_tests::lab::{FAMILIES, Family, Lab, TRANSLATED_BOTH, TRANSLATED_DESTINATION};
use conntally_tests::traffic::{self, Ending, Sent};

/// Sends in these families over a network whose flows are counted and captured, then compares what conntrack has
/// with the ledger. No entry ends meanwhile.
fn exact(
    network: fn() -> Result<Lab>,
    families: &[Family],
    promised: usize,
    send: fn(&Lab, Family) -> Result<Vec<Sent>>,
) -> Result<()> {
    let Some(_turn) = Turn::take_or_skip()? else { return Ok(()) };
    let mut lab = network()?;
    lab.netfilter("nf_conntrack_acct", 1)?;
    lab.capture()?;
    for family in families {
        let sent = send(&lab, *family)?;
        sent.into_iter().for_each(|sent| lab.promise(sent));
    }
    lab.quiet();
    let records = conntrack::as_records(&lab.conntrack()?);
    let verdict = compare(&lab.ledger()?, &records, &lab.tracked(), promised);
    anyhow::ensure!(verdict.exact(), "{verdict:#?}");
    Ok(())
}

fn translating() -> Result<Lab> {
    let lab = Lab::routed()?;
    lab.translate()?;
    Ok(lab)
}

#[test]
fn datagrams_of_every_protocol_are_in_conntrack_as_in_the_ledger() -> Result<()> {
    exact(Lab::direct, &FAMILIES, 24, |lab, family| {
        let path = lab.path(family)?;
        Ok(vec![
            traffic::exchange(&path, 20_001, 7001, &[0, 1, 512, 1400], &[100, 1400])?,
            traffic::udplite(&path, 20_002, 7002, &[10, 500], &[600])?,
            traffic::echo(&path, 4711, &[0, 56, 1000])?,
            traffic::gre(&path, &[100, 200], &[300])?,
            traffic::experiment(&path, &[10, 1000], &[20])?,
            traffic::association(&path, 20_003, 7003, &[10, 500, 1001])?,
        ])
    })
}

#[test]
fn tcp_is_in_conntrack_as_in_the_ledger() -> Result<()> {
    exact(Lab::direct, &FAMILIES, 12, |lab, family| {
        let path = lab.path(family)?;
        Ok(vec![
            traffic::transfer(&path, 20_001, 7001, (1 << 20, 1 << 19), Ending::Close)?,
            traffic::transfer(&path, 20_002, 7002, (1000, 1000), Ending::Reset)?,
            traffic::transfer(&path, 20_003, 7003, (0, 0), Ending::Close)?,
        ])
    })
}

#[test]
fn translated_flows_are_in_conntrack_as_in_the_ledger() -> Result<()> {
    exact(translating, &FAMILIES, 8, |lab, family| {
        let path = lab.path(family)?;
        let target = lab.translated_path(family)?;
        Ok(vec![
            traffic::exchange(&path, 20_001, 7001, &[10, 20], &[30])?,
            traffic::transfer(&path, 20_002, 7002, (50_000, 50_000), Ending::Close)?,
            traffic::exchange(&target, 20_003, TRANSLATED_DESTINATION, &[10], &[30])?,
            traffic::transfer(&target, 20_004, TRANSLATED_BOTH, (1000, 1000), Ending::Close)?,
        ])
    })
}

#[test]
fn a_burst_of_short_flows_is_in_conntrack_as_in_the_ledger() -> Result<()> {
    exact(Lab::direct, &[Family::V4], 4000, |lab, family| {
        traffic::burst(&lab.path(family)?, 20_000..22_000, 7001)
    })
}
