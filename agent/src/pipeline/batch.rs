//! A request that is being put together.

use std::time::Duration;

use tokio::time::Instant;

use super::guard::{Panicked, guard};
use super::queue::Held;
use super::{Item, Request};

/// How large a request may become.
#[derive(Clone, Copy, Debug)]
pub(super) struct Limits {
    pub(super) items: usize,
    pub(super) bytes: usize,
}

/// The request, and what it is made of.
#[derive(Debug, Default)]
pub(super) struct Batch {
    pub(super) request: Request,
    /// Of what it holds something first: numbers never fall.
    pub(super) held: Option<Held>,
    /// When the first of its items came.
    pub(super) since: Option<Instant>,
}

impl Batch {
    pub(super) const fn is_empty(&self) -> bool {
        self.request.items.is_empty()
    }

    /// How many items it may still take.
    pub(super) const fn room(&self, limits: Limits) -> usize {
        limits.items.saturating_sub(self.request.items.len())
    }

    /// When it has to go.
    pub(super) fn due(&self, age: Duration) -> Option<Instant> {
        self.since?.checked_add(age)
    }

    /// Adds what `encode` appends for an item.
    pub(super) fn add<I: Item>(
        &mut self,
        item: &I,
        limits: Limits,
        encode: impl FnOnce(&I, &mut Vec<u8>),
    ) -> Added {
        let Request { body, items, .. } = &mut self.request;
        let before = body.len();
        let encoded = guard(|| encode(item, &mut *body));
        let (added, end) = match (encoded, u32::try_from(body.len())) {
            (Err(panicked), _) => (Added::Panicked(panicked), None),
            (Ok(()), Ok(end)) if body.len() <= limits.bytes || items.is_empty() => (Added::Yes, Some(end)),
            (Ok(()), Err(_)) if items.is_empty() => (Added::Panicked("it is larger than 4 GiB".into()), None),
            (Ok(()), _) => (Added::TooMuch, None),
        };
        match end {
            Some(end) => items.push((end, item.weight())),
            None => body.truncate(before),
        }
        added
    }

    /// Adds the first ones of some items, as many as fit, by what `encode` appends for all of them; returns how many.
    ///
    /// # Errors
    /// When `encode` panics or appends too much; nothing is added then.
    pub(super) fn add_all<I: Item>(
        &mut self,
        all: &[I],
        limits: Limits,
        encode: impl FnOnce(&[I], &mut Vec<u8>, &mut Vec<u32>),
    ) -> Result<usize, Panicked> {
        let Request { body, items, .. } = &mut self.request;
        let (before, held) = (body.len(), items.len());
        let mut ends = Vec::with_capacity(all.len());
        let encoded = guard(|| encode(all, &mut *body, &mut ends));
        if encoded.is_err() || u32::try_from(body.len()).is_err() || ends.len() != all.len() {
            body.truncate(before);
            return Err(encoded.err().unwrap_or_else(|| "they are larger than 4 GiB".into()));
        }
        for (item, end) in all.iter().zip(ends) {
            let fits = end as usize <= limits.bytes || items.is_empty();
            if !fits || items.len() >= limits.items {
                break;
            }
            items.push((end, item.weight()));
        }
        body.truncate(items.last().map_or(0, |(end, _)| *end as usize));
        Ok(items.len() - held)
    }

    /// Notes of which batch a part comes, and when that came.
    pub(super) fn note(&mut self, held: Held) {
        self.held.get_or_insert(held);
        self.since = Some(self.since.map_or(held.since, |first| first.min(held.since)));
    }
}

/// What became of an item that was to be added.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Added {
    Yes,
    /// The request is full: it belongs in the next one.
    TooMuch,
    /// It cannot be encoded.
    Panicked(Panicked),
}
