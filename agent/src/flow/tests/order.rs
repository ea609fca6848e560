//! Property: whatever the order of the two rings, each byte is in one delta and each flow has one end.

use std::collections::HashMap;

use proptest::prelude::*;

use super::*;
use crate::model::{FlowId, ObservationKind as Kind, RecordKind};

/// Events that happen between two settled reads.
const EVENTS_PER_WINDOW: u64 = 4;

/// One flow as the kernel saw it; the flows of a lane follow each other with the same tuple.
#[derive(Clone, Debug)]
struct Life {
    updates: Vec<u8>,
    /// At which of two addresses the entry lies.
    address: bool,
    /// Its last reference goes only after the next flow of the tuple has begun.
    lingers: bool,
    /// Whether a dump sees it, after how many updates.
    dumped_after: Option<usize>,
    /// Whether two CPUs met it at its birth.
    twin: Option<Twin>,
}

/// What the CPU that came second made of a flow.
#[derive(Clone, Debug)]
struct Twin {
    /// Whether its clock is behind the other's.
    is_earlier: bool,
    /// Whether it announced the flow, too, rather than met it at a packet.
    announces: bool,
    /// Which of the later sights show its birth.
    shows: Vec<bool>,
}

#[derive(Clone, Debug)]
struct Lane {
    /// Whether the first flow was there before the agent.
    begins_midlife: bool,
    lives: Vec<Life>,
}

fn life() -> impl Strategy<Value = Life> {
    let updates = prop::collection::vec(0..5u8, 0..5);
    let shows = prop::collection::vec(any::<bool>(), 6);
    let twin = (any::<bool>(), any::<bool>(), shows).prop_map(|(is_earlier, announces, shows)| Twin {
        is_earlier,
        announces,
        shows,
    });
    let twin = prop::option::weighted(0.3, twin);
    (updates, any::<bool>(), any::<bool>(), prop::option::of(0..5usize), twin).prop_map(
        |(updates, address, lingers, dumped_after, twin)| Life {
            updates,
            address,
            lingers,
            dumped_after,
            twin,
        },
    )
}

impl Twin {
    /// The second birth of a flow that began at this moment.
    const fn born(&self, begin: u64) -> u64 {
        SINCE + if self.is_earlier { begin - 400 } else { begin + 400 }
    }

    /// What the second CPU says first: by then both packets are counted.
    fn first_sight(&self, birth: &Observation, begin: u64) -> Observation {
        let born_ns = self.born(begin);
        let (kind, midlife) = if self.announces { (Kind::New, false) } else { (Kind::Update, true) };
        Observation { kind, midlife, born_ns, boot_ns: born_ns, totals: totals(2), ..*birth }
    }

    /// Gives the second birth to those of the sights that show it, of which this is the first.
    fn touch(&self, first: usize, sights: &mut [Observation], begin: u64) {
        let hooked = sights.iter_mut().filter(|o| o.conntrack != 0).zip(&self.shows[first..]);
        hooked.filter(|(_, shows)| **shows).for_each(|(o, _)| o.born_ns = self.born(begin));
    }
}

fn lane() -> impl Strategy<Value = Lane> {
    (any::<bool>(), prop::collection::vec(life(), 1..5))
        .prop_map(|(begins_midlife, lives)| Lane { begins_midlife, lives })
}

