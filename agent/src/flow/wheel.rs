//! The timer wheel: which positions of the slab are due, and when each was last seen.
//!
//! Positions that are due within the same tick form a list whose links lie beside the flows, so that neither
//! placing nor taking touches a flow or allocates. Putting a time off, which is what nearly every observation does,
//! writes one number: the position stays in its list and is placed anew when that list's tick has come. Times
//! beyond the wheel's range go into its last bucket and are placed anew there.

use super::chunks::Chunks;

/// Nanoseconds in a tick.
const TICK_NS: u64 = 250_000_000;

/// Buckets of one tick each: two minutes.
const BUCKETS: u32 = 512;

/// The end of a list.
const NIL: u32 = u32::MAX;

/// `turn` of a position in no list.
const UNLINKED: u32 = u32::MAX;

/// `seen` where nobody lives.
const VACANT: u32 = u32::MAX;

/// Ticks are below; it is 34 years after the boot.
const LAST_TICK: u32 = u32::MAX - 2 * BUCKETS;

/// What is kept of each position.
#[derive(Clone, Copy, Debug)]
struct Link {
    next: u32,
    previous: u32,
    /// Tick in which its list is looked at, or [`UNLINKED`].
    turn: u32,
    /// Tick from which on it is due.
    due: u32,
    /// Tick of its last sight, or [`VACANT`].
    seen: u32,
}

impl Link {
    #[inline]
    fn see(&mut self, seen: u32) {
        self.seen = if self.seen == VACANT { seen } else { self.seen.max(seen) };
    }

    /// Sets the due time; tells whether its list is looked at too late for that.
    #[inline]
    fn put_off(&mut self, due_ns: u64, now: u32) -> bool {
        self.due = tick(due_ns.saturating_add(TICK_NS - 1));
        self.turn > self.due.max(now)
    }
}

const NEW_LINK: Link = Link { next: NIL, previous: NIL, turn: UNLINKED, due: 0, seen: VACANT };

/// Due times of positions.
#[derive(Debug)]
pub(super) struct Wheel {
    links: Chunks<Link>,
    heads: Box<[u32]>,
    /// Everything due in an earlier tick was taken.
    now: u32,
}

impl Wheel {
    /// An empty wheel. Times before `boot_ns` are due at once.
    pub(super) fn new(boot_ns: u64) -> Self {
        Self {
            links: Chunks::default(),
            heads: vec![NIL; BUCKETS as usize].into_boxed_slice(),
            now: tick(boot_ns),
        }
    }

    /// Notes a sight, and makes the position due at the time that is given, if any, as [`Wheel::schedule`] does.
    #[inline]
    pub(super) fn note(&mut self, position: u32, boot_ns: u64, due_ns: Option<u64>) {
        let now = self.now;
        let Some(link) = self.link_mut(position) else { return };
        link.see(tick(boot_ns));
        let Some(due_ns) = due_ns else { return };
        if link.put_off(due_ns, now) {
            self.move_forward(position);
        }
    }

    /// Makes the position due at `due_ns`, never earlier, instead of any other time.
    pub(super) fn schedule(&mut self, position: u32, due_ns: u64) {
        let now = self.now;
        if self.link_mut(position).is_some_and(|link| link.put_off(due_ns, now)) {
            self.move_forward(position);
        }
    }

    /// Places a position anew whose list is looked at too late for it.
    fn move_forward(&mut self, position: u32) {
        let due = self.links.get(position).map_or(0, |link| link.due);
        self.unlink(position);
        self.place(position, due);
    }

    /// Whether the position has a due time.
    pub(super) fn is_scheduled(&self, position: u32) -> bool {
        self.links.get(position).is_some_and(|link| link.turn != UNLINKED)
    }

