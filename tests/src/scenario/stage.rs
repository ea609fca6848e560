//! A test network with an agent in front of it: what nearly every scenario begins and ends with.

use std::collections::HashSet;
use std::fs;
use std::time::Duration;

use anyhow::{Context, Result};

use super::{Outcome, Settings, pinned};
use crate::agent::{Agent, Ended, Options};
use crate::compare::{Accounted, Verdict, against_audit, against_conntrack, compare, definite};
use crate::conntrack::Entry;
use crate::key::{FlowKey, Tuple};
use crate::lab::Lab;
use crate::ledger::Account;

/// A finished flow is promised to be visible within a second; what is late by much is missing.
const ENDS_WITHIN: Duration = Duration::from_secs(10);

/// How long an agent that lost something may take to find it out: two looks at the kernel's table.
const LOSSES_SHOW: Duration = Duration::from_secs(6);

/// The doubt of an agent that follows another with a time between them in which nobody watched.
const GAP: &str = "gap_without_agent_ms";

/// Network and agent, ready for traffic.
#[derive(Debug)]
pub struct Stage<'a> {
    /// The network.
    pub lab: Lab,
    /// The agent.
    pub agent: Agent,
    settings: &'a Settings,
    /// Ledgers and inodes of namespaces that are gone.
    removed: Vec<Account>,
    removed_namespaces: Vec<u32>,
    /// Namespaces whose flows were made without a ledger.
    passed_over: Vec<u32>,
    /// Whether the agent may lose flows if it says so.
    loss_admitted: bool,
    /// What the agent has to count as lost, and how often.
    expected_loss: Option<(&'static str, u64)>,
    /// Whether an end may have no reason as often as the agent says that it may not know one.
    unknown_if_told: bool,
    skips_excused: bool,
    /// What the agent found of the machine's settings, and has to leave behind.
    accounting: Option<Vec<String>>,
}

impl<'a> Stage<'a> {
    /// Starts the agent, then the captures.
    ///
    /// # Errors
    /// When either cannot be started.
    pub fn open(settings: &'a Settings, lab: Lab) -> Result<Self> {
        Self::open_with(settings, lab, &settings.options())
    }

    /// The same with options of the scenario's own.
    ///
    /// # Errors
    /// See [`Stage::open`].
    pub fn open_with(settings: &'a Settings, mut lab: Lab, options: &Options) -> Result<Self> {
        let accounting = lab.accounting()?;
        let agent = Agent::start(options)?;
        lab.capture()?;
        let stage = Self::around(settings, lab, agent);
        Ok(Self { accounting: Some(accounting), ..stage })
    }

    /// Takes what runs already.
    #[must_use]
    pub const fn around(settings: &'a Settings, lab: Lab, agent: Agent) -> Self {
        Self {
            lab,
            agent,
            settings,
            removed: Vec::new(),
            removed_namespaces: Vec::new(),
            passed_over: Vec::new(),
            loss_admitted: false,
            expected_loss: None,
            unknown_if_told: false,
            skips_excused: false,
            accounting: None,
        }
    }

