//! What an agent takes over from the one before it: its flows, and the records that it may not have written.

use super::consumer::{boot_id, empty_table};
use crate::config::Config;
use crate::flow::{FlowTable, FlowTableOptions, SavedFlow, Visits};
use crate::model::{Anchor, NumberedBatch, Record};
use crate::source::Losses;
use crate::state::{BATCH_RECORDS, Begin, Directory, Found, MISSING, Past, State, StateError};
use anyhow::Context;
use std::time::Duration;
use tokio::task::JoinHandle;

/// By what a source tells flows that an earlier agent knew, beside their start stamps.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Continuity {
    /// Namespace and tuple.
    Tuples,
    /// Also the addresses of the kernel's entries.
    Addresses,
    /// Also when the kernel programs met them, as these are the same programs. They kept what happened since.
    Births,
}

/// The source of an agent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Origin {
    /// Since when it tells without a break, `CLOCK_BOOTTIME` nanoseconds: also what an earlier agent read of it.
    pub(super) since_ns: u64,
    /// Whose kernel programs it reads.
    pub(super) programs: Programs,
}

/// Kernel programs of a source.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Programs {
    /// It has none.
    None,
    /// Its own.
    Attached,
    /// Those of an earlier agent.
    TakenOver,
}

impl Origin {
    /// By what its observations tell the flows of a state. Programs have gone on with all of them only if they told of
    /// all of them: their first agent may have come to its end before it had taken over what was there.
    fn continuity(self, past: Option<&Past>) -> Continuity {
        match self.programs {
            Programs::None => Continuity::Tuples,
            Programs::TakenOver if past.is_none_or(|past| past.source_since_ns == Some(self.since_ns)) => {
                Continuity::Births
            }
            Programs::Attached | Programs::TakenOver => Continuity::Addresses,
        }
    }
}

/// What is in the state directory, being read.
pub(super) struct Legacy {
    read: JoinHandle<Result<(Directory, Found), StateError>>,
    /// Since when the source told that fed it last, `CLOCK_BOOTTIME` nanoseconds of this boot.
    pub(super) fed_since_ns: Option<u64>,
}

/// An agent's beginning.
pub(super) struct Resumed {
    /// With the flows of the agent before.
    pub(super) table: FlowTable,
    pub(super) state: State,
    /// For how long no agent ran, milliseconds; 0 when there is none before this one.
    pub(super) gap_ms: u64,
    /// What of the state could not be read, by reason.
    pub(super) losses: Losses,
    /// Batches that may not have been written.
    pub(super) unwritten: Vec<NumberedBatch>,
}

/// Takes the state directory and begins to read it, if one is configured. Reading goes on beside: nothing should wait
/// for it that could count already.
///
/// # Errors
/// When the directory cannot be made or another agent uses it.
pub(super) fn read(config: &Config) -> anyhow::Result<Option<Legacy>> {
    let Some(path) = &config.state_dir else { return Ok(None) };
    let directory = Directory::open(path)?;
    let fed_since_ns = directory.latest_source(boot_id()?);
    let read = move || directory.read().map(|found| (directory, found));
    Ok(Some(Legacy { read: tokio::task::spawn_blocking(read), fed_since_ns }))
}

impl Legacy {
    /// Takes it over. To be called when the source is in place.
    ///
    /// # Errors
    /// When the directory or a clock cannot be read.
    pub(super) async fn take_over(
        self,
        config: &Config,
        origin: Origin,
        visits: Visits,
    ) -> anyhow::Result<Resumed> {
        let (directory, found) = self.read.await.context("reading the state failed")??;
        let now = Anchor::now().context("cannot read the clocks")?;
        let next_batch = u64::try_from(now.real_ns).unwrap_or_default();
        let begin = Begin {
            boot_id: boot_id()?,
            accounting_since: now,
            next_batch,
            clock: Vec::new(),
            source_since_ns: origin.since_ns,
        };
        let Found { past, losses } = with_missing(found, origin.programs);
        let continuity = origin.continuity(past.as_ref());
        let gap_ms = past.as_ref().map_or(0, |past| gap_ms(past, begin.boot_id, now));
        // What happened meanwhile the programs kept.
        let gap_ms = if continuity == Continuity::Births { 0 } else { gap_ms };
        let made = Made { config, visits, continuity };
        let (mut table, begin, unwritten) = match past {
            None => (made.empty(&begin), begin, Vec::new()),
            Some(past) => take_over_from(&past, made, begin),
        };
        let state = State::begin(directory, begin, &table, &unwritten);
        table.keep_journal();
        Ok(Resumed { table, state, gap_ms, losses, unwritten })
    }
}

