//! Scenarios about flows that live while the agent comes, looks, or is not alone.

use std::thread;
use std::time::{Duration, Instant};

use anyhow::Result;

use super::ends::while_set;
use super::stage::judge;
use super::{Outcome, Settings, Stage};
use crate::agent::{Agent, Ended};
use crate::compare::Verdict;
use crate::key::{FlowKey, Tuple};
use crate::lab::{CLIENT, FAMILIES, Family, Lab};
use crate::records::{FlowAccount, Records};
use crate::traffic::{self, Ending, Exchange};

/// The netlink source dumps once a second.
const DUMPED: Duration = Duration::from_millis(2500);

/// Flows that were there before the agent: flagged, and only what moved since is new.
pub(super) fn midlife(settings: &Settings) -> Result<Outcome> {
    Ok(old_and_new(settings)?.0)
}

/// Whom the kernel tells addresses (`Documentation/admin-guide/sysctl/kernel.rst`, `kptr_restrict`), and nobody.
pub(super) const ADDRESSES: &str = "/proc/sys/kernel/kptr_restrict";
pub(super) const HIDDEN: &str = "2";

/// The same where the kernel's table cannot be walked, as its address is hidden: dumps tell of the old flows.
pub(super) fn hidden(settings: &Settings) -> Result<Outcome> {
    if settings.by_netlink() {
        return Ok(Outcome::skip("the netlink source does not walk through the table"));
    }
    let (mut outcome, ended) = while_set(ADDRESSES, HIDDEN, || old_and_new(settings))?;
    if !ended.output.log.iter().any(|line| line.contains("cannot be walked")) {
        outcome.verdict.problem("the agent did not say that it cannot walk: nothing is proven".to_owned());
    }
    Ok(outcome)
}

fn old_and_new(settings: &Settings) -> Result<(Outcome, Ended)> {
    let mut lab = Lab::direct()?;
    lab.netfilter("nf_conntrack_acct", 1)?;
    lab.netfilter("nf_conntrack_timestamp", 1)?;
    lab.capture()?;
    let mut exchanges = Vec::new();
    let mut connections = Vec::new();
    for family in FAMILIES {
        let path = lab.path(family)?;
        let mut exchange = Exchange::open(&path, 20_001, 7001)?;
        exchange.ask(100)?;
        exchange.answer(200)?;
        exchanges.push(exchange);
        let connection = traffic::connect(&path, 20_002, 7002)?;
        connection.carry(5000, 7000)?;
        connections.push(connection);
    }
    lab.quiet();
    lab.baseline();
    let agent = Agent::start(&settings.options())?;
    let mut stage = Stage::around(settings, lab, agent);
    for mut exchange in exchanges {
        exchange.ask(300)?;
        exchange.answer(400)?;
        let sent = exchange.sent()?;
        expect_old_end(&stage, &sent.tuple)?;
        stage.lab.promise(sent);
    }
    for connection in connections {
        connection.carry(500, 700)?;
        let sent = connection.end(Ending::Close)?;
        expect_old_end(&stage, &sent.tuple)?;
    }
    // A flow of the agent's own time beside them.
    let sent = traffic::exchange(&stage.lab.path(Family::V4)?, 20_003, 7003, &[10], &[20])?;
    stage.lab.promise(sent);
    if stage.by_netlink() {
        thread::sleep(DUMPED);
    }
    stage.finish_with(2 * 5)
}

/// The kernel sends a netlink listener no end of a flow that is older than the listener
/// (`nf_conntrack_events=2`, the default since 5.19): the agent finds it gone, with the totals of its last dump.
fn expect_old_end(stage: &Stage<'_>, tuple: &Tuple) -> Result<()> {
    let usual: &[&str] = &["deleted", "closed"];
    let missed: &[&str] = &["deleted", "closed", "missed"];
    stage.expect_end(tuple, if stage.by_netlink() { missed } else { usual })
}