/// What happened, in true order: the flow's number and how it was seen.
fn happenings(lane: &Lane, port: u16, stamps: bool) -> Vec<(usize, Observation)> {
    let mut events: Vec<(usize, Observation)> = Vec::new();
    let mut lingering: Option<(usize, Observation)> = None;
    let mut tick = 0;
    for (number, life) in lane.lives.iter().enumerate() {
        let midlife = lane.begins_midlife && number == 0;
        let conntrack = 0xA000 + 0x100 * u64::from(port) + u64::from(life.address);
        let mut sight_of = |kind, packets| {
            tick += 1;
            (kind, packets, tick * 1_000_000)
        };
        let (_, _, begin) = sight_of(Kind::New, 0);
        let start_ns = match (stamps, midlife) {
            (false, _) => 0,
            (true, false) => EPOCH + SINCE + begin,
            (true, true) => EPOCH + SINCE - SECOND,
        };
        let observe = |(kind, packets, at)| Observation {
            start_ns,
            midlife,
            announced: true,
            ..hooked(kind, port, conntrack, begin, at, packets)
        };
        let dump = |(kind, packets, at)| Observation { start_ns, ..dumped(kind, port, at, packets) };
        // A flow met at a packet may be one that was at that address before, whose end is not read yet.
        let is_first_there = lane.lives[..number].iter().all(|before| before.address != life.address);
        let twin = life.twin.as_ref().filter(|twin| !midlife && (twin.announces || is_first_there));
        let mut packets = if midlife { 1000 } else { 1 };
        let mut mine = Vec::new();
        if !midlife {
            mine.push(observe((Kind::New, packets, begin)));
        }
        if let (Some(twin), [birth]) = (twin, mine.as_slice()) {
            packets = 2;
            mine.push(twin.first_sight(birth, begin));
        }
        let met = mine.len();
        for (position, moved) in life.updates.iter().enumerate() {
            packets += u64::from(*moved);
            mine.push(observe(sight_of(Kind::Update, packets)));
            // Without stamps only the dump at the start is safe to use while the hooks still learn of a flow.
            if life.dumped_after == Some(position) && (stamps || midlife) {
                mine.push(dump(sight_of(Kind::Existing, packets)));
            }
        }
        if let Some(twin) = twin {
            twin.touch(0, &mut mine[met..], begin);
        }
        events.extend(mine.into_iter().map(|o| (number, o)));
        events.extend(lingering.take().map(|(number, mut end)| {
            end.boot_ns = SINCE + sight_of(Kind::End, 0).2;
            (number, end)
        }));
        let mut end = observe(sight_of(Kind::End, packets + 2));
        if let Some(twin) = twin {
            twin.touch(twin.shows.len() - 1, std::slice::from_mut(&mut end), begin);
        }
        let end = (number, end);
        let next_elsewhere = lane.lives.get(number + 1).is_some_and(|next| next.address != life.address);
        if life.lingers && next_elsewhere { lingering = Some(end) } else { events.push(end) }
    }
    events.extend(lingering);
    events
}

/// Delivers every event in the batch of its window or the next one, in any order within a batch.
fn deliver(events: Vec<Observation>, delays: &[(bool, u16)]) -> Vec<Record> {
    let mut deliveries: Vec<(u64, u16, Observation)> = Vec::new();
    for (position, o) in events.into_iter().enumerate() {
        let (late, rank) = delays[position % delays.len()];
        let window = (o.boot_ns - SINCE) / 1_000_000 / EVENTS_PER_WINDOW;
        deliveries.push((window + u64::from(late), rank, o));
    }
    deliveries.sort_by_key(|&(window, rank, _)| (window, rank));
    let last = deliveries.last().map_or(0, |&(window, ..)| window);
    let mut table = table();
    let mut records = Vec::new();
    for window in 0..=last {
        let of_window = deliveries.iter().filter(|delivery| delivery.0 == window);
        let batch: Vec<_> = of_window.map(|&(_, _, o)| o).collect();
        records.extend(apply(&mut table, &batch));
    }
    assert!(table.is_empty(), "{} flows never ended", table.len());
    assert!(table.losses().iter().all(|&(_, count)| count == 0), "{:?}", table.losses());
    records
}

fn billed(records: &[Record]) -> u64 {
    records.iter().map(|record| record.delta.original.packets).sum()
}

/// Checks the records of one flow, and returns its final packets and whether it is flagged midlife.
fn check_story(records: &[Record]) -> (u64, bool) {
    let (end, before) = records.split_last().unwrap();
    assert_eq!(end.kind, RecordKind::End);
    assert!(before.iter().enumerate().all(|(position, record)| {
        record.kind == if position == 0 { RecordKind::New } else { RecordKind::Update }
    }));
    let whole = end.totals.original.packets;
    let baseline = match (end.flags.first_seen_midlife, before.first()) {
        (false, _) => 0,
        (true, Some(first)) => first.totals.original.packets,
        (true, None) => whole,
    };
    assert_eq!(billed(records), whole - baseline);
    (whole, end.flags.first_seen_midlife)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn every_byte_is_in_one_delta_and_every_flow_ends_once(
        lanes in prop::collection::vec(lane(), 1..3),
        stamps: bool,
        delays in prop::collection::vec(any::<(bool, u16)>(), 1..40),
    ) {
        let mut events = Vec::new();
        let mut expected = Vec::new();
        for (port, lane) in (1..).zip(&lanes) {
            let happened = happenings(lane, port, stamps);
            let ends = happened.iter().filter(|(_, o)| o.kind == Kind::End);
            expected.extend(ends.map(|(number, o)| {
                (o.original.src_port, o.totals.original.packets, lane.begins_midlife && *number == 0)
            }));
            events.extend(happened.into_iter().map(|(_, o)| o));
        }
        let mut flows: HashMap<FlowId, Vec<Record>> = HashMap::new();
        for record in deliver(events, &delays) {
            flows.entry(record.flow_id).or_default().push(record);
        }
        let mut told: Vec<_> = flows
            .values()
            .map(|records| {
                let (whole, midlife) = check_story(records);
                (records[0].original.src_port, whole, midlife)
            })
            .collect();
        told.sort_unstable();
        expected.sort_unstable();
        prop_assert_eq!(told, expected);
    }
}
