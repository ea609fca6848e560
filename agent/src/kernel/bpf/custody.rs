//! Copies of ends that were taken out of their queue and are not kept yet, where a later agent finds them if this one
//! is killed.

use std::{io, os::fd::BorrowedFd};

use conntally_common::{Event, EventKind};
use zerocopy::FromZeros;

use super::shared::Shared;

/// The copies, in memory of a map that outlives the process. An end's copy is made before it is taken out, so it is in
/// one of both places at any moment, and perhaps in both.
pub(super) struct Custody {
    copies: Shared<Event>,
    held: usize,
}

impl Custody {
    /// Over a map that was made with `BPF_F_MMAPABLE` and has room for so many.
    ///
    /// # Errors
    /// When the kernel does not map it.
    pub(super) fn over(map: BorrowedFd<'_>, room: usize) -> io::Result<Self> {
        let copies = Shared::<Event>::map(map, room)?;
        let is_held = |index: &usize| copies.get(*index).is_some_and(|copy| copy.kind == EventKind::END);
        let held = (0..room).take_while(is_held).count();
        Ok(Self { copies, held })
    }

    /// What is held, in its order.
    pub(super) fn held(&self) -> Vec<Event> {
        (0..self.held).filter_map(|index| self.copies.get(index)).collect()
    }

    /// How many are held.
    pub(super) const fn len(&self) -> usize {
        self.held
    }

    /// For how many more there is room.
    pub(super) const fn room(&self) -> usize {
        self.copies.len().saturating_sub(self.held)
    }

    /// For how many there is room in all.
    pub(super) const fn capacity(&self) -> usize {
        self.copies.len()
    }

    /// Holds a copy of the end that is about to be taken out; it may be held already, as the last.
    pub(super) fn hold(&mut self, end: &Event) {
        if self.room() == 0 || self.last() == Some(*end) {
            return;
        }
        // Whoever dies in the middle of the first writing leaves no copy, in the middle of the second a whole one.
        self.copies.set(self.held, Event { kind: 0, ..*end });
        self.copies.set(self.held, Event { kind: EventKind::END, ..*end });
        self.held += 1;
    }

    /// Lets go of all of them. To be called when what they tell is kept.
    pub(super) fn let_go(&mut self) {
        (0..self.held).rev().for_each(|index| self.copies.set(index, Event::new_zeroed()));
        self.held = 0;
    }

    fn last(&self) -> Option<Event> {
        self.copies.get(self.held.checked_sub(1)?)
    }
}

#[cfg(test)]
mod tests {
    use std::{
        fs::File,
        os::fd::{AsFd, OwnedFd},
    };

    use nix::sys::memfd::{MFdFlags, memfd_create};

    use super::*;

    const ROOM: usize = 3;

    /// Memory that is mapped as that of a map is.
    fn memory() -> File {
        let memory: OwnedFd = memfd_create(c"custody", MFdFlags::empty()).unwrap();
        let memory = File::from(memory);
        memory.set_len((ROOM * size_of::<Event>()) as u64).unwrap();
        memory
    }

    fn open(memory: &File) -> Custody {
        Custody::over(memory.as_fd(), ROOM).unwrap()
    }

    fn end(conntrack: u64) -> Event {
        Event { conntrack, kind: EventKind::END, ..Event::new_zeroed() }
    }

    #[test]
    fn whoever_comes_later_finds_what_was_held_and_not_let_go() {
        let memory = memory();
        let mut custody = open(&memory);
        [end(1), end(2)].iter().for_each(|end| custody.hold(end));
        assert_eq!(custody.room(), 1);
        drop(custody);
        let mut later = open(&memory);
        assert_eq!(later.held(), [end(1), end(2)]);
        later.let_go();
        later.hold(&end(3));
        drop(later);
        assert_eq!(open(&memory).held(), [end(3)]);
    }

    #[test]
    fn an_end_that_was_held_but_not_taken_out_is_held_once() {
        let memory = memory();
        open(&memory).hold(&end(1));
        let mut later = open(&memory);
        later.hold(&end(1));
        assert_eq!(later.held(), [end(1)]);
    }

    #[test]
    fn a_copy_that_was_not_finished_is_none_and_no_more_are_held_than_fit() {
        let memory = memory();
        let mut custody = open(&memory);
        custody.copies.set(0, Event { kind: 0, ..end(1) });
        assert_eq!(open(&memory).held(), []);
        (1..=5).for_each(|conntrack| custody.hold(&end(conntrack)));
        assert_eq!(custody.held(), [end(1), end(2), end(3)]);
    }
}
