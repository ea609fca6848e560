//! Which of the ends that kernel programs counted were handed over: those that wait in the rings, or are on their way
//! there, are for a later agent.

use std::ops::RangeInclusive;

use conntally_common::Event;
use zerocopy::FromBytes as _;

use super::{KernelSide, loader, selftest::is_selftest};
use crate::{clock::boot_ns, model::Sum};

/// A program counts an end a moment after it read the clock: within so many nanoseconds before the sums are read nothing
/// may have ended. Where flows never stop ending for so long, half of it will do, and so on.
const APART_NS: u64 = 1 << 20;

/// How often that is halved: what is left is less than a program takes.
const TRIES: u32 = 12;

/// Ends that wait: when the program that told of each read the clock (`CLOCK_BOOTTIME`, nanoseconds), and what the flow
/// moved.
#[derive(Debug, Default)]
struct Waiting(Vec<(u64, Sum)>);

impl Waiting {
    fn note(&mut self, record: &[u8]) {
        let end = Event::ref_from_bytes(record).ok().filter(|end| !is_selftest(end));
        self.0.extend(end.map(|end| (end.boot_ns, moved(end))));
    }

    /// What was counted of it up to a moment.
    fn until(&self, boot_ns: u64) -> Sum {
        let counted = self.0.iter().filter(|(told, _)| *told <= boot_ns);
        counted.fold(Sum::default(), |mut sum, (_, moved)| {
            sum += *moved;
            sum
        })
    }

    /// Whether each of them was counted for certain either before the sums were read, at some moment of `read`, or after.
    fn is_clear_of(&self, read: &RangeInclusive<u64>, apart_ns: u64) -> bool {
        let doubtful = read.start().saturating_sub(apart_ns)..=read.end().saturating_add(apart_ns);
        self.0.iter().all(|(told, _)| !doubtful.contains(told))
    }
}

impl KernelSide {
    /// What flows moved whose ends were handed over or lost since this agent began. What ends now is for a later one.
    pub fn ended_until_now(&mut self) -> Sum {
        self.taken_and_lost().0.beyond(self.ended_before) + self.untold.ended
    }

    /// Finds out which ends an earlier agent was handed: neither those that wait nor those that were lost since.
    pub(super) fn find_ended_before(&mut self) {
        let (taken, lost) = self.taken_and_lost();
        self.ended_before = taken.beyond(lost);
    }

    /// What flows moved whose ends are not in the rings any more, and what those of them moved whose ends were lost since
    /// they were last told of.
    ///
    /// The sums say what was counted when they are read; a moment later all of that is in the rings that is not lost, with
    /// what ended since. Clocks tell these apart.
    fn taken_and_lost(&mut self) -> (Sum, Sum) {
        let (mut waiting, mut places) = (Waiting::default(), [self.ends.place(), self.overflow.place()]);
        let mut last_try = 0;
        loop {
            let begun = boot_ns();
            let (ended, lost) = (self.ended_ever(), self.ends_lost());
            let read = begun..=boot_ns();
            loader::wait_for_programs();
            let mut is_held_up = false;
            for (ring, place) in [&mut self.ends, &mut self.overflow].into_iter().zip(&mut places) {
                *place = ring.look(*place, |record| waiting.note(record));
                is_held_up |= ring.is_held_up();
            }
            let is_certain = !is_held_up && waiting.is_clear_of(&read, APART_NS >> last_try);
            if is_certain || last_try == TRIES {
                return (ended.beyond(waiting.until(*read.end())), lost);
            }
            last_try += 1;
        }
    }
}

/// What the flow of an end moved, as the kernel programs sum it up.
pub(super) const fn moved(end: &Event) -> Sum {
    let [original, reply] = &end.counters;
    let packets = original.packets.wrapping_add(reply.packets);
    Sum { flows: 1, packets, bytes: original.bytes.wrapping_add(reply.bytes) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ends_are_told_apart_by_when_they_were_told() {
        let one = |bytes| Sum { flows: 1, packets: 1, bytes };
        let waiting = Waiting(vec![(1_000, one(5)), (900, one(7)), (3_000, one(11))]);
        assert_eq!(waiting.until(2_000), Sum { flows: 2, packets: 2, bytes: 12 });
        assert!(waiting.is_clear_of(&(1_900..=2_000), 800));
        assert!(
            !waiting.is_clear_of(&(1_900..=2_000), 900),
            "the program may have counted it a moment later"
        );
        assert!(!waiting.is_clear_of(&(2_990..=3_010), 0));
        assert!(!waiting.is_clear_of(&(2_900..=2_950), 50));
    }
}