    /// Expects one of these end reasons of the latest flow of a tuple.
    ///
    /// # Errors
    /// When nothing was captured of it.
    pub fn expect_end(&self, tuple: &Tuple, end_reasons: &[&'static str]) -> Result<()> {
        let reasons = self.reasons(end_reasons);
        self.lab.expect(tuple, |expected| expected.end_reasons.clone_from(&reasons))
    }

    /// What the agent may say: ctnetlink does not tell every reason.
    #[must_use]
    pub fn reasons(&self, end_reasons: &[&'static str]) -> Vec<&'static str> {
        let mut reasons = end_reasons.to_vec();
        if self.by_netlink() {
            reasons.extend(["unknown", "closed"]);
        }
        reasons
    }

    /// The same where the kernel may skip the program that sees who deletes a flow: then the agent has to say so.
    pub fn reasons_or_told(&mut self, end_reasons: &[&'static str]) -> Vec<&'static str> {
        self.unknown_if_told = true;
        let mut reasons = self.reasons(end_reasons);
        reasons.push("unknown");
        reasons
    }

    /// Whether the kernel says how often it skipped the agent's programs.
    #[must_use]
    pub fn counts_skips(&self) -> bool {
        !self.by_netlink() && kernel_counts_skips(self.agent.ready_line.contains("fentry:"))
    }

    /// Whether the agent has to do without tracing.
    #[must_use]
    pub fn by_netlink(&self) -> bool {
        self.agent.ready_line.contains("netlink")
    }

    /// Removes a namespace with all its flows.
    ///
    /// # Errors
    /// When there is none at this place.
    pub fn remove(&mut self, place: usize) -> Result<()> {
        self.removed_namespaces.push(self.lab.namespace(place)?.inode());
        self.removed.extend(self.lab.accounts_then_remove(place)?);
        Ok(())
    }

    /// Takes in the ledger of namespaces that are gone already.
    pub fn add_removed(&mut self, ledger: Vec<Account>, namespaces: Vec<u32>) {
        self.removed.extend(ledger);
        self.removed_namespaces.extend(namespaces);
    }

    /// Flows of these namespaces are ours too, but nobody kept a ledger of them.
    pub fn pass_over(&mut self, namespaces: Vec<u32>) {
        self.passed_over = namespaces;
    }

    /// From here on what the agent loses is summed up instead of being a problem; the scenario has to compare the sum
    /// with what the agent admits.
    pub const fn admit_loss(&mut self) {
        self.loss_admitted = true;
    }

    /// The kernel may skip the program that sees ends, if the agent says how often: so many flows may lack something.
    pub const fn excuse_skips(&mut self) {
        self.skips_excused = true;
    }

    /// The agent has to count this loss, so many times, and what it rests on may be in doubt.
    pub const fn expect_loss(&mut self, reason: &'static str, count: u64) {
        self.expected_loss = Some((reason, count));
    }

    /// Asks `conntrack -L`, deletes what is left, waits for the ends, stops the agent and compares.
    ///
    /// # Errors
    /// When the run itself failed, so that nothing can be compared.
    pub fn finish(self, promised: usize) -> Result<Outcome> {
        Ok(self.finish_with(promised)?.0)
    }

    /// The same, and the agent's remains for a closer look.
    ///
    /// # Errors
    /// See [`Stage::finish`].
    pub fn finish_with(mut self, promised: usize) -> Result<(Outcome, Ended)> {
        self.lab.quiet();
        let listed = self.lab.conntrack()?;
        self.lab.expect_remaining(&self.reasons(&["deleted", "closed"]));
        self.lab.flush()?;
        let mut ledger = [self.lab.ledger()?, self.removed.clone()].concat();
        ledger.iter_mut().for_each(|account| account.expected.loss_admitted |= self.loss_admitted);
        let namespaces = [self.lab.tracked(), self.removed_namespaces.clone()].concat();
        // What was lost is not waited for.
        let within = if self.loss_admitted { LOSSES_SHOW } else { ENDS_WITHIN };
        self.agent.wait(within, |records| records.ended(&namespaces) >= ledger.len());
        let counts_skips = self.counts_skips();
        let (ready_line, ready_ms) = (self.agent.ready_line.clone(), self.agent.ready_after.as_millis());
        let ended = self.agent.stop()?;
        let skipped = if self.skips_excused { ended.lost("hook_skipped") } else { 0 };
        ledger.iter_mut().for_each(|account| account.expected.loss_admitted |= skipped > 0);
        let mut verdict = judge(&ledger, &listed, &ended, &namespaces, promised, self.expected_loss);
        let lacking = verdict.shortfall.ends;
        if self.skips_excused && lacking > skipped {
            verdict.problem(format!(
                "{lacking} flows lack something, the agent says that {skipped} ends were skipped"
            ));
        }
        self.check_audit(&mut verdict, &ended);
        if self.unknown_if_told && counts_skips {
            check_unknown(&mut verdict, &ended, &namespaces);
        }
        if self.settings.alone {
            self.check_traces(&mut verdict, &ended, &namespaces)?;
        }
        if !verdict.exact() {
            keep(self.settings, &ended)?;
        }
        Ok((Outcome { verdict, ready_line, ready_ms, skipped: None }, ended))
    }

    /// The agent says what is missing, and where nothing may be it knows that nothing is.
    fn check_audit(&self, verdict: &mut Verdict, ended: &Ended) {
        let audit = ended.audit();
        match Accounted::of(&ended.output) {
            Some(accounted) => against_audit(verdict, audit.as_ref(), &accounted),
            None => verdict.problem("the records bill less than when the agent started".to_owned()),
        }
        let was_unwatched = ended.output.earlier.is_some() && !pinned::went_on(&ended.output);
        let is_said = |reason: &str| ended.lost(reason) > 0;
        let by_netlink = self.by_netlink();
        let is_expected = |reason: &str| self.expected_loss.is_some_and(|(expected, _)| expected == reason);
        let excused = |reason: &str| match reason {
            // Flows from before the agent, whose ends the kernel does not tell a netlink listener.
            "ended_unseen" if by_netlink => ended.output.records.missed() > 0,
            // Without programs that stay, or while others take their place.
            "ended_unseen" | GAP if was_unwatched => true,
            _ if is_expected(reason) => true,
            "ended_unseen" | "ends_uncounted" => is_said("hook_skipped") || self.expected_loss.is_some(),
            "hook_skipped" => !by_netlink && is_said(reason),
            _ => by_netlink && reason.starts_with("netlink_") && is_said(reason),
        };
        if was_unwatched && !audit.as_ref().is_some_and(|audit| audit.doubts.contains_key(GAP)) {
            verdict.problem("the time without an agent is not in the audit".to_owned());
        }
        if let Some(audit) = audit.filter(|_| !self.loss_admitted) {
            definite(verdict, &audit, excused);
        }
    }

    /// With nobody else on the machine there are no flows but ours, the agent's self-test included, and the agent
    /// leaves the settings as it found them.
    fn check_traces(&self, verdict: &mut Verdict, ended: &Ended, namespaces: &[u32]) -> Result<()> {
        let known = [namespaces, &self.passed_over].concat();
        let mut accounts = ended.output.records.accounts();
        if let Some(foreign) = accounts.find(|flow| !known.contains(&flow.key.netns)) {
            verdict.problem(format!("{}: nobody made this flow", foreign.key));
        }
        let left = self.lab.accounting()?;
        match &self.accounting {
            Some(found) if self.removed_namespaces.is_empty() && left != *found => {
                verdict.problem(format!("accounting settings were {found:?}, left behind as {left:?}"));
            }
            _ => {}
        }
        Ok(())
    }
}

/// Whether this kernel says how often it skipped a program: typed ones since 5.12, probes since 6.7.
pub(super) fn kernel_counts_skips(typed: bool) -> bool {
    kernel_is_since(if typed { [5, 12] } else { [6, 7] })
}

/// Whether this kernel is of that release or a later one.
pub(super) fn kernel_is_since(since: [u32; 2]) -> bool {
    let release = nix::sys::utsname::uname().map(|name| name.release().to_string_lossy().into_owned());
    let numbers: Vec<u32> =
        release.unwrap_or_default().split('.').map_while(|number| number.parse().ok()).take(2).collect();
    numbers.as_slice() >= since.as_slice()
}

/// No more ends are without a reason than the agent says.
fn check_unknown(verdict: &mut Verdict, ended: &Ended, namespaces: &[u32]) {
    let ours = ended.output.records.accounts().filter(|flow| namespaces.contains(&flow.key.netns));
    let unknown = ours.filter(|flow| flow.end_reason.as_deref() == Some("unknown")).count() as u64;
    let told = ended.lost("end_reason_unknown") + ended.lost("no_slot");
    if unknown > told {
        verdict.problem(format!("{unknown} ends have no reason, the agent says {told}"));
    }
}

/// Compares with the ledger and with conntrack, and looks at how the agent ended.
#[must_use]
pub(super) fn judge(
    ledger: &[Account],
    listed: &[Entry],
    ended: &Ended,
    namespaces: &[u32],
    promised: usize,
    expected_loss: Option<(&str, u64)>,
) -> Verdict {
    let mut verdict = compare(ledger, &ended.output.records, namespaces, promised);
    let uncounted: HashSet<FlowKey> =
        ledger.iter().filter(|account| account.expected.no_counters).map(|account| account.key).collect();
    // Flows that the kernel does not count have nothing to compare.
    let counted: Vec<Entry> =
        listed.iter().filter(|entry| !uncounted.contains(&entry.key)).cloned().collect();
    against_conntrack(&mut verdict, &counted, &ended.output.records);
    if ended.status.code() != Some(0) {
        verdict.problem(format!("the agent ended with {}", ended.status));
    }
    let admitted = |alarm: &&String| {
        alarm.contains("lost") && ledger.iter().any(|account| account.expected.loss_admitted)
    };
    let expected =
        expected_loss.map(|(reason, count)| format!("lost since the last report: {reason} {count}"));
    let is_expected = |alarm: &&String| expected.as_ref().is_some_and(|expected| alarm.ends_with(expected));
    if let Some((reason, count)) = expected_loss.filter(|(reason, count)| ended.lost(reason) != *count) {
        let told = ended.lost(reason);
        verdict.problem(format!("{reason} has to be counted {count} times, the agent says {told}"));
    }
    for alarm in ended.alarms().filter(|alarm| !admitted(alarm) && !is_expected(alarm)) {
        verdict.problem(format!("the agent logged: {alarm}"));
    }
    verdict
}

fn keep(settings: &Settings, ended: &Ended) -> Result<()> {
    let Some(out) = &settings.out else { return Ok(()) };
    fs::create_dir_all(out).with_context(|| format!("cannot make {}", out.display()))?;
    fs::write(out.join("records.jsonl"), ended.output.lines.join("\n"))?;
    fs::write(out.join("agent.log"), ended.output.log.join("\n"))?;
    Ok(())
}
