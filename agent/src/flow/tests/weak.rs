//! Flows for which the kernel keeps no start stamp.

use super::*;
use crate::model::ObservationKind as Kind;

fn midlife(o: Observation) -> Observation {
    Observation { midlife: true, ..o }
}

#[test]
fn a_weak_identity_is_flagged_and_the_same_whatever_comes_first() {
    let new = hooked(Kind::New, 1, 0xA0, 5, 5, 1);
    let end = hooked(Kind::End, 1, 0xA0, 5, 50, 3);
    let in_order = apply(&mut table(), &[new, end]);
    let end_first = apply(&mut table(), &[end, new]);
    assert_eq!(story(&in_order), [(RecordKind::New, 1), (RecordKind::End, 2)]);
    assert_eq!(story(&end_first), [(RecordKind::End, 3)]);
    assert!(in_order.iter().all(|record| record.flags.weak_id));
    assert_eq!(in_order[0].flow_id, end_first[0].flow_id);
    assert_eq!(in_order[0].start_ns, (EPOCH + SINCE + 5) as i64);
}

#[test]
fn the_next_flow_at_the_same_address_is_another_one() {
    let mut table = table();
    let records = apply(
        &mut table,
        &[
            hooked(Kind::New, 1, 0xA0, 60, 60, 1),
            hooked(Kind::End, 1, 0xA0, 5, 50, 9),
            hooked(Kind::Update, 1, 0xA0, 5, 40, 8),
            hooked(Kind::End, 1, 0xA0, 60, 70, 2),
        ],
    );
    assert_eq!(story(&records), [(RecordKind::New, 1), (RecordKind::End, 9), (RecordKind::End, 1)]);
}

#[test]
fn a_flow_of_a_dump_is_the_one_that_the_hooks_meet_midlife() {
    let mut table = table();
    let records = apply(
        &mut table,
        &[
            dumped(Kind::Existing, 1, 5, 100),
            midlife(hooked(Kind::Update, 1, 0xA0, 20, 20, 110)),
            dumped(Kind::Existing, 1, 30, 111),
            midlife(hooked(Kind::End, 1, 0xA0, 20, 50, 112)),
        ],
    );
    assert_eq!(story(&records), [(RecordKind::New, 0), (RecordKind::Update, 10), (RecordKind::End, 2)]);
    assert!(table.is_empty());
}

#[test]
fn a_dump_may_come_after_the_hooks_or_after_the_end() {
    let mut table = table();
    let end = midlife(hooked(Kind::End, 1, 0xA0, 50, 50, 112));
    let records = apply(&mut table, &[end, dumped(Kind::Existing, 1, 60, 100)]);
    assert_eq!(story(&records), [(RecordKind::End, 0)]);
    assert!(table.is_empty());
}

#[test]
fn an_announcement_with_a_later_birth_is_another_flow_than_the_one_dumped_before() {
    let mut table = table();
    let records = apply(
        &mut table,
        &[
            dumped(Kind::Existing, 1, 5, 100),
            hooked(Kind::New, 1, 0xA0, 60, 60, 1),
            midlife(hooked(Kind::End, 1, 0xB0, 50, 50, 101)),
            hooked(Kind::End, 1, 0xA0, 60, 70, 2),
        ],
    );
    let expected = [(RecordKind::New, 0), (RecordKind::New, 1), (RecordKind::End, 1), (RecordKind::End, 1)];
    assert_eq!(story(&records), expected);
    assert!(table.is_empty());
}

#[test]
fn an_announcement_that_the_dump_overtook_is_the_same_flow_and_bills_it_from_birth() {
    let mut table = table();
    let records = apply(
        &mut table,
        &[
            dumped(Kind::Existing, 1, 10, 4),
            hooked(Kind::New, 1, 0xA0, 5, 5, 1),
            hooked(Kind::End, 1, 0xA0, 5, 20, 6),
        ],
    );
    assert_eq!(story(&records), [(RecordKind::New, 0), (RecordKind::Update, 4), (RecordKind::End, 2)]);
}

#[test]
fn clashing_entries_of_one_tuple_live_side_by_side() {
    let mut table = table();
    let clash = |o: Observation| Observation { status: Status(Status::CONFIRMED | 1 << 12), ..o };
    let records = apply(
        &mut table,
        &[
            hooked(Kind::New, 1, 0xA0, 5, 5, 1),
            clash(hooked(Kind::New, 1, 0xB0, 6, 6, 1)),
            dumped(Kind::Update, 1, 10, 3),
            clash(hooked(Kind::End, 1, 0xB0, 6, 20, 1)),
            hooked(Kind::End, 1, 0xA0, 5, 30, 5),
        ],
    );
    let expected = [(RecordKind::New, 1), (RecordKind::New, 1), (RecordKind::End, 0), (RecordKind::End, 4)];
    assert_eq!(story(&records), expected);
}