/// What a table is made for.
#[derive(Clone, Copy)]
struct Made<'a> {
    config: &'a Config,
    visits: Visits,
    continuity: Continuity,
}

impl Made<'_> {
    fn empty(&self, begin: &Begin) -> FlowTable {
        empty_table(self.config, begin.boot_id, begin.accounting_since, self.visits)
    }
}

/// Programs that are there without a state are those of an agent of which nothing is known any more: what they tell as
/// moved may have been billed or not.
fn with_missing(found: Found, programs: Programs) -> Found {
    let Found { past: None, losses } = &found else { return found };
    if programs != Programs::TakenOver || !losses.is_empty() {
        return found;
    }
    tracing::warn!(
        "state: the kernel programs of an earlier agent were taken over, but its state is missing: how much was not \
         billed since is not known"
    );
    Found { losses: vec![(MISSING, 1)], ..found }
}

fn take_over_from(past: &Past, made: Made<'_>, begin: Begin) -> (FlowTable, Begin, Vec<NumberedBatch>) {
    tell_damage(past);
    let unwritten = unwritten(past);
    let now = begin.accounting_since;
    // Numbers rise over all agents, also when the state of one is lost: a spool remembers them.
    let begin = Begin { next_batch: begin.next_batch.max(past.next_batch), ..begin };
    if past.boot_id != begin.boot_id {
        let (begin, unwritten) = bury(made.config, past, begin, unwritten);
        return (made.empty(&begin), begin, unwritten);
    }
    // Where not all flows are known, what an unknown one has moved may have been billed.
    let is_known = past.is_whole() && fits(past, made.config);
    let since = if is_known { past.accounting_since } else { now };
    let begin = Begin { accounting_since: since, clock: past.clock.clone(), ..begin };
    let table = follow_on(made.empty(&begin), past, made.continuity);
    let gap = Duration::from_millis(gap_ms(past, begin.boot_id, now));
    tell_followed_on(&table, &unwritten, gap, made.continuity);
    (table, begin, unwritten)
}

fn tell_followed_on(table: &FlowTable, unwritten: &[NumberedBatch], gap: Duration, continuity: Continuity) {
    let (flows, batches) = (table.len(), unwritten.len());
    let what = "state: flows are followed on, and batches that may not have been written are handed on again";
    if continuity == Continuity::Births {
        tracing::info!(
            flows,
            batches,
            "{what}; no agent ran for {gap:.1?}, in which the kernel programs went on"
        );
    } else {
        tracing::warn!(
            flows,
            batches,
            "{what}; no agent ran for {gap:.1?}: flows that began and ended meanwhile are not known"
        );
    }
}

/// For how long no agent ran in this boot, begun milliseconds included.
fn gap_ms(past: &Past, boot_id: [u8; 16], now: Anchor) -> u64 {
    let gap_ns = now.boot_ns.saturating_sub(past.until_boot_ns);
    if past.boot_id == boot_id { gap_ns.div_ceil(1_000_000) } else { 0 }
}

fn tell_damage(past: &Past) {
    for damage in &past.damage {
        tracing::error!("state: {damage}");
    }
    if !past.is_whole() {
        tracing::error!(
            "state: it is not certain up to where each flow was billed; what flows moved until now is not billed again"
        );
    }
}

fn unwritten(past: &Past) -> Vec<NumberedBatch> {
    let batches = past.unwritten.iter().filter(|(_, records)| !records.is_empty());
    batches.map(|(number, records)| (*number, records.clone().into())).collect()
}

/// Whether there is room for all flows that may live: the configuration may be another one now.
fn fits(past: &Past, config: &Config) -> bool {
    past.followed_on().filter(|flow| !flow.missed).count() <= config.flow.max_flows as usize
}

/// Flows of this boot go on where they were.
fn follow_on(mut table: FlowTable, past: &Past, continuity: Continuity) -> FlowTable {
    learn_clock(&mut table, past);
    for flow in past.followed_on() {
        table.restore(&as_seen(flow, continuity));
    }
    for flow in &past.ended {
        table.restore_ended(&as_seen(*flow, continuity));
    }
    table
}