    /// Takes a position that is due at `now_ns`; it has no due time any more. Looks at `*budget` positions at most
    /// and lowers it by those it looked at.
    pub(super) fn take(&mut self, now_ns: u64, budget: &mut usize) -> Option<u32> {
        let now = tick(now_ns);
        // After a jump forward every bucket is due: each once.
        self.now = self.now.max(now.saturating_sub(BUCKETS - 1));
        while self.now <= now && *budget > 0 {
            let position = self.head(self.now % BUCKETS);
            if position == NIL {
                if self.now == now {
                    return None;
                }
                self.now += 1;
                continue;
            }
            *budget -= 1;
            self.unlink(position);
            let due = self.links.get(position).map_or(0, |link| link.due);
            if due <= self.now {
                return Some(position);
            }
            self.place(position, due);
        }
        None
    }

    /// Notes a sight; the first one makes the position inhabited.
    pub(super) fn note_seen(&mut self, position: u32, boot_ns: u64) {
        self.note(position, boot_ns, None);
    }

    /// Makes the position vacant and takes its due time away.
    pub(super) fn vacate(&mut self, position: u32) {
        self.unlink(position);
        if let Some(link) = self.links.get_mut(position) {
            link.seen = VACANT;
        }
    }

    /// The first inhabited position from `from` on that was not seen since the tick in which `boot_ns` lies.
    pub(super) fn unseen_since(&self, from: u32, boot_ns: u64) -> Option<u32> {
        let began = tick(boot_ns);
        (from..self.links.len()).find(|&at| self.links.get(at).is_some_and(|link| link.seen < began))
    }

    /// Bytes allocated.
    pub(super) fn memory(&self) -> usize {
        self.links.memory() + self.heads.len() * size_of::<u32>()
    }

    fn head(&self, bucket: u32) -> u32 {
        self.heads.get(bucket as usize).copied().unwrap_or(NIL)
    }

    #[inline]
    fn link_mut(&mut self, position: u32) -> Option<&mut Link> {
        if self.links.len() <= position {
            self.make_room(position);
        }
        self.links.get_mut(position)
    }

    #[cold]
    fn make_room(&mut self, position: u32) {
        while self.links.len() <= position {
            self.links.push(NEW_LINK);
        }
    }

    fn place(&mut self, position: u32, due: u32) {
        let turn = due.clamp(self.now, self.now + BUCKETS - 1);
        let Some(head) = self.heads.get_mut((turn % BUCKETS) as usize) else { return };
        let next = std::mem::replace(head, position);
        if let Some(link) = self.links.get_mut(position) {
            (link.next, link.previous, link.turn) = (next, NIL, turn);
        }
        if let Some(link) = self.links.get_mut(next) {
            link.previous = position;
        }
    }

    fn unlink(&mut self, position: u32) {
        let Some(link) = self.links.get_mut(position) else { return };
        let Link { next, previous, turn, .. } = *link;
        (link.next, link.previous, link.turn) = (NIL, NIL, UNLINKED);
        if turn == UNLINKED {
            return;
        }
        if let Some(link) = self.links.get_mut(next) {
            link.previous = previous;
        }
        if let Some(link) = self.links.get_mut(previous) {
            link.next = next;
        } else if let Some(head) = self.heads.get_mut((turn % BUCKETS) as usize) {
            *head = next;
        }
    }
}

