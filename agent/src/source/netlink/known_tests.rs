//! What is due, new and gone, told by messages alone.

use std::time::Duration;

use super::*;
use crate::model::{Counter, Totals, Tuple};

const SECOND: u64 = 1_000_000_000;
const START: u64 = 1_000 * SECOND;

fn known(max_flows: usize) -> Known {
    let curve = RateCurve::new(&[(Duration::ZERO, Duration::from_secs(5))]);
    let tracked = Arc::new(AtomicUsize::new(0));
    Known::new(7, Rules { curve, early_ns: SECOND / 2, since_real_ns: START, max_flows, tracked })
}

/// So many seconds after the source's start.
fn at(seconds: u64) -> Moment {
    Moment { boot_ns: (100 + seconds) * SECOND, real_ns: START + seconds * SECOND }
}

fn flow(port: u16, start_ns: u64, packets: u64) -> ConntrackMessage {
    let tuple = Tuple { protocol: 17, src_port: port, dst_port: 53, ..Tuple::default() };
    let counter = Counter { packets, bytes: packets * 100 };
    ConntrackMessage {
        original: tuple,
        reply: Tuple { src_port: 53, dst_port: port, ..tuple },
        counters: Some(Totals { original: counter, reply: Counter::default() }),
        id: u32::from(port),
        start_ns,
        ..ConntrackMessage::default()
    }
}

/// A dump with these flows, and the judgement after it.
fn dump(known: &mut Known, flows: &[ConntrackMessage], now: Moment) -> Vec<ObservationKind> {
    let mut out = Vec::new();
    for flow in flows {
        assert!(known.dumped(flow, now, &mut out));
    }
    known.completed();
    known.judge(now, &mut out);
    out.iter().map(|o| o.kind).collect()
}

fn end(known: &mut Known, flow: &ConntrackMessage, now: Moment) -> Vec<Observation> {
    let mut out = Vec::new();
    known.ended(flow, now, &mut out);
    out
}

#[test]
fn a_flow_older_than_the_source_exists_a_younger_one_is_new() {
    let mut known = known(10);
    let kinds = dump(&mut known, &[flow(1, START - 1, 1), flow(2, START + 1, 1), flow(3, 0, 1)], at(1));
    assert_eq!(kinds, [ObservationKind::Existing, ObservationKind::New, ObservationKind::Existing]);
}

#[test]
fn a_reciting_dump_reports_what_did_not_move() {
    let mut known = known(10);
    dump(&mut known, &[flow(1, START - 1, 1)], at(1));
    known.begin_dump(true);
    assert_eq!(dump(&mut known, &[flow(1, START - 1, 1)], at(2)), [ObservationKind::Existing]);
    known.end_dump();
    assert_eq!(dump(&mut known, &[flow(1, START - 1, 1)], at(3)), []);
}

#[test]
fn an_update_comes_when_it_is_due_and_something_moved() {
    let mut known = known(10);
    dump(&mut known, &[flow(1, START, 1)], at(0));
    assert!(dump(&mut known, &[flow(1, START, 2)], at(4)).is_empty(), "not due");
    assert_eq!(dump(&mut known, &[flow(1, START, 2)], at(5)), [ObservationKind::Update]);
    assert!(dump(&mut known, &[flow(1, START, 2)], at(11)).is_empty(), "did not move");
    assert_eq!(dump(&mut known, &[flow(1, START, 3)], at(12)), [ObservationKind::Update], "was due already");
}

#[test]
fn a_birth_is_reported_by_the_next_dump_with_its_counters() {
    let mut known = known(10);
    known.born(&ConntrackMessage { counters: None, ..flow(1, 0, 0) }, at(1), &mut Vec::new());
    assert!(known.wants_dump(1, at(1)));
    let mut out = Vec::new();
    known.dumped(&flow(1, 0, 9), at(2), &mut out);
    assert_eq!((out[0].kind, out[0].totals.original.packets), (ObservationKind::New, 9));
}

