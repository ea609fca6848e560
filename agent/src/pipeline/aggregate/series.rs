//! Which groups have a series of their own, so that no more distinct ones are written within a window than allowed.
//!
//! A group is *kept* while it has a series. A series counts against the limit from when its group is first kept until
//! a window after its last point. Nine tenths of the limit are for groups as they come. The rest is for newcomers that
//! moved twice as much as the least of those that are kept: such a newcomer takes its place, and the series that is
//! closed still counts until the window is over. The series of all other groups always is there and counts, too.

use std::sync::Arc;

use hashbrown::{HashMap, HashSet};

use super::candidates::Candidates;
use super::key::Key;
use super::open_flows::Seat;
use super::point::{Group, Sums, TagName};

/// How many times as much a newcomer must have moved as the group that it replaces.
const OUTGROWN: f64 = 2.0;

/// The part of the limit that is for newcomers.
const RESERVE: usize = 10;

/// What a group moved counts half after this part of the window.
const HALF_LIFE: i64 = 24;

/// Scores grow with time instead of shrinking; beyond this all are scaled down.
const MOST_GAIN: f64 = 1e100;

/// More in one interval would forget all that was.
const MOST_HALF_LIVES: f64 = 64.0;

/// Candidates for each place in the reserve, and how many at least and at most.
const CANDIDATES: usize = 8;
const CANDIDATES_BETWEEN: (usize, usize) = (256, 16_384);

/// The series of all groups without one of their own.
pub(super) const OTHER: u32 = 0;

/// A kept group.
#[derive(Debug)]
pub(super) struct Series {
    pub(super) group: Arc<Group>,
    pub(super) sums: Sums,
    pub(super) open_flows: u64,
    /// When the last interval began in which it had a point.
    written: i64,
    key: Key,
    generation: u32,
    score: f64,
    state: State,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Kept,
    /// Replaced: it has its last point.
    Closing,
    /// Its place is free.
    Gone,
}

/// A series that is not written any more but counts against the limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Closed {
    /// When the last interval began in which it had a point.
    pub(super) written: i64,
    /// It was kept when the process before ended: its group may come back whenever it likes.
    pub(super) may_return: bool,
}

/// Why a series counts against the limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Charge {
    /// Its group is kept.
    Kept,
    /// It was written within the window.
    Closed(Closed),
}

/// Which series may count for another reason than when somebody asked last.
#[derive(Debug)]
enum Changes {
    /// Nobody asked yet, or would understand less.
    All,
    These(HashSet<Key>),
}

impl Changes {
    fn note(&mut self, key: Key) {
        if let Self::These(keys) = self {
            keys.insert(key);
        }
    }
}

/// All series.
#[derive(Debug)]
pub(super) struct AllSeries {
    limit: usize,
    window: i64,
    table: Vec<Series>,
    free: Vec<u32>,
    kept: HashMap<Key, u32>,
    closed: HashMap<Key, Closed>,
    candidates: Candidates,
    /// Newcomers that may replace a group, and the place of that.
    promised: HashMap<Key, u32>,
    /// Groups that were replaced in this interval: their series still get a point in it.
    closing: Vec<Key>,
    next_id: u64,
    /// What a byte that moves now adds to a score.
    gain: f64,
    changes: Changes,
}

impl AllSeries {
    /// `limit` distinct series at most within `window` nanoseconds, the one of all others included.
    pub(super) fn new(limit: usize, window: i64, tags: &[TagName]) -> Self {
        let tags = tags.iter().map(|tag| (*tag, crate::pipeline::networks::OTHER.into())).collect();
        let reserve = limit / RESERVE;
        let (least, most) = CANDIDATES_BETWEEN;
        let mut all = Self {
            limit: limit.max(1),
            window,
            table: Vec::new(),
            free: Vec::new(),
            kept: HashMap::new(),
            closed: HashMap::new(),
            candidates: Candidates::new((CANDIDATES * reserve).clamp(least, most)),
            promised: HashMap::new(),
            closing: Vec::new(),
            next_id: 0,
            gain: 1.0,
            changes: Changes::All,
        };
        all.seat(Key::default(), Group { series: 0, tags, is_other: true }, 0, 0.0);
        all
    }

    /// The series of a group, if it is kept.
    pub(super) fn find(&self, key: &Key) -> Option<u32> {
        self.kept.get(key).copied()
    }

    /// A series by its position.
    pub(super) fn get_mut(&mut self, position: u32) -> Option<&mut Series> {
        self.table.get_mut(position as usize)
    }

