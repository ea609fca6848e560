//! Takes ends out of the queue behind their ring, so that none is lost when the agent is killed meanwhile.

use anyhow::Context;
use aya::maps::{Map, MapError, Queue};
use conntally_common::Event;
use zerocopy::{FromZeros, IntoBytes};

use super::{KernelSide, abi::Plain, custody::Custody, loader};

/// What was in the queue.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Overflowed {
    /// The oldest end.
    End(Event),
    /// Nothing.
    Empty,
    /// No more may be taken until what was taken is kept.
    Later,
}

impl KernelSide {
    /// The next end for which the ring of ends had no room. To be asked for after each read of that ring.
    ///
    /// # Errors
    /// When the kernel does not hand it over.
    pub fn overflowed_end(&mut self) -> anyhow::Result<Overflowed> {
        // The other half is for ends that wait when the next agent finds these.
        if self.custody.as_ref().is_some_and(|custody| custody.room() <= custody.capacity() / 2) {
            return Ok(Overflowed::Later);
        }
        let queue = self.object.maps.get_mut("ENDS_OVERFLOW")?;
        Ok(take(queue, self.custody.as_mut())?.map_or(Overflowed::Empty, Overflowed::End))
    }

    /// All that is in the queue, and before it what an earlier agent had taken out and may not have kept.
    pub(super) fn all_overflowed(&mut self) -> anyhow::Result<Vec<Event>> {
        let queue = self.object.maps.get_mut("ENDS_OVERFLOW")?;
        empty(queue, self.custody.as_mut())
    }

    /// What was taken of rings and queue is kept: a later agent need not find it.
    pub fn give_back(&mut self) {
        if let Some(custody) = &mut self.custody {
            custody.let_go();
        }
        self.ends().give_back();
        self.updates().give_back();
    }
}

/// Takes all ends, each held by `custody` as long as that has room, and those that it held before.
pub(super) fn empty(queue: &mut Map, mut custody: Option<&mut Custody>) -> anyhow::Result<Vec<Event>> {
    let mut beyond = Vec::new();
    loop {
        let is_held = custody.as_ref().is_some_and(|custody| custody.room() > 0);
        match take(queue, custody.as_deref_mut().filter(|_| is_held))? {
            Some(end) if !is_held => beyond.push(end),
            Some(_) => {}
            None => break,
        }
    }
    let mut all = custody.map(|custody| custody.held()).unwrap_or_default();
    all.append(&mut beyond);
    Ok(all)
}

/// Takes the oldest end, of which `custody` gets a copy before.
fn take(queue: &mut Map, custody: Option<&mut Custody>) -> anyhow::Result<Option<Event>> {
    const FAILED: &str = "the ends that the ring had no room for cannot be read";
    if let Some(custody) = custody {
        let mut end = Event::new_zeroed();
        if !loader::front(queue, end.as_mut_bytes()).context(FAILED)? {
            return Ok(None);
        }
        custody.hold(&end);
    }
    match Queue::<_, Plain<Event>>::try_from(queue)?.pop(0) {
        Ok(Plain(event)) => Ok(Some(event)),
        Err(MapError::ElementNotFound) => Ok(None),
        Err(error) => Err(error).context(FAILED),
    }
}
