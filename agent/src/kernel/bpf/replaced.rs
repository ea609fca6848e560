//! Programs of an earlier agent that are replaced: what they had still to say, which stays in the kernel until it is kept.

use std::path::Path;

use aya::maps::{Map, MapData};
use conntally_common::{Event, EventKind, Tally};
use zerocopy::FromBytes;

use super::{
    counted::{Counts, Skips},
    loader,
    pins::{Board, Description, PinDirectory, Told, map_at},
    ring::Ring,
    selftest::is_selftest,
    taken::moved,
};
use crate::model::Sum;

/// In the order in which their events may be applied.
const RINGS: [&str; 3] = ["UPDATES", "ENDS", "ENDS_OVERFLOW"];
const TALLIES: &str = "TALLIES";

/// What replaced programs left.
#[derive(Debug, Default)]
pub(super) struct Remains {
    /// Events that nobody has given back.
    pub(super) events: Vec<Event>,
    /// What they counted and no agent has told.
    pub(super) untold: Untold,
}

/// What was counted and not told.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Untold {
    /// What flows moved of whose ends no agent was told.
    pub(super) ended: Sum,
    /// What was lost since that was last told.
    pub(super) lost: Told,
}

/// Sets aside what the programs of a directory left. Returns how often the kernel skipped them, which nothing tells when
/// they are detached.
pub(super) fn retire(directory: &PinDirectory) -> Told {
    let skipped = skipped(directory).unwrap_or_default();
    if let Err(error) = directory.retire(&[RINGS.as_slice(), &[TALLIES]].concat()) {
        tracing::error!("what the earlier programs had still to say is lost: {error}");
    }
    skipped
}

/// Reads what was set aside. What it calls the births of living flows, the programs that come now call otherwise.
pub(super) fn read(directory: &PinDirectory) -> Remains {
    let (mut remains, mut unread) = (Remains::default(), 0);
    let retired = directory.retired();
    if !retired.is_empty() {
        loader::wait_for_programs();
    }
    for path in &retired {
        if Description::has_same_events(path) {
            remains.add(path, &mut unread);
        } else {
            let rings = RINGS.iter().filter_map(|name| open_ring(path, name));
            unread += rings.map(|mut ring| count(&mut ring)).sum::<usize>();
        }
    }
    tell(remains.events.len(), unread);
    let living = remains.events.iter_mut().filter(|event| event.kind != EventKind::END);
    living.for_each(|event| event.born_ns = 0);
    remains
}

impl Remains {
    fn add(&mut self, retired: &Path, unread: &mut usize) {
        let mut ended = Sum::default();
        for mut ring in RINGS.iter().filter_map(|name| open_ring(retired, name)) {
            while let Some(record) = ring.take() {
                let Ok(event) = Event::read_from_bytes(record) else {
                    *unread += 1;
                    continue;
                };
                if event.kind == EventKind::END && !is_selftest(&event) {
                    ended += moved(&event);
                }
                self.events.push(event);
            }
        }
        self.untold.ended += ended;
        match lost(retired) {
            Ok(lost) => self.untold.add_lost(&lost),
            Err(error) => tracing::warn!("what else the earlier programs lost is not known: {error:#}"),
        }
    }
}

impl Untold {
    /// Adds ends that were lost, with their totals, and other losses.
    pub(super) fn add_lost(&mut self, lost: &Told) {
        self.ended += lost.ends_lost;
        self.lost.add(lost);
    }
}

/// What detached programs lost since it was last told.
fn lost(retired: &Path) -> anyhow::Result<Told> {
    let told = Board::open_at(retired)?.read();
    let Counts { losses, ends_lost, .. } = Counts::of(&loader::shared::<Tally>(&open(retired, TALLIES)?)?);
    Ok(Told { losses, ends_lost, ..Told::default() }.since(&told))
}

/// How often the kernel has skipped the programs of a directory since that was last told.
fn skipped(directory: &PinDirectory) -> anyhow::Result<Told> {
    let Some(found) = Description::read(directory)? else { return Ok(Told::default()) };
    let told = Board::open_at(directory.path())?.read();
    let Skips { ends, notes } = Skips::of(&found.open_links(directory)?);
    let now = Told { ends_skipped: ends.unwrap_or(0), notes_skipped: notes.unwrap_or(0), ..told };
    Ok(now.since(&told))
}

fn count(ring: &mut Ring) -> usize {
    let mut records = 0;
    while ring.take().is_some() {
        records += 1;
    }
    records
}

fn tell(read: usize, unread: usize) {
    if unread > 0 {
        tracing::error!(
            unread,
            "events of the earlier programs are laid out as another version has them, and are lost"
        );
    }
    if read > 0 {
        tracing::info!(events = read, "the earlier programs' last events were read");
    }
}

fn open_ring(retired: &Path, name: &str) -> Option<Ring> {
    let opened = open(retired, name).and_then(|map| loader::ring(&map));
    opened
        .inspect_err(|error| {
            tracing::warn!("what may be left in the earlier programs' ring {name} is lost: {error:#}")
        })
        .ok()
}

fn open(retired: &Path, name: &str) -> anyhow::Result<Map> {
    Ok(Map::from_map_data(MapData::from_pin(map_at(retired, name))?)?)
}
