//! The agent's own way from a ring to records.

use std::os::fd::OwnedFd;

use anyhow::Result;
use aya::maps::MapData;
use conntally::{
    config::Config,
    flow::{Anchor, FlowTable, FlowTableOptions, Visits},
    model::{RateCurve, Record, Visit},
    source::{
        Batch,
        bpf::{Ring, take_events},
    },
};

/// Events of one read.
pub(super) const READ_LIMIT: u64 = 16_384;

/// Ring, flow table and the memory between them.
pub(super) struct Reader {
    ring: Ring,
    table: FlowTable,
    batch: Batch,
    records: Vec<Record>,
    due: Vec<Visit>,
}

/// Due flows that are taken out at once, as the agent does.
const DUE_AT_ONCE: usize = 16_384;

impl Reader {
    pub(super) fn open(ring: &OwnedFd) -> Result<Self> {
        let curve: Vec<_> =
            Config::default().source.rate_curve.iter().map(|step| (step.age, step.every)).collect();
        let since = Anchor { real_ns: 1_700_000_000_000_000_000, boot_ns: 0 };
        Ok(Self {
            ring: Ring::open(&MapData::from_fd(ring.try_clone()?)?)?,
            table: FlowTable::new(
                FlowTableOptions::new(2_000_000, [7; 16], since)
                    .with_visits(Visits::Quiet, RateCurve::new(&curve)),
            ),
            batch: Batch::default(),
            records: Vec::new(),
            due: Vec::new(),
        })
    }

    /// Reads once; returns how many records came of it, and whether the ring is empty.
    pub(super) fn read_once(&mut self) -> (u64, bool) {
        self.batch.clear();
        self.records.clear();
        let emptied = take_events(&mut self.ring, &mut self.batch.observations);
        self.batch.settled = emptied;
        self.table.apply(&self.batch, &mut self.records);
        let now_ns = self.batch.observations.last().map_or(0, |last| last.boot_ns);
        self.due.clear();
        self.table.take_due(now_ns, DUE_AT_ONCE, &mut self.due);
        self.ring.give_back();
        (self.records.len() as u64, emptied)
    }

    /// Reads until there are so many records or the ring is empty; returns the number of records.
    pub(super) fn read(&mut self, wanted: u64) -> u64 {
        let mut told = 0;
        while told < wanted {
            let (records, emptied) = self.read_once();
            told += records;
            if emptied {
                break;
            }
        }
        told
    }

    /// Reads until the ring is empty; returns the number of records.
    pub(super) fn read_all(&mut self) -> u64 {
        self.read(u64::MAX)
    }

    /// How many flows live.
    pub(super) fn flows(&self) -> usize {
        self.table.len()
    }
}
