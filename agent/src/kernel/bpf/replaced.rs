//! Programs of an earlier agent that are replaced: what they had still to say, which stays in the kernel until it is kept.

use std::{
    path::{Path, PathBuf},
    thread::sleep,
    time::{Duration, Instant},
};

use aya::maps::{Map, MapData};
use conntally_common::{Event, EventKind, Tally};
use zerocopy::FromBytes;

use super::{
    counted::{Counts, Skips},
    loader::{self, Link, Program},
    pins::{Board, Description, PinDirectory, PinError, Told, map_at},
    ring::Ring,
    selftest::is_selftest,
    taken::moved,
};
use crate::model::Sum;

/// In the order in which their events may be applied.
const RINGS: [&str; 3] = ["UPDATES", "ENDS", "ENDS_OVERFLOW"];
const TALLIES: &str = "TALLIES";

/// How long the kernel may take to detach programs: it waits for all that run, and lets others go first.
const DETACHED_WITHIN: Duration = Duration::from_secs(2);

/// How long a program may be stopped while it writes an event.
const WRITTEN_WITHIN: Duration = Duration::from_secs(2);

const POLL: Duration = Duration::from_millis(1);

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

/// Whether another source fed the state directory after the programs of its pins were attached: what they tell was
/// billed then.
pub(super) fn are_outdated(directory: &PinDirectory, fed_since_ns: Option<u64>) -> bool {
    let found = Description::read(directory).ok().flatten();
    found.zip(fed_since_ns).is_some_and(|(found, fed_since_ns)| found.attached_boot_ns < fed_since_ns)
}

/// Sets aside what the programs of a directory left.
pub(super) fn retire(directory: &PinDirectory) {
    if let Err(error) = note_skips(directory) {
        tracing::warn!("how often the earlier programs were skipped is not known: {error:#}");
    }
    if let Err(error) = directory.retire(&[RINGS.as_slice(), &[TALLIES]].concat()) {
        tracing::error!("what the earlier programs had still to say is lost: {error}");
    }
}

/// Notes how often the kernel skipped the programs, which nothing tells when they are detached.
fn note_skips(directory: &PinDirectory) -> anyhow::Result<()> {
    let Some(found) = Description::read(directory)? else { return Ok(()) };
    let Skips { ends, notes } = Skips::of(&found.open_links(directory)?);
    let skipped = Some([ends, notes].map(Option::unwrap_or_default));
    Description { skipped, ..found }.write(directory)
}

/// Removes all but what was set aside, and waits until the kernel has detached the programs: it does so some time after
/// the last reference to a link is gone.
pub(super) fn detach(directory: &PinDirectory) -> Result<(), PinError> {
    let programs = |link: &PathBuf| Link::open(link).ok()?.0.id();
    let programs: Vec<u32> = directory.links().iter().filter_map(programs).collect();
    directory.clear()?;
    let until = Instant::now() + DETACHED_WITHIN;
    while programs.iter().any(|id| Program::is_there(*id) != Some(false)) && Instant::now() < until {
        sleep(POLL);
    }
    if !programs.is_empty() {
        // One of them may have begun just before.
        loader::wait_for_programs();
    }
    Ok(())
}

/// Reads what was set aside. What it calls the births of living flows, the programs that come now call otherwise.
pub(super) fn read(directory: &PinDirectory) -> Remains {
    let (mut remains, mut unread) = (Remains::default(), 0);
    for path in &directory.retired() {
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
        RINGS.iter().filter_map(|name| open_ring(retired, name)).for_each(|mut ring| {
            self.take(&mut ring, unread);
        });
        match lost(retired) {
            Ok(lost) => self.untold.add_lost(&lost),
            Err(error) => tracing::warn!("what else the earlier programs lost is not known: {error:#}"),
        }
    }

    /// Takes what is in a ring; waits for a program that was stopped while it wrote.
    fn take(&mut self, ring: &mut Ring, unread: &mut usize) {
        let until = Instant::now() + WRITTEN_WITHIN;
        loop {
            while let Some(record) = ring.take() {
                let Ok(event) = Event::read_from_bytes(record) else {
                    *unread += 1;
                    continue;
                };
                if event.kind == EventKind::END && !is_selftest(&event) {
                    self.untold.ended += moved(&event);
                }
                self.events.push(event);
            }
            if !ring.is_held_up() || Instant::now() > until {
                return;
            }
            sleep(POLL);
        }
    }
}

impl Untold {
    /// Adds ends that were lost, with their totals, and other losses.
    fn add_lost(&mut self, lost: &Told) {
        self.ended += lost.ends_lost;
        self.lost.add(lost);
    }
}

/// What detached programs lost since it was last told.
fn lost(retired: &Path) -> anyhow::Result<Told> {
    let tallies = loader::shared::<Tally>(&open(retired, TALLIES)?)?;
    let Counts { losses, ends_lost, .. } = Counts::of(&tallies);
    let told = Board::open_at(retired)?.read();
    let skipped = Description::read_at(retired).ok().flatten().and_then(|found| found.skipped);
    let [ends_skipped, notes_skipped] = skipped.unwrap_or([told.ends_skipped, told.notes_skipped]);
    Ok(Told { losses, ends_lost, ends_skipped, notes_skipped }.since(&told))
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

#[cfg(test)]
mod tests {
    use conntally_common::SELFTEST_ADDRESS;
    use zerocopy::{FromZeros, IntoBytes};

    use super::*;
    use crate::kernel::bpf::ring::tests::Writer;

    fn told(kind: u8, bytes: u64) -> Event {
        let mut event = Event::new_zeroed();
        event.kind = kind;
        event.tuples[0].family = 2;
        (event.counters[0].packets, event.counters[0].bytes, event.counters[1].bytes) = (1, bytes, 1);
        event
    }

    #[test]
    fn what_ended_is_summed_up_but_for_the_self_test() {
        let mut writer = Writer::new();
        let mut selftest = told(EventKind::END, 1000);
        let [original, _] = &mut selftest.tuples;
        original.src[..4].copy_from_slice(&SELFTEST_ADDRESS);
        original.dst[..4].copy_from_slice(&SELFTEST_ADDRESS);
        for event in
            [told(EventKind::UPDATE, 5), told(EventKind::END, 20), selftest, told(EventKind::END, 300)]
        {
            writer.put(event.as_bytes(), 0);
        }
        writer.put(b"of another size", 0);
        let (mut remains, mut unread) = (Remains::default(), 0);
        remains.take(&mut writer.ring(), &mut unread);
        assert_eq!((remains.events.len(), unread), (4, 1));
        assert_eq!(remains.untold.ended, Sum { flows: 2, packets: 2, bytes: 322 });
        assert_eq!(count(&mut writer.ring()), 5, "nothing was given back");
    }

    #[test]
    fn ends_that_were_lost_have_ended_too() {
        let mut untold = Untold { ended: Sum { flows: 1, packets: 2, bytes: 3 }, ..Untold::default() };
        let ends_lost = Sum { flows: 10, packets: 20, bytes: 30 };
        untold.add_lost(&Told { ends_lost, ends_skipped: 4, ..Told::default() });
        assert_eq!(untold.ended, Sum { flows: 11, packets: 22, bytes: 33 });
        assert_eq!((untold.lost.ends_lost, untold.lost.ends_skipped), (ends_lost, 4));
    }
}