#[test]
fn a_flow_whose_successor_is_announced_has_ended_unseen() {
    let mut table = table();
    let records = apply(
        &mut table,
        &[
            dumped(Kind::New, 1, 5, 100),
            dumped(Kind::New, 1, 60 * SECOND, 1),
            dumped(Kind::End, 1, 61 * SECOND, 2),
        ],
    );
    let expected = [(RecordKind::New, 100), (RecordKind::End, 0), (RecordKind::New, 1), (RecordKind::End, 1)];
    assert_eq!(story(&records), expected);
    assert_eq!(records[1].end_reason, Some(EndReason::Missed));
}

#[test]
fn a_dump_with_stamps_and_hooks_without_speak_of_one_flow() {
    let mut table = table();
    let records = apply(
        &mut table,
        &[
            sight(Kind::Existing, 1, -5, 5, 100),
            midlife(hooked(Kind::Update, 1, 0xA0, 20, 20, 110)),
            midlife(hooked(Kind::End, 1, 0xA0, 20, 50, 112)),
        ],
    );
    assert_eq!(story(&records), [(RecordKind::New, 0), (RecordKind::Update, 10), (RecordKind::End, 2)]);
}

/// Two CPUs meet a flow at the same moment: one at its birth, the other at its second packet, which was merged into it and
/// then counts as the flow's birth, too.
fn met_twice() -> [Observation; 5] {
    [
        hooked(Kind::New, 1, 0xA0, 800, 800, 1),
        midlife(hooked(Kind::Update, 1, 0xA0, 300, 300, 1)),
        midlife(hooked(Kind::Update, 1, 0xA0, 300, 300, 2)),
        hooked(Kind::Update, 1, 0xA0, 300, 20_000, 2),
        hooked(Kind::End, 1, 0xA0, 300, SECOND, 6),
    ]
}

#[test]
fn a_flow_that_two_cpus_met_at_its_birth_is_one() {
    let [birth, before, at, twin, end] = met_twice();
    for sights in [[birth, before, at, twin], [before, birth, at, twin], [before, at, twin, birth]] {
        let mut table = table();
        let mut records = apply(&mut table, &sights);
        assert_eq!(table.len(), 1);
        records.extend(apply(&mut table, &[end]));
        let starts = records.iter().filter(|record| record.kind == RecordKind::New).count();
        assert_eq!((starts, records[records.len() - 1].kind), (1, RecordKind::End));
        assert_eq!(story(&records).iter().map(|(_, packets)| packets).sum::<u64>(), 6);
        assert!(table.is_empty());
    }
}

#[test]
fn a_flow_that_two_cpus_announced_is_one() {
    let announced = |kind, born, n| hooked(kind, 1, 0xA0, born, born, n);
    // Who was overtaken by the other's announcement says it as an update.
    for (first, second) in [
        (announced(Kind::New, 800, 1), announced(Kind::New, 300, 2)),
        (announced(Kind::New, 300, 1), announced(Kind::New, 800, 2)),
        (announced(Kind::New, 300, 2), announced(Kind::New, 800, 1)),
        (announced(Kind::New, 800, 1), announced(Kind::Update, 300, 2)),
        (announced(Kind::New, 300, 1), announced(Kind::Update, 800, 2)),
    ] {
        for born in [300, 800] {
            let mut table = table();
            let end = hooked(Kind::End, 1, 0xA0, born, 50_000, 6);
            let records = apply(&mut table, &[first, second, end]);
            assert_eq!(story(&records).iter().map(|(_, packets)| packets).sum::<u64>(), 6);
            assert!(records[1..].iter().all(|record| record.kind != RecordKind::New) && table.is_empty());
        }
    }
}

#[test]
fn the_second_birth_of_a_flow_may_be_told_after_its_end() {
    let [sights @ .., _] = met_twice();
    for late in sights {
        let mut table = table();
        let end = hooked(Kind::End, 1, 0xA0, 800, SECOND, 6);
        assert_eq!(story(&apply(&mut table, &[end])), [(RecordKind::End, 6)]);
        assert_eq!(apply(&mut table, &[late]), []);
        assert!(table.is_empty());
    }
}

#[test]
fn flows_that_follow_each_other_within_a_moment_are_billed_whole() {
    let first = [hooked(Kind::New, 1, 0xA0, 100, 100, 1), hooked(Kind::Update, 1, 0xA0, 100, 200, 2)];
    let first_end = hooked(Kind::End, 1, 0xA0, 100, 300, 2);
    let (born, grown) = (hooked(Kind::New, 1, 0xA0, 400, 400, 1), hooked(Kind::Update, 1, 0xA0, 400, 500, 4));
    let second_end = hooked(Kind::End, 1, 0xA0, 400, 600, 5);
    for order in [
        [first_end, born, grown, second_end],
        [born, first_end, grown, second_end],
        [born, grown, first_end, second_end],
        [born, grown, second_end, first_end],
    ] {
        let mut table = table();
        let mut records = apply(&mut table, &first);
        for o in order {
            records.extend(apply(&mut table, &[o]));
        }
        assert_eq!(story(&records).iter().map(|(_, packets)| packets).sum::<u64>(), 2 + 5, "{order:?}");
        let ends: Vec<_> = records.iter().filter(|record| record.kind == RecordKind::End).collect();
        assert!(table.is_empty() && ends.len() == 2 && ends[0].flow_id != ends[1].flow_id);
    }
}
