//! What an agent takes over from the one before it: its flows, and the records that it may not have written.

use super::consumer::boot_id;
use crate::config::Config;
use crate::flow::{FlowTable, FlowTableOptions, SavedFlow};
use crate::model::{Anchor, NumberedBatch, Record};
use crate::state::{BATCH_RECORDS, Begin, Directory, Past, State, StateError};
use anyhow::Context;
use std::time::Duration;
use tokio::task::JoinHandle;

/// What is in the state directory, being read.
pub(super) struct Legacy(JoinHandle<Result<(Directory, Option<Past>), StateError>>);

/// An agent's beginning.
pub(super) struct Resumed {
    /// With the flows of the agent before.
    pub(super) table: FlowTable,
    pub(super) state: State,
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
    let read = move || directory.read().map(|past| (directory, past));
    Ok(Some(Legacy(tokio::task::spawn_blocking(read))))
}

impl Legacy {
    /// Takes it over. To be called when the source is in place; `by_address`: that it tells the addresses of entries.
    ///
    /// # Errors
    /// When the directory or a clock cannot be read.
    pub(super) async fn take_over(self, config: &Config, by_address: bool) -> anyhow::Result<Resumed> {
        let (directory, past) = self.0.await.context("reading the state failed")??;
        let now = Anchor::now().context("cannot read the clocks")?;
        let begin = Begin { boot_id: boot_id()?, accounting_since: now, next_batch: 0, clock: Vec::new() };
        let (mut table, begin, unwritten) = match past {
            None => (empty(config, &begin), begin, Vec::new()),
            Some(past) => take_over_from(&past, config, begin, by_address),
        };
        let state = State::begin(directory, begin, &table, &unwritten);
        table.keep_journal();
        Ok(Resumed { table, state, unwritten })
    }
}

fn take_over_from(
    past: &Past,
    config: &Config,
    begin: Begin,
    by_address: bool,
) -> (FlowTable, Begin, Vec<NumberedBatch>) {
    tell_damage(past);
    let unwritten = unwritten(past);
    let now = begin.accounting_since;
    let begin = Begin { next_batch: past.next_batch, ..begin };
    if past.boot_id != begin.boot_id {
        let (begin, unwritten) = bury(config, past, begin, unwritten);
        return (empty(config, &begin), begin, unwritten);
    }
    let since = if past.is_whole() { past.accounting_since } else { now };
    let begin = Begin { accounting_since: since, clock: past.clock.clone(), ..begin };
    let table = follow_on(empty(config, &begin), past, by_address);
    let gap = Duration::from_nanos(now.boot_ns.saturating_sub(past.until_boot_ns));
    tracing::warn!(
        flows = table.len(),
        batches = unwritten.len(),
        "state: flows are followed on, and batches that may not have been written are handed on again; no agent ran \
         for {gap:.1?}: flows that began and ended meanwhile are not known"
    );
    (table, begin, unwritten)
}

fn empty(config: &Config, begin: &Begin) -> FlowTable {
    let max_flows = config.flow.max_flows as usize;
    FlowTable::new(FlowTableOptions::new(max_flows, begin.boot_id, begin.accounting_since))
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
    batches.map(|(number, records)| (*number, records.as_slice().into())).collect()
}

/// Flows of this boot go on where they were.
fn follow_on(mut table: FlowTable, past: &Past, by_address: bool) -> FlowTable {
    learn_clock(&mut table, past);
    for flow in past.followed_on() {
        let conntrack = if by_address { flow.conntrack } else { 0 };
        table.restore(&SavedFlow { conntrack, ..flow });
    }
    table
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
        unwritten.push((next_batch, batch.into()));
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