    /// Where flows of a series count.
    pub(super) fn seat_of(&self, position: u32) -> Seat {
        let generation = self.table.get(position as usize).map_or(0, |series| series.generation);
        Seat { position, generation }
    }

    /// The series in which flows of a seat count: that of all others once theirs is closed.
    pub(super) fn at(&mut self, seat: Seat) -> Option<&mut Series> {
        let is_there = self.seat_of(seat.position).generation == seat.generation;
        self.get_mut(if is_there { seat.position } else { OTHER })
    }

    /// Whether a group that is not kept may be from now on.
    pub(super) fn has_room(&self, key: &Key) -> bool {
        let charged = self.charged();
        let most = self.limit - 1;
        if charged < most - self.reserve() {
            return !self.closing.contains(key);
        }
        let closed = self.closed.get(key);
        let is_promised = self.promised.contains_key(key) && (closed.is_some() || charged < most);
        is_promised || closed.is_some_and(|closed| closed.may_return)
    }

    /// Keeps a group that may be; the interval began at `start`.
    pub(super) fn keep(&mut self, key: Key, tags: Box<[(TagName, Box<str>)]>, start: i64) -> u32 {
        if let Some(replaced) = self.promised.remove(&key) {
            self.close(replaced);
        }
        self.closed.remove(&key);
        self.changes.note(key);
        let group = Group { series: self.next_id, tags, is_other: false };
        let score = self.candidates.take(key);
        let position = self.seat(key, group, start, score);
        self.kept.insert(key, position);
        position
    }

    /// Notes how much a group moved, kept or not.
    pub(super) fn weigh(&mut self, key: Key, position: u32, bytes: u64) {
        let score = self.gain * (bytes as f64 + 1.0);
        if position == OTHER {
            self.candidates.add(key, score);
        } else if let Some(series) = self.get_mut(position) {
            series.score += score;
        }
    }

    /// Every series that is not gone, that of all others first.
    pub(super) fn iter_mut(&mut self) -> impl Iterator<Item = &mut Series> {
        self.table.iter_mut().filter(|series| series.state != State::Gone)
    }

    /// Settles what is kept after all points of an interval were taken; `start` is when the next one begins, and
    /// `length` how long it is.
    pub(super) fn settle(&mut self, start: i64, length: i64) {
        let oldest = start.saturating_sub(self.window);
        self.closing.clear();
        for position in 1..self.table.len() as u32 {
            self.settle_one(position, oldest);
        }
        let Self { closed, changes, .. } = self;
        closed.retain(|key, closed| {
            let counts = closed.written > oldest;
            if !counts {
                changes.note(*key);
            }
            counts
        });
        self.age(length);
        self.promise();
    }

    /// The groups that count, and why. The present interval began at `start`: those that are being replaced may have
    /// their last point in it. From now on changes of it are noted.
    pub(super) fn take_all(&mut self, start: i64) -> Vec<(Key, Charge)> {
        self.changes = Changes::These(HashSet::new());
        let there = self.table.iter().skip(1).filter(|series| series.state == State::Kept);
        let there = there.map(|series| (series.key, Charge::Kept));
        let closing = self.closing.iter().map(|key| (*key, being_replaced(start)));
        let closed = self.closed.iter().map(|(key, closed)| (*key, Charge::Closed(*closed)));
        there.chain(closing).chain(closed).collect()
    }

    /// Those of them of which it may be another than when last asked, and without a reason those that count no longer;
    /// `None` when nobody knows.
    pub(super) fn take_changes(&mut self, start: i64) -> Option<Vec<(Key, Option<Charge>)>> {
        let Changes::These(keys) = &mut self.changes else { return None };
        let keys = std::mem::take(keys);
        // Of each key only this tells, and there may be as many of both.
        let closing: HashSet<&Key> = self.closing.iter().collect();
        let charge = |key: &Key| {
            if self.kept.contains_key(key) {
                Some(Charge::Kept)
            } else if closing.contains(key) {
                Some(being_replaced(start))
            } else {
                self.closed.get(key).map(|closed| Charge::Closed(*closed))
            }
        };
        Some(keys.into_iter().map(|key| (key, charge(&key))).collect())
    }