#[test]
fn an_end_before_any_dump_is_billed_from_birth_also_without_timestamps() {
    let mut known = known(10);
    known.born(&flow(1, 0, 0), at(1), &mut Vec::new());
    let out = end(&mut known, &flow(1, 0, 3), at(2));
    assert_eq!(out.iter().map(|o| o.kind).collect::<Vec<_>>(), [ObservationKind::New, ObservationKind::End]);
    assert_eq!(out[0].totals, out[1].totals);
}

#[test]
fn an_end_keeps_the_labels_of_the_last_dump() {
    let mut known = known(10);
    dump(&mut known, &[ConntrackMessage { labels: [8; 16], ..flow(1, START, 1) }], at(0));
    let out = end(&mut known, &flow(1, START, 3), at(2));
    assert_eq!(out[0].labels, [8; 16]);
}

#[test]
fn an_end_with_a_start_needs_no_birth() {
    let mut known = known(10);
    let out = end(&mut known, &flow(1, START + OPENING, 3), at(12));
    assert_eq!((out.len(), out[0].kind, out[0].midlife), (1, ObservationKind::End, false));
}

#[test]
fn an_end_of_a_flow_never_seen_and_without_start_is_one_of_midlife() {
    assert!(end(&mut known(10), &flow(1, 0, 3), at(2))[0].midlife);
}

#[test]
fn a_flow_is_gone_after_two_complete_dumps_without_it() {
    let mut known = known(10);
    dump(&mut known, &[flow(1, START, 1), flow(2, START, 1)], at(0));
    assert!(dump(&mut known, &[flow(2, START, 1)], at(1)).is_empty());
    assert_eq!(dump(&mut known, &[flow(2, START, 1)], at(2)), [ObservationKind::Gone]);
    assert!(dump(&mut known, &[flow(2, START, 1)], at(3)).is_empty(), "only once");
}

#[test]
fn a_flow_that_ended_by_event_is_never_found_gone() {
    let mut known = known(10);
    dump(&mut known, &[flow(1, START, 1)], at(0));
    end(&mut known, &flow(1, START, 1), at(1));
    for second in 2..6 {
        assert!(dump(&mut known, &[], at(second)).is_empty());
    }
}

#[test]
fn an_entry_whose_end_is_on_its_way_is_not_reported_again() {
    let mut known = known(10);
    let dying = ConntrackMessage { status: Status(Status::DYING), ..flow(1, START + 1, 4) };
    assert!(dump(&mut known, &[dying], at(1)).is_empty());
}

#[test]
fn an_end_that_the_kernel_repeats_is_told_once() {
    let mut known = known(10);
    dump(&mut known, &[flow(1, START + 1, 4)], at(1));
    assert_eq!(end(&mut known, &flow(1, START + 1, 4), at(2)).len(), 1);
    assert!(end(&mut known, &flow(1, START + 1, 4), at(2)).is_empty());
    dump(&mut known, &[flow(1, START + 3, 4)], at(3));
    assert!(end(&mut known, &flow(1, START + 1, 4), at(3)).is_empty(), "the next flow lives");
    assert_eq!(end(&mut known, &flow(1, START + 3, 4), at(4)).len(), 1);
}

#[test]
fn without_starts_equal_flows_of_one_tuple_end_one_by_one() {
    let mut known = known(10);
    for second in 1..4 {
        known.born(&flow(1, 0, 0), at(second), &mut Vec::new());
        assert_eq!(end(&mut known, &flow(1, 0, 1), at(second)).len(), 2, "a birth and an end");
        assert!(end(&mut known, &flow(1, 0, 1), at(second)).is_empty());
    }
}

#[test]
fn a_part_of_a_dump_older_than_an_end_revives_nothing() {
    let mut known = known(10);
    let (old, mut out) = (flow(1, START + 1, 4), Vec::new());
    known.begin_dump(false);
    assert_eq!(end(&mut known, &old, at(2)).len(), 2, "a birth and an end");
    known.born(&ConntrackMessage { counters: None, ..flow(1, 0, 0) }, at(2), &mut out);
    assert!(known.dumped(&old, at(2), &mut out));
    assert!(out.is_empty(), "neither the old flow nor the new one with the counters of the old");
    known.judge(at(2), &mut out);
    known.end_dump();
    assert_eq!(dump(&mut known, &[flow(1, START + 2, 1)], at(3)), [ObservationKind::New]);
}