/// What of a flow's place in the kernel still means something.
fn as_seen(flow: SavedFlow, continuity: Continuity) -> SavedFlow {
    match continuity {
        Continuity::Tuples => SavedFlow { conntrack: 0, born_ns: 0, ..flow },
        Continuity::Addresses => SavedFlow { born_ns: 0, ..flow },
        Continuity::Births => flow,
    }
}

/// The steps of the wall clock, which start stamps need.
fn learn_clock(table: &mut FlowTable, past: &Past) {
    for reading in &past.clock {
        table.re_anchor(*reading);
    }
}

/// Flows of another boot are gone: each gets its end, with the totals known.
fn bury(
    config: &Config,
    past: &Past,
    begin: Begin,
    mut unwritten: Vec<NumberedBatch>,
) -> (Begin, Vec<NumberedBatch>) {
    let records = ends_of(config, past);
    tracing::warn!(
        flows = records.len(),
        batches = unwritten.len(),
        "state: it is of another boot: its flows end as missed, with their last totals; batches that may not have \
         been written are handed on again"
    );
    let mut next_batch = begin.next_batch;
    for batch in records.chunks(BATCH_RECORDS) {
        unwritten.push((next_batch, batch.to_vec().into()));
        next_batch = next_batch.saturating_add(1);
    }
    (Begin { next_batch, ..begin }, unwritten)
}

