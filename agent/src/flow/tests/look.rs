//! What complete looks at the kernel's table do to flows, and what comes of ends that are told too late.

use super::*;
use crate::model::{ObservationKind as Kind, RecordFlags};

/// Ten minutes and a bit: how long missed flows are remembered.
const LONG: u64 = 700 * SECOND;

fn announced(o: Observation) -> Observation {
    Observation { announced: true, ..o }
}

fn walked(port: u16, conntrack: u64, at: u64, n: u64) -> Observation {
    hooked(Kind::Existing, port, conntrack, 5, at, n)
}

#[test]
fn a_flow_that_two_looks_did_not_see_has_ended_unseen() {
    let mut table = table();
    apply(&mut table, &[hooked(Kind::New, 1, 0xA0, 5, 5, 3), hooked(Kind::New, 2, 0xB0, 5, 5, 1)]);
    assert_eq!(look(&mut table, SECOND, &[walked(2, 0xB0, SECOND + 1, 1)]), []);
    let records = look(&mut table, 3 * SECOND, &[walked(2, 0xB0, 3 * SECOND + 1, 1)]);
    assert_eq!(story(&records), [(RecordKind::End, 0)]);
    assert_eq!((records[0].end_reason, records[0].totals), (Some(EndReason::Missed), totals(3)));
    assert_eq!(records[0].observed_boot_ns, SINCE + 3 * SECOND);
    assert_eq!(look(&mut table, 5 * SECOND, &[walked(2, 0xB0, 5 * SECOND + 1, 1)]), []);
    assert_eq!((table.len(), table.books().missed.flows), (1, 1));
}

#[test]
fn a_flow_whose_birth_went_unseen_after_a_walk_is_billed_from_its_birth() {
    for kind in [Kind::Update, Kind::Existing] {
        let met =
            |port, at| Observation { midlife: true, start_ns: 0, ..hooked(kind, port, 0xA0, at, at, 7) };
        let mut table = table();
        let before = look(&mut table, SECOND, &[met(1, SECOND)]);
        assert_eq!(story(&before), [(RecordKind::New, 0)]);
        let after = look(&mut table, 3 * SECOND, &[met(2, 3 * SECOND)]);
        assert_eq!(story(&after), [(RecordKind::New, 7)], "{kind:?}");
        assert!(before[0].flags.first_seen_midlife && !after[0].flags.first_seen_midlife);
    }
}

/// A table after a complete look that met one old flow, which had moved 1,000 packets, at `0xA0`.
fn met_by_a_walk(options: FlowTableOptions) -> FlowTable {
    let mut table = FlowTable::new(options);
    look(&mut table, 1, &[remet(Kind::Existing, 2 * SECOND, 1000)]);
    table
}

fn remet(kind: Kind, born: u64, n: u64) -> Observation {
    Observation { midlife: true, ..hooked(kind, 1, 0xA0, born, born, n) }
}

#[test]
fn a_flow_that_gets_another_slot_is_billed_once() {
    for kind in [Kind::Update, Kind::Existing] {
        let mut table = met_by_a_walk(options(10));
        let mut records = apply(&mut table, &[remet(kind, 50 * SECOND, 1001)]);
        records.extend(apply(&mut table, &[remet(Kind::End, 50 * SECOND, 1002)]));
        let moved: u64 = records.iter().map(|record| record.delta.original.packets).sum();
        assert_eq!((moved, table.len(), table.stats().flows), (2, 0, 1), "{records:?}");
    }
}