/// Nobody wants to hear of flows that begin: their updates come nevertheless.
pub(super) fn no_starts(settings: &Settings) -> Result<Outcome> {
    let keys = [
        ("CONNTALLY_OUTPUT__EVENTS", r#"["update", "end"]"#),
        ("CONNTALLY_SOURCE__RATE_CURVE", r#"[{ age = "0s", every = "500ms" }]"#),
    ];
    let mut stage = Stage::open_with(settings, Lab::direct()?, &settings.options_with(&keys))?;
    let namespaces = stage.lab.tracked();
    let mut exchanges = Vec::new();
    for family in FAMILIES {
        exchanges.push(Exchange::open(&stage.lab.path(family)?, 20_001, 7001)?);
    }
    let began = Instant::now();
    let told = |records: &Records| {
        let ours = records.accounts().filter(|flow| namespaces.contains(&flow.key.netns));
        ours.filter(|flow| flow.updates > 1).count()
    };
    while began.elapsed() < 2 * EVERY && told(&stage.agent.output().records) < 2 * exchanges.len() {
        exchanges.iter_mut().try_for_each(|exchange| exchange.ask(50))?;
        thread::sleep(Duration::from_millis(50));
    }
    let (told, flows) = (told(&stage.agent.output().records), 2 * exchanges.len());
    for exchange in exchanges {
        stage.lab.promise(exchange.sent()?);
    }
    let (mut outcome, ended) = stage.finish_with(flows)?;
    if told < flows {
        outcome.verdict.problem(format!("{told} of {flows} flows had updates"));
    }
    if ended.output.records.accounts().any(|flow| flow.news > 0) {
        outcome.verdict.problem("a start was told that nobody wanted".to_owned());
    }
    Ok(outcome)
}

/// How long after its due time a record may come.
const LATE: Duration = Duration::from_millis(1200);
/// The default rate curve's first step.
const EVERY: Duration = Duration::from_secs(5);

/// A start, updates and an end, each within a second of its due time.
pub(super) fn live(settings: &Settings) -> Result<Outcome> {
    let mut stage = Stage::open(settings, Lab::direct()?)?;
    let mut exchange = Exchange::open(&stage.lab.path(Family::V4)?, 20_001, 7001)?;
    let tuple = exchange.sent()?.tuple;
    let key = FlowKey { netns: stage.lab.namespace(CLIENT)?.inode(), zone: 0, tuple };
    let mut late = Vec::new();
    let mut await_record =
        |what: &str, within: Duration, done: &dyn Fn(&FlowAccount) -> bool| -> Result<()> {
            let waited = talk_until(&mut exchange, &stage.agent, key, done)?;
            if waited > within {
                late.push(format!("{what} came after {} ms", waited.as_millis()));
            }
            Ok(())
        };
    await_record("the start", LATE, &|flow| flow.news > 0)?;
    await_record("the first update", EVERY + LATE, &|flow| flow.updates > 0)?;
    await_record("the second update", EVERY + LATE, &|flow| flow.updates > 1)?;
    stage.lab.promise(exchange.sent()?);
    stage.lab.quiet();
    let deleted = Instant::now();
    stage.lab.flush()?;
    stage.agent.wait(4 * LATE, |records| find(records, key).is_some_and(|flow| flow.ends > 0));
    // Deleting takes its own time too, which only makes this stricter.
    if deleted.elapsed() > LATE + Duration::from_millis(500) {
        late.push(format!("the end came after {} ms", deleted.elapsed().as_millis()));
    }
    let mut outcome = stage.finish(2)?;
    late.into_iter().for_each(|words| outcome.verdict.problem(words));
    Ok(outcome)
}

/// After its due time a flow that went quiet may take this long to deliver its last bytes.
const QUIET_LATE: Duration = Duration::from_secs(2);

/// Flows that move once more right after a record and then never again: their last bytes come without a packet that
/// brings them, and without their end.
pub(super) fn quiet(settings: &Settings) -> Result<Outcome> {
    const FLOWS: u16 = 20;
    let mut stage = Stage::open(settings, Lab::direct()?)?;
    let mut exchanges = Vec::new();
    for family in FAMILIES {
        let path = stage.lab.path(family)?;
        for port in 0..FLOWS {
            let mut exchange = Exchange::open(&path, 20_001 + port, 7001 + port)?;
            exchange.ask(50)?;
            exchanges.push(exchange);
        }
    }
    let flows = exchanges.len();
    let ours = stage.lab.tracked();
    let is_known = move |records: &Records| {
        records.accounts().filter(|flow| ours.contains(&flow.key.netns) && flow.news > 0).count() >= flows
    };
    stage.agent.wait(2 * LATE, is_known);
    for exchange in &mut exchanges {
        exchange.answer(700)?;
        exchange.ask(900)?;
    }
    let quiet_since = Instant::now();
    let netns = stage.lab.namespace(CLIENT)?.inode();
    let mut expected = Vec::new();
    for exchange in exchanges {
        let sent = exchange.sent()?;
        expected.push((FlowKey { netns, zone: 0, tuple: sent.tuple }, sent.totals));
        stage.lab.promise(sent);
    }
    let is_told = move |records: &Records| {
        expected.iter().all(|(key, totals)| find(records, *key).map(|flow| flow.totals) == *totals)
    };
    stage.agent.wait(EVERY + 4 * QUIET_LATE, is_told);
    let waited = quiet_since.elapsed();
    stage.lab.flush()?;
    let mut outcome = stage.finish(flows)?;
    if waited > EVERY + QUIET_LATE {
        let words = format!("the last bytes of quiet flows came after {} ms", waited.as_millis());
        outcome.verdict.problem(words);
    }
    Ok(outcome)
}

/// Keeps a flow moving until the agent has said something of it; returns how long that took.
fn talk_until(
    exchange: &mut Exchange,
    agent: &Agent,
    key: FlowKey,
    done: &dyn Fn(&FlowAccount) -> bool,
) -> Result<Duration> {
    const GIVE_UP: Duration = Duration::from_secs(15);
    let started = Instant::now();
    while started.elapsed() < GIVE_UP {
        exchange.ask(50)?;
        exchange.answer(60)?;
        if find(&agent.output().records, key).is_some_and(done) {
            break;
        }
        thread::sleep(Duration::from_millis(50));
    }
    Ok(started.elapsed())
}

fn find(records: &Records, key: FlowKey) -> Option<&FlowAccount> {
    records.accounts().find(|account| account.key == key)
}

/// Two agents at once: both are exact.
pub(super) fn two_agents(settings: &Settings) -> Result<Outcome> {
    let mut stage = Stage::open(settings, Lab::direct()?)?;
    let mut second = Agent::start(&settings.options())?;
    let mut tuples: Vec<Tuple> = Vec::new();
    for family in FAMILIES {
        let path = stage.lab.path(family)?;
        let sent = [
            traffic::exchange(&path, 20_001, 7001, &[10, 20], &[30])?,
            traffic::transfer(&path, 20_002, 7002, (100_000, 100_000), Ending::Close)?,
        ];
        let burst = traffic::burst(&path, 21_000..21_300, 7003)?;
        for sent in sent.into_iter().chain(burst) {
            tuples.push(sent.tuple);
            stage.lab.promise(sent);
        }
    }
    let promised = 2 * tuples.len();
    let namespaces = stage.lab.tracked();
    stage.lab.flush()?;
    let ledger = stage.lab.ledger()?;
    second.wait(Duration::from_secs(10), |records| records.ended(&namespaces) >= ledger.len());
    let second_verdict = judge(&ledger, &[], &second.stop()?, &namespaces, promised, None);
    let mut outcome = stage.finish(promised)?;
    join(&mut outcome.verdict, second_verdict);
    Ok(outcome)
}

fn join(verdict: &mut Verdict, second: Verdict) {
    verdict.events += second.events;
    for words in second.problems {
        verdict.problem(format!("second agent: {words}"));
    }
}