    /// Takes in what an earlier process wrote within the window, `now` being the time; to be called before the first
    /// record.
    pub(super) fn restore(&mut self, charges: impl IntoIterator<Item = (Key, Charge)>, now: i64) {
        let mut may_return = self.limit - 1;
        for (key, charge) in charges {
            let mut closed = match charge {
                // Until when it was written is not known.
                Charge::Kept => Closed { written: now, may_return: true },
                Charge::Closed(closed) => closed,
            };
            closed.may_return &= may_return > 0;
            may_return -= usize::from(closed.may_return);
            self.closed.insert(key, closed);
        }
        self.changes = Changes::All;
    }

    /// Series that count against the limit, that of all others left out.
    pub(super) fn charged(&self) -> usize {
        self.table.len() - 1 - self.free.len() + self.closed.len()
    }

    const fn reserve(&self) -> usize {
        (self.limit - 1) / RESERVE
    }

    fn seat(&mut self, key: Key, group: Group, start: i64, score: f64) -> u32 {
        self.next_id += 1;
        let series = |generation| Series {
            group: Arc::new(group),
            sums: Sums::default(),
            open_flows: 0,
            written: start,
            key,
            generation,
            score,
            state: State::Kept,
        };
        if let Some(position) = self.free.pop()
            && let Some(place) = self.table.get_mut(position as usize)
        {
            *place = series(place.generation);
            return position;
        }
        self.table.push(series(0));
        self.table.len() as u32 - 1
    }

    /// A replaced group goes to all others from now on; its series has one more point if anything was added to it.
    fn close(&mut self, position: u32) {
        let Some(series) = self.table.get_mut(position as usize) else { return };
        series.state = State::Closing;
        let key = series.key;
        self.closing.push(key);
        self.kept.remove(&key);
        self.changes.note(key);
    }

    /// Closes a series whose last point was taken, or that had none for a window.
    fn settle_one(&mut self, position: u32, oldest: i64) {
        let Some(series) = self.table.get_mut(position as usize) else { return };
        let is_idle = series.open_flows == 0 && series.written <= oldest;
        match series.state {
            State::Gone => return,
            State::Kept if !is_idle => return,
            State::Kept => {
                let key = series.key;
                self.kept.remove(&key);
            }
            State::Closing => {
                self.closed.insert(series.key, series.closed());
            }
        }
        let Some(series) = self.table.get_mut(position as usize) else { return };
        series.state = State::Gone;
        self.changes.note(series.key);
        series.generation = series.generation.wrapping_add(1);
        let still_open = std::mem::take(&mut series.open_flows);
        if let Some(other) = self.get_mut(OTHER) {
            other.open_flows += still_open;
        }
        self.free.push(position);
    }

    /// Lets what will move count more than what has moved.
    fn age(&mut self, length: i64) {
        let half_lives = length as f64 / (self.window / HALF_LIFE).max(1) as f64;
        self.gain *= half_lives.min(MOST_HALF_LIVES).exp2();
        if self.gain < MOST_GAIN {
            return;
        }
        let factor = self.gain.recip();
        self.candidates.scale(factor);
        self.table.iter_mut().for_each(|series| series.score *= factor);
        self.gain = 1.0;
    }

    /// Promises places to newcomers that outgrew others; what was promised before and not taken lapses.
    fn promise(&mut self) {
        self.promised.clear();
        let mut room = (self.limit - 1).saturating_sub(self.charged());
        let kept = self.table.iter().zip(0..).skip(1).filter(|(series, _)| series.state == State::Kept);
        let mut least: Vec<_> = kept.map(|(series, position)| (series.score, position)).collect();
        let Some(smallest) = least.iter().map(|(score, _)| *score).min_by(f64::total_cmp) else { return };
        let newcomers = self.candidates.beyond(OUTGROWN * smallest);
        if newcomers.is_empty() {
            return;
        }
        least.sort_by(|a, b| a.0.total_cmp(&b.0));
        for ((key, score), (outgrown, position)) in newcomers.into_iter().zip(least) {
            // One that is in the window already costs no room.
            let costs = usize::from(!self.closed.contains_key(&key));
            if score <= OUTGROWN * outgrown || costs > room {
                return;
            }
            room -= costs;
            self.promised.insert(key, position);
        }
    }
}

/// Of a group that is being replaced in the interval that began then.
const fn being_replaced(start: i64) -> Charge {
    Charge::Closed(Closed { written: start, may_return: false })
}

impl Series {
    const fn closed(&self) -> Closed {
        Closed { written: self.written, may_return: false }
    }

    /// Notes that it has a point in the interval that began then.
    pub(super) const fn write(&mut self, start: i64) {
        self.written = start;
    }
}