#[test]
fn a_flow_that_two_cpus_met_at_the_same_moment_is_one_flow_in_whatever_order_they_tell() {
    let born = |kind, n| hooked(kind, 1, 0xA0, SECOND, SECOND, n);
    let met = |kind, n| remet(kind, SECOND + 3000, n);
    let lives = [
        [born(Kind::New, 1), met(Kind::Update, 2), born(Kind::Update, 3), met(Kind::End, 4)],
        [met(Kind::Update, 2), born(Kind::New, 1), met(Kind::Update, 3), born(Kind::End, 4)],
        [met(Kind::Update, 2), met(Kind::Update, 3), born(Kind::New, 1), born(Kind::End, 4)],
        [born(Kind::New, 1), met(Kind::Update, 3), born(Kind::Update, 2), born(Kind::End, 4)],
    ];
    for life in lives {
        let mut table = table();
        let records = apply(&mut table, &life);
        let moved: u64 = records.iter().map(|record| record.delta.original.packets).sum();
        assert_eq!((moved, table.len(), table.stats().flows, table.stats().ends), (4, 0, 1, 1), "{life:?}");
        assert!(records.last().is_some_and(|end| !end.flags.first_seen_midlife));
    }
}

#[test]
fn a_later_flow_at_the_same_address_that_moved_less_is_another_one_and_not_billed_from_its_birth() {
    let mut table = met_by_a_walk(options(10));
    assert_eq!(story(&apply(&mut table, &[remet(Kind::Update, 50 * SECOND, 7)])), [(RecordKind::New, 0)]);
    assert_eq!(table.len(), 2);
    // The late end of a predecessor leaves the living flow alone.
    let mut table = met_by_a_walk(options(10));
    apply(&mut table, &[remet(Kind::End, SECOND, 2000)]);
    assert_eq!(table.len(), 1);
}

#[test]
fn nobody_is_a_newcomer_after_somebody_was_refused_or_forgotten_without_a_birth() {
    let met = remet(Kind::Update, SECOND, 7);
    let mut table = FlowTable::new(options(1));
    apply(&mut table, &[dumped(Kind::Existing, 2, 1, 5), dumped(Kind::Existing, 1, 2, 5)]);
    look(&mut table, 3, &[]);
    apply(&mut table, &[dumped(Kind::End, 2, 4, 5)]);
    assert_eq!(story(&apply(&mut table, &[met])), [(RecordKind::New, 0)], "one was refused");

    let mut table = FlowTable::new(options(10));
    apply(&mut table, &[dumped(Kind::Existing, 1, 1, 5)]);
    for began in [SECOND, 2 * SECOND, LONG] {
        look(&mut table, began, &[]);
    }
    assert_eq!(table.flows.len(), 0);
    let met = Observation { boot_ns: SINCE + LONG, ..met };
    assert_eq!(story(&apply(&mut table, &[met])), [(RecordKind::New, 0)], "one was forgotten");
}

#[test]
fn a_restored_flow_for_which_there_is_no_room_is_no_newcomer_when_it_is_met() {
    let mut before = met_by_a_walk(options(10));
    apply(&mut before, &[hooked(Kind::New, 2, 0xB0, 3, 3, 1)]);
    let saved: Vec<_> = before.save(0..before.places()).collect();
    let mut table = FlowTable::new(options(1));
    saved.iter().rev().for_each(|flow| table.restore(flow));
    look(&mut table, 60, &[hooked(Kind::Existing, 2, 0xB0, 3, 61, 1)]);
    apply(&mut table, &[hooked(Kind::End, 2, 0xB0, 3, 62, 1)]);
    assert_eq!(story(&apply(&mut table, &[remet(Kind::Update, 70, 1001)])), [(RecordKind::New, 0)]);
}

#[test]
fn living_flows_are_told_of_after_a_restart_without_billing_anything() {
    let mut before = table();
    apply(&mut before, &[hooked(Kind::New, 1, 0xA0, 5, 5, 1), hooked(Kind::New, 2, 0xB0, 6, 6, 1)]);
    let ended = apply(&mut before, &[hooked(Kind::End, 2, 0xB0, 6, 7, 1)]);
    let mut table = table();
    before.save(0..before.places()).for_each(|flow| table.restore(&flow));
    let living: Vec<_> = table.living().collect();
    let told: Vec<_> = living.iter().map(|record| (record.kind, record.delta)).collect();
    assert_eq!(told, [(RecordKind::Update, Totals::default())]);
    assert_ne!(living[0].flow_id, ended[0].flow_id);
    assert_eq!(table.books().delivered.bytes, 0);
}