#[test]
fn another_flow_of_the_same_tuple_ends_the_old_one() {
    let mut known = known(10);
    dump(&mut known, &[flow(1, START + 1, 5)], at(2));
    let kinds = dump(&mut known, &[flow(1, START + 3, 1)], at(4));
    assert_eq!(kinds, [ObservationKind::Gone, ObservationKind::New]);
    let without_start = dump(&mut known, &[flow(2, 0, 5)], at(5));
    assert_eq!(without_start, [ObservationKind::New], "an earlier dump did not show it");
    let shrunk = dump(&mut known, &[flow(1, START + 3, 1), flow(2, 0, 4)], at(6));
    assert_eq!(shrunk, [ObservationKind::Gone, ObservationKind::New]);
}

#[test]
fn flows_beyond_the_limit_are_refused_and_room_is_given_back() {
    let mut known = known(1);
    let mut out = Vec::new();
    assert!(known.dumped(&flow(1, START, 1), at(0), &mut out));
    assert!(!known.dumped(&flow(2, START, 1), at(0), &mut out));
    assert_eq!(end(&mut known, &flow(2, START, 9), at(1)).len(), 2, "its birth and end are reported");
    end(&mut known, &flow(1, START, 1), at(1));
    assert!(known.dumped(&flow(2, START, 1), at(2), &mut out));
}

#[test]
fn the_flows_of_a_vanished_namespace_end_with_their_last_totals_or_as_missed() {
    let mut known = known(10);
    dump(&mut known, &[flow(1, START, 1), flow(2, START, 1)], at(0));
    let mut out = Vec::new();
    known.dissolved(&flow(1, START, 8), at(1), &mut out);
    known.abandon(at(1), &mut out);
    let told: Vec<_> = out.iter().map(|o| (o.kind, o.end_reason, o.totals.original.packets)).collect();
    assert_eq!(
        told,
        [
            (ObservationKind::End, Some(EndReason::Deleted), 8),
            (ObservationKind::Gone, Some(EndReason::Missed), 0),
        ]
    );
    assert_eq!(known.rules.tracked.load(Ordering::Relaxed), 0);
    assert!(end(&mut known, &flow(1, START, 8), at(2)).is_empty(), "only one end");
}

#[test]
fn no_dump_is_wanted_while_nothing_is_due_and_the_count_fits() {
    let mut known = known(10);
    dump(&mut known, &[flow(1, START, 1)], at(0));
    assert!(!known.wants_dump(1, at(1)));
    assert!(known.wants_dump(2, at(1)));
    assert!(known.wants_dump(1, at(5)));
}

#[test]
fn what_moved_until_the_last_sight_is_told_before_a_flow_is_found_gone() {
    let mut known = known(10);
    dump(&mut known, &[flow(1, START - 1, 1)], at(0));
    assert!(dump(&mut known, &[flow(1, START - 1, 8)], at(1)).is_empty(), "not due");
    dump(&mut known, &[], at(2));
    let mut out = Vec::new();
    known.judge(at(3), &mut out);
    let told: Vec<_> = out.iter().map(|o| (o.kind, o.boot_ns, o.totals.original.packets)).collect();
    let (seen, judged) = (at(1).boot_ns, at(3).boot_ns);
    assert_eq!(told, [(ObservationKind::Update, seen, 8), (ObservationKind::Gone, judged, 0)]);
}

#[test]
fn without_starts_a_flow_that_no_complete_dump_showed_before_is_new() {
    let mut known = known(10);
    assert_eq!(dump(&mut known, &[flow(1, 0, 1)], at(0)), [ObservationKind::Existing]);
    assert_eq!(dump(&mut known, &[flow(1, 0, 1), flow(2, 0, 1)], at(1)), [ObservationKind::New]);
    let told = end(&mut known, &flow(3, 0, 1), at(2));
    assert_eq!(told.iter().map(|o| o.kind).collect::<Vec<_>>(), [ObservationKind::New, ObservationKind::End]);
}