fn tick(boot_ns: u64) -> u32 {
    u32::try_from(boot_ns / TICK_NS).unwrap_or(LAST_TICK).min(LAST_TICK)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;

    const SECOND: u64 = 1_000_000_000;

    fn take_all(wheel: &mut Wheel, now_ns: u64) -> Vec<u32> {
        std::iter::from_fn(|| wheel.take(now_ns, &mut usize::MAX.clone())).collect()
    }

    #[test]
    fn what_is_due_is_taken_once_and_never_early() {
        let mut wheel = Wheel::new(0);
        wheel.schedule(3, SECOND + 1);
        assert!(wheel.is_scheduled(3));
        assert_eq!(take_all(&mut wheel, SECOND + 1), [0u32; 0]);
        assert_eq!(take_all(&mut wheel, SECOND + 1 + TICK_NS), [3]);
        assert_eq!(take_all(&mut wheel, 100 * SECOND), [0u32; 0]);
        assert!(!wheel.is_scheduled(3));
    }

    #[test]
    fn a_time_beyond_the_wheel_is_kept() {
        let mut wheel = Wheel::new(0);
        wheel.schedule(1, 1000 * SECOND);
        for second in 0..1000 {
            assert_eq!(take_all(&mut wheel, second * SECOND), [0u32; 0], "second {second}");
        }
        assert_eq!(take_all(&mut wheel, 1000 * SECOND), [1]);
    }

    #[test]
    fn putting_off_takes_no_move_and_putting_forward_does() {
        let mut wheel = Wheel::new(0);
        wheel.schedule(1, 5 * SECOND);
        wheel.schedule(1, 9 * SECOND);
        wheel.schedule(2, 9 * SECOND);
        wheel.schedule(2, 5 * SECOND);
        assert_eq!(take_all(&mut wheel, 8 * SECOND), [2]);
        assert_eq!(take_all(&mut wheel, 9 * SECOND), [1]);
    }

    #[test]
    fn after_a_jump_everything_due_is_taken_in_portions() {
        let mut wheel = Wheel::new(0);
        (0..10_000).for_each(|position| wheel.schedule(position, u64::from(position) * SECOND / 100));
        let mut taken = 0;
        for _ in 0..100 {
            let mut budget = 100;
            while wheel.take(3600 * SECOND, &mut budget).is_some() {
                taken += 1;
            }
            assert_eq!(budget, 0);
        }
        assert_eq!(taken, 10_000);
    }

    #[test]
    fn a_vacant_position_is_neither_due_nor_unseen() {
        let mut wheel = Wheel::new(0);
        for position in 0..4 {
            wheel.note_seen(position, u64::from(position) * SECOND);
            wheel.schedule(position, SECOND);
        }
        wheel.vacate(1);
        assert_eq!(wheel.unseen_since(0, 2 * SECOND), Some(0));
        assert_eq!(wheel.unseen_since(1, 2 * SECOND), None);
        let mut due = take_all(&mut wheel, 60 * SECOND);
        due.sort_unstable();
        assert_eq!(due, [0, 2, 3]);
    }

    /// What happens to a position: a new due time (in ticks from now), its vacation, or time passing.
    #[derive(Clone, Debug)]
    enum Step {
        Schedule(u32, u32),
        Vacate(u32),
        Pass(u32),
    }

    fn step() -> impl Strategy<Value = Step> {
        prop_oneof![
            4 => (0..20u32, 0..1500u32).prop_map(|(position, after)| Step::Schedule(position, after)),
            1 => (0..20u32).prop_map(Step::Vacate),
            3 => (0..700u32).prop_map(Step::Pass),
        ]
    }

    proptest! {
        #[test]
        fn it_takes_what_a_sorted_map_says(steps in prop::collection::vec(step(), 1..60)) {
            let mut wheel = Wheel::new(50 * TICK_NS);
            let mut model = BTreeMap::new();
            let mut now = 50;
            for step in steps {
                match step {
                    Step::Schedule(position, after) => {
                        model.insert(position, now + after);
                        wheel.schedule(position, u64::from(now + after) * TICK_NS);
                    }
                    Step::Vacate(position) => {
                        model.remove(&position);
                        wheel.vacate(position);
                    }
                    Step::Pass(ticks) => {
                        now += ticks;
                        let mut taken = take_all(&mut wheel, u64::from(now) * TICK_NS);
                        taken.sort_unstable();
                        let due: Vec<u32> =
                            model.iter().filter(|(_, due)| **due <= now).map(|(&at, _)| at).collect();
                        model.retain(|_, due| *due > now);
                        prop_assert_eq!(taken, due);
                    }
                }
            }
        }
    }
}