fn ends_of(config: &Config, past: &Past) -> Vec<Record> {
    let max_flows = past.flows.len().max(config.flow.max_flows as usize);
    let options = FlowTableOptions::new(max_flows, past.boot_id, past.accounting_since);
    let mut table = FlowTable::new(options);
    learn_clock(&mut table, past);
    past.flows.values().for_each(|flow| table.restore(flow));
    let mut records = Vec::new();
    table.abandon(&mut records);
    records
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{Counter, EndReason, FlowId, RecordKind, Totals};
    use crate::state::Damage;

    const SECOND: u64 = 1_000_000_000;
    const OLD: Anchor = Anchor { boot_ns: 10 * SECOND, real_ns: 1_700_000_010 * SECOND as i64 };
    const NOW: Anchor = Anchor { boot_ns: 90 * SECOND, real_ns: 1_700_000_090 * SECOND as i64 };

    fn flow(id: u128, missed: bool) -> SavedFlow {
        let totals = Totals { original: Counter { packets: 3, bytes: 300 }, ..Totals::default() };
        let original = crate::model::Tuple { src_port: id as u16, ..Default::default() };
        SavedFlow {
            flow_id: FlowId(id),
            conntrack: 5,
            last_seen_ns: 50 * SECOND,
            totals,
            original,
            missed,
            ..SavedFlow::default()
        }
    }

    /// Two flows, one that was found gone, and a batch that was not written.
    fn past(boot_id: [u8; 16]) -> Past {
        let flows = [flow(1, false), flow(2, false), flow(3, true)];
        let mut table = FlowTable::new(FlowTableOptions::new(10, boot_id, OLD));
        table.restore(&flow(9, false));
        let mut records = Vec::new();
        table.abandon(&mut records);
        Past {
            boot_id,
            accounting_since: OLD,
            until_boot_ns: 60 * SECOND,
            source_since_ns: Some(5 * SECOND),
            flows: flows.into_iter().map(|flow| (flow.flow_id, flow)).collect(),
            unwritten: [(7, records)].into(),
            next_batch: 8,
            clock: Vec::new(),
            damage: Vec::new(),
            ended: Vec::new(),
        }
    }

    fn take_over(past: &Past) -> (FlowTable, Begin, Vec<NumberedBatch>) {
        take_over_with(past, Config::default().flow.max_flows)
    }

    fn take_over_with(past: &Past, max_flows: u32) -> (FlowTable, Begin, Vec<NumberedBatch>) {
        let begin = Begin {
            boot_id: [1; 16],
            accounting_since: NOW,
            next_batch: 0,
            clock: Vec::new(),
            source_since_ns: 70 * SECOND,
        };
        let mut config = Config::default();
        config.flow.max_flows = max_flows;
        let made = Made { config: &config, visits: Visits::Never, continuity: Continuity::Addresses };
        take_over_from(past, made, begin)
    }

    #[test]
    fn programs_without_a_state_are_a_doubt_unless_it_was_told_why() {
        let losses = |found, programs| with_missing(found, programs).losses;
        assert_eq!(losses(Found::default(), Programs::TakenOver), [(MISSING, 1)]);
        assert_eq!(losses(Found::default(), Programs::Attached), []);
        let damaged = || Found { losses: vec![("state_damaged", 2)], ..Found::default() };
        assert_eq!(losses(damaged(), Programs::TakenOver), [("state_damaged", 2)]);
        let known = Found { past: Some(past([1; 16])), losses: Vec::new() };
        assert_eq!(losses(known, Programs::TakenOver), []);
    }

    #[test]
    fn programs_went_on_with_a_state_only_if_they_told_of_all_of_it() {
        let continuity = |programs, since_ns, source_since_ns| {
            let past = Past { source_since_ns, ..past([1; 16]) };
            Origin { since_ns, programs }.continuity(Some(&past))
        };
        let (five, seven) = (5 * SECOND, 7 * SECOND);
        assert_eq!(continuity(Programs::TakenOver, five, Some(five)), Continuity::Births);
        assert_eq!(continuity(Programs::TakenOver, seven, Some(five)), Continuity::Addresses);
        assert_eq!(continuity(Programs::TakenOver, five, None), Continuity::Addresses, "of several");
        assert_eq!(continuity(Programs::Attached, five, Some(five)), Continuity::Addresses);
        assert_eq!(continuity(Programs::None, five, Some(five)), Continuity::Tuples);
    }

    #[test]
    fn flows_of_this_boot_are_followed_on() {
        let (table, begin, unwritten) = take_over(&past([1; 16]));
        assert_eq!((table.len(), begin.accounting_since, begin.next_batch), (2, OLD, 8));
        assert_eq!(unwritten.iter().map(|(number, _)| *number).collect::<Vec<_>>(), [7]);
    }

    #[test]
    fn flows_that_were_found_gone_take_no_room_and_without_room_births_count_from_now_on() {
        let (table, begin, _) = take_over_with(&past([1; 16]), 2);
        assert_eq!(
            (table.len(), table.losses()[0], begin.accounting_since),
            (2, ("flow_table_full", 0), OLD)
        );
        let (table, begin, _) = take_over_with(&past([1; 16]), 1);
        assert_eq!(
            (table.len(), table.losses()[0], begin.accounting_since),
            (1, ("flow_table_full", 1), NOW)
        );
    }

    #[test]
    fn flows_of_another_boot_end_as_missed_once_after_what_was_not_written() {
        let (table, begin, unwritten) = take_over(&past([2; 16]));
        assert_eq!((table.len(), begin.accounting_since, begin.next_batch), (0, NOW, 9));
        let [(7, _), (8, ends)] = unwritten.as_slice() else { panic!("{unwritten:?}") };
        let told: Vec<_> = ends.iter().map(|end| (end.kind, end.end_reason, end.totals, end.delta)).collect();
        let end = (RecordKind::End, Some(EndReason::Missed), flow(1, false).totals, Totals::default());
        assert_eq!(told, [end; 2]);
        // By the clock of that boot.
        assert!(ends.iter().all(|end| end.observed_ns == 1_700_000_050 * SECOND as i64));
    }

    #[test]
    fn after_damage_births_count_from_now_on() {
        let damage = vec![Damage { file: "log.1".into(), offset: 64, what: "is damaged" }];
        let (table, begin, _) = take_over(&Past { damage, ..past([1; 16]) });
        assert_eq!((table.len(), begin.accounting_since), (2, NOW));
        assert!(table.save(0..table.places()).all(|flow| flow.midlife && flow.no_counters));
    }

    #[test]
    fn a_flow_keeps_of_its_place_in_the_kernel_what_the_source_goes_on_with() {
        let place = |continuity| {
            let seen = as_seen(SavedFlow { born_ns: 7, ..flow(1, false) }, continuity);
            (seen.conntrack, seen.born_ns)
        };
        assert_eq!(place(Continuity::Births), (5, 7));
        assert_eq!(
            place(Continuity::Addresses),
            (5, 0),
            "programs that are attached anew call births otherwise"
        );
        assert_eq!(place(Continuity::Tuples), (0, 0));
    }
}