#[test]
fn any_sight_between_two_looks_begins_the_count_anew() {
    let unmoved = hooked(Kind::Update, 1, 0xA0, 5, 2 * SECOND, 1);
    for sight in [unmoved, walked(1, 0xA0, 2 * SECOND, 1), dumped(Kind::Update, 1, 2 * SECOND, 1)] {
        let mut table = table();
        apply(&mut table, &[hooked(Kind::New, 1, 0xA0, 5, 5, 1)]);
        look(&mut table, SECOND, &[]);
        assert_eq!(apply(&mut table, &[sight]), []);
        assert_eq!(look(&mut table, 3 * SECOND, &[]), []);
        assert_eq!(look(&mut table, 5 * SECOND, &[]).len(), 1);
    }
}

#[test]
fn a_flow_that_began_during_the_look_is_not_absent() {
    let mut table = table();
    let young = hooked(Kind::New, 1, 0xA0, 2 * SECOND, 2 * SECOND, 1);
    look(&mut table, SECOND, &[young]);
    assert_eq!(look(&mut table, 3 * SECOND, &[]), []);
    assert_eq!(look(&mut table, 4 * SECOND, &[]).len(), 1);
}

#[test]
fn a_dump_speaks_of_its_namespaces_and_not_of_flows_it_cannot_tell_apart() {
    let mut table = table();
    let elsewhere = Observation { netns: 2, ..sight(Kind::New, 2, 5, 5, 1) };
    apply(&mut table, &[sight(Kind::New, 1, 5, 5, 1), elsewhere, dumped(Kind::New, 3, 5, 1)]);
    let scope = || Scope::Namespaces(vec![1, 7]);
    look_at(&mut table, SECOND, scope(), &[]);
    let records = look_at(&mut table, 2 * SECOND, scope(), &[]);
    assert_eq!(records.iter().map(|record| record.original.src_port).collect::<Vec<_>>(), [1]);
    look(&mut table, 3 * SECOND, &[]);
    assert_eq!(look(&mut table, 4 * SECOND, &[]).len(), 2, "a walk sees every flow");
}

#[test]
fn a_clashing_flow_is_in_no_look_and_ends_by_it_only_long_after_its_life() {
    let mut table = table();
    let clash =
        Observation { status: Status(Status::CONFIRMED | 1 << 12), ..hooked(Kind::New, 1, 0xA0, 5, 5, 1) };
    apply(&mut table, &[clash]);
    for second in 1..60 {
        assert_eq!(look(&mut table, second * SECOND, &[]), []);
    }
    look(&mut table, 61 * SECOND, &[]);
    assert_eq!(look(&mut table, 62 * SECOND, &[]).len(), 1);
}

#[test]
fn a_walk_makes_a_record_of_unknown_flows_only() {
    let mut table = table();
    apply(&mut table, &[hooked(Kind::New, 1, 0xA0, 5, 5, 1)]);
    let old = Observation { midlife: true, ..walked(3, 0xC0, SECOND + 3, 9) };
    let seen = [walked(1, 0xA0, SECOND + 1, 4), walked(2, 0xB0, SECOND + 2, 5), old];
    let records = look(&mut table, SECOND, &seen);
    assert_eq!(story(&records), [(RecordKind::New, 5), (RecordKind::New, 0)]);
    assert!(!records[0].flags.first_seen_midlife && records[1].flags.first_seen_midlife);
    let books = table.books();
    assert_eq!((books.ahead.packets, books.live.packets, books.baseline.packets), (6, 36, 18));
    let update = apply(&mut table, &[hooked(Kind::Update, 1, 0xA0, 5, 2 * SECOND, 4)]);
    assert_eq!(story(&update), [(RecordKind::Update, 3)], "the walk took nothing away");
    assert_eq!(table.books().ahead.packets, 0);
}