#[test]
fn without_starts_nothing_is_new_for_sure_once_a_flow_was_refused() {
    let mut known = known(1);
    let mut out = Vec::new();
    known.dumped(&flow(1, 0, 1), at(0), &mut out);
    known.dumped(&flow(2, 0, 1), at(0), &mut out);
    known.completed();
    assert_eq!(end(&mut known, &flow(1, 0, 1), at(1)).len(), 1);
    assert_eq!(dump(&mut known, &[flow(2, 0, 2)], at(1)), [ObservationKind::Existing]);
}

#[test]
fn the_event_of_a_birth_corrects_a_dump_that_was_quicker() {
    let mut known = known(10);
    dump(&mut known, &[flow(1, 0, 2)], at(0));
    let mut out = Vec::new();
    known.born(&flow(1, 0, 0), at(0), &mut out);
    assert_eq!((out.len(), out[0].kind, out[0].totals.original.packets), (1, ObservationKind::New, 2));
    known.born(&flow(1, 0, 0), at(0), &mut out);
    assert_eq!(out.len(), 1, "only once");
}

#[test]
fn the_repeated_event_of_the_birth_of_an_old_flow_does_not_make_it_new() {
    let mut known = known(10);
    dump(&mut known, &[flow(1, 0, 2)], at(0));
    let mut out = Vec::new();
    known.born(&flow(1, 0, 0), at(3), &mut out);
    assert!(out.is_empty());
}

#[test]
fn the_end_of_the_next_flow_of_a_tuple_tells_that_the_old_one_is_gone() {
    let mut known = known(10);
    dump(&mut known, &[flow(1, START - 1, 5)], at(0));
    let told = end(&mut known, &flow(1, START + 1, 2), at(1));
    let told: Vec<_> = told.iter().map(|o| (o.kind, o.start_ns)).collect();
    let (old, next) = (START - 1, START + 1);
    assert_eq!(
        told,
        [(ObservationKind::Gone, old), (ObservationKind::New, next), (ObservationKind::End, next)]
    );
}

#[test]
fn the_late_end_of_an_earlier_flow_leaves_the_next_one_of_its_tuple_alone() {
    let mut known = known(10);
    dump(&mut known, &[flow(1, START + 3, 5)], at(4));
    end(&mut known, &flow(1, START + 1, 2), at(4));
    assert_eq!(dump(&mut known, &[flow(1, START + 3, 6)], at(20)), [ObservationKind::Update]);
}

#[test]
fn counters_that_were_reset_make_no_other_flow_when_the_start_is_the_same() {
    let mut known = known(10);
    dump(&mut known, &[flow(1, START, 5)], at(0));
    assert_eq!(dump(&mut known, &[flow(1, START, 2)], at(9)), [ObservationKind::Update]);
}

#[test]
fn in_a_hurry_every_flow_that_moved_is_due() {
    let mut known = known(10);
    dump(&mut known, &[flow(1, START, 1), flow(2, START, 1)], at(0));
    known.hurry();
    assert_eq!(dump(&mut known, &[flow(1, START, 1), flow(2, START, 2)], at(1)), [ObservationKind::Update]);
}

#[test]
fn flows_whose_end_may_not_be_told_are_looked_at_in_each_interval() {
    let mut known = known(10);
    dump(&mut known, &[flow(1, START - 1, 1)], at(0));
    assert!(known.wants_dump(1, at(1)));
}

#[test]
fn a_birth_asks_for_a_dump_until_one_begins() {
    let mut known = known(10);
    known.born(&flow(1, 0, 0), at(1), &mut Vec::new());
    assert!(known.has_births());
    known.begin_dump(false);
    assert!(!known.has_births());
    known.born(&flow(2, 0, 0), at(1), &mut Vec::new());
    known.completed();
    assert!(known.has_births(), "the dump may have been past its place");
}