#[test]
fn the_end_of_a_missed_flow_bills_only_what_was_not_billed() {
    let mut table = table();
    apply(&mut table, &[hooked(Kind::New, 1, 0xA0, 5, 5, 3), hooked(Kind::New, 2, 0xB0, 5, 5, 3)]);
    look(&mut table, SECOND, &[]);
    assert_eq!(look(&mut table, 2 * SECOND, &[]).len(), 2);
    let end = |port, conntrack, n| announced(hooked(Kind::End, port, conntrack, 5, 3 * SECOND, n));
    let records = apply(&mut table, &[end(1, 0xA0, 3), end(2, 0xB0, 7)]);
    assert_eq!(story(&records), [(RecordKind::End, 4)]);
    assert_eq!(records[0].end_reason, Some(EndReason::Timeout));
    assert_eq!(loss(&table, "end_after_missed"), 1);
    assert_eq!((table.books().missed.flows, table.books().ended.flows), (0, 2));
}

#[test]
fn the_announced_end_of_a_forgotten_flow_bills_nothing() {
    let mut table = table();
    apply(&mut table, &[hooked(Kind::New, 1, 0xA0, 5, 5, 3)]);
    look(&mut table, SECOND, &[]);
    look(&mut table, 2 * SECOND, &[]);
    look(&mut table, LONG, &[]);
    assert_eq!(table.flows.len(), 0);
    let records = apply(&mut table, &[announced(hooked(Kind::End, 1, 0xA0, 5, LONG, 3))]);
    assert_eq!(story(&records), [(RecordKind::End, 0)]);
    assert_eq!(
        records[0].flags,
        RecordFlags { first_seen_midlife: true, no_counters: false, weak_id: true, offloaded: false }
    );
    assert_eq!(loss(&table, "end_of_forgotten_flow"), 1);
    // Its announcement may be unread still: it is younger than anything that was forgotten.
    let younger = announced(hooked(Kind::End, 2, 0xB0, LONG, LONG + 1, 3));
    assert_eq!(story(&apply(&mut table, &[younger])), [(RecordKind::End, 3)]);
    // Nobody ever spoke of it.
    let unannounced = hooked(Kind::End, 3, 0xC0, 4, LONG + 1, 3);
    assert_eq!(story(&apply(&mut table, &[unannounced])), [(RecordKind::End, 3)]);
}

#[test]
fn the_announced_end_of_a_refused_flow_is_delivered_whole() {
    let mut table = FlowTable::new(options(1));
    apply(&mut table, &[hooked(Kind::New, 1, 0xA0, 9, 9, 3), hooked(Kind::New, 2, 0xB0, 5, 10, 1)]);
    look(&mut table, SECOND, &[]);
    look(&mut table, 2 * SECOND, &[]);
    look(&mut table, LONG, &[]);
    let records = apply(&mut table, &[announced(hooked(Kind::End, 2, 0xB0, 5, LONG, 7))]);
    assert_eq!(story(&records), [(RecordKind::End, 7)]);
    assert_eq!(loss(&table, "end_of_forgotten_flow"), 0);
}

#[test]
fn missed_flows_are_remembered_within_bounds() {
    let mut table = FlowTable::new(FlowTableOptions { max_ended: 10, ..options(1000) });
    let flows: Vec<_> = (1..=100).map(|port| hooked(Kind::New, port, port.into(), 5, 5, 1)).collect();
    apply(&mut table, &flows);
    look(&mut table, SECOND, &[]);
    assert_eq!(look(&mut table, 2 * SECOND, &[]).len(), 100);
    assert_eq!(table.flows.len(), 10);
    assert!(table.is_empty());
}
