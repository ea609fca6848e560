//! Which flows the table wants looked at, and when.

use std::time::Duration;

use super::*;
use crate::model::{ObservationKind as Kind, RateCurve, Visit};

/// How late a flow may be given out: the slack, a tick and the rounding to one.
const LATE: u64 = 3 * SECOND / 2;

fn visited(visits: Visits) -> FlowTable {
    let seconds = |age, every| (Duration::from_secs(age), Duration::from_secs(every));
    let curve = RateCurve::new(&[seconds(0, 5), seconds(60, 20)]);
    FlowTable::new(options(100_000).with_visits(visits, curve))
}

fn due(table: &mut FlowTable, at: u64) -> Vec<Visit> {
    due_of(table, at, 1000)
}

fn due_of(table: &mut FlowTable, at: u64, limit: usize) -> Vec<Visit> {
    let mut due = Vec::new();
    table.take_due(SINCE + at, limit, &mut due);
    due
}

#[test]
fn a_flow_that_goes_quiet_is_visited_once_after_each_record() {
    let mut table = visited(Visits::Quiet);
    apply(&mut table, &[hooked(Kind::New, 1, 0xA0, 5, 5, 1)]);
    assert_eq!(due(&mut table, 5 * SECOND), []);
    let visits = due(&mut table, 5 * SECOND + LATE);
    assert_eq!((visits[0].conntrack, visits[0].born_ns, visits[0].totals), (0xA0, SINCE + 5, totals(1)));
    assert_eq!(visits.len(), 1);
    assert_eq!(due(&mut table, 3600 * SECOND), [], "it brought nothing, so the flow is left alone");
    apply(&mut table, &[hooked(Kind::Update, 1, 0xA0, 5, 4000 * SECOND, 2)]);
    assert_eq!(due(&mut table, 4019 * SECOND), [], "an older flow is due less often");
    assert_eq!(due(&mut table, 4020 * SECOND + LATE).len(), 1);
}

#[test]
fn a_busy_flow_is_never_visited() {
    let mut table = visited(Visits::Quiet);
    apply(&mut table, &[hooked(Kind::New, 1, 0xA0, 5, 5, 1)]);
    for second in 1..50 {
        apply(&mut table, &[hooked(Kind::Update, 1, 0xA0, 5, second * SECOND, second)]);
        assert_eq!(due(&mut table, second * SECOND), []);
    }
}

#[test]
fn an_update_that_comes_out_of_order_puts_no_visit_forward() {
    let mut table = visited(Visits::Quiet);
    let late = hooked(Kind::Update, 1, 0xA0, 5, SECOND, 2);
    apply(&mut table, &[hooked(Kind::Update, 1, 0xA0, 5, 5 * SECOND, 3), late]);
    assert_eq!(due(&mut table, 10 * SECOND), []);
    assert_eq!(due(&mut table, 10 * SECOND + LATE).len(), 1);
}

#[test]
fn a_sweep_visits_every_living_flow_at_every_step() {
    let mut table = visited(Visits::Always);
    apply(&mut table, &[hooked(Kind::New, 1, 0xA0, 5, 5, 1), hooked(Kind::New, 2, 0xB0, 5, 5, 1)]);
    for round in 1..=10 {
        assert_eq!(due(&mut table, round * 6 * SECOND).len(), 2);
    }
    apply(&mut table, &[hooked(Kind::End, 1, 0xA0, 5, 61 * SECOND, 1)]);
    assert_eq!(due(&mut table, 66 * SECOND).len(), 1, "the other one has ended");
    assert_eq!(due(&mut table, 85 * SECOND), [], "an older flow is due less often");
    assert_eq!(due(&mut table, 87 * SECOND).len(), 1);
}

#[test]
fn flows_that_a_walk_met_together_are_spread_over_the_interval() {
    let mut table = visited(Visits::Always);
    let flows: Vec<_> =
        (1..=1000).map(|port| hooked(Kind::Existing, port, 0xA00 + u64::from(port), 5, 5, 1)).collect();
    apply(&mut table, &flows);
    let mut most = 0;
    let mut all = 0;
    for quarter in 1..=21 {
        let now = due(&mut table, quarter * SECOND / 4).len();
        (most, all) = (most.max(now), all + now);
    }
    assert!(all >= 1000 && most < 120, "{most} of {all} at once");
}

#[test]
fn after_a_suspended_night_flows_are_given_out_in_portions() {
    let mut table = visited(Visits::Always);
    let flows: Vec<_> =
        (1..=10_000).map(|port| hooked(Kind::New, port, 0xA_0000 + u64::from(port), 5, 5, 1)).collect();
    apply(&mut table, &flows);
    let night = 8 * 3600 * SECOND;
    for portion in 0..10 {
        assert_eq!(due_of(&mut table, night + portion * SECOND / 10, 1000).len(), 1000);
    }
    assert_eq!(due_of(&mut table, night + SECOND, 1000), []);
}

#[test]
fn flows_that_cannot_be_found_in_the_kernel_are_not_given_out() {
    for visits in [Visits::Never, Visits::Quiet, Visits::Always] {
        let mut table = visited(visits);
        let nowhere = Observation { born_ns: 0, ..hooked(Kind::New, 2, 0xB0, 5, 5, 1) };
        apply(&mut table, &[sight(Kind::New, 1, 5, 5, 1), nowhere]);
        assert_eq!(due(&mut table, 60 * SECOND), []);
    }
}

#[test]
fn a_walk_that_finds_a_forgotten_flow_moved_has_it_visited() {
    let mut table = visited(Visits::Quiet);
    apply(&mut table, &[hooked(Kind::New, 1, 0xA0, 5, 5, 1), hooked(Kind::New, 2, 0xB0, 5, 5, 1)]);
    assert_eq!(due(&mut table, 10 * SECOND).len(), 2);
    let walked = |port, conntrack, n| hooked(Kind::Existing, port, conntrack, 5, 20 * SECOND, n);
    look(&mut table, 20 * SECOND, &[walked(1, 0xA0, 1), walked(2, 0xB0, 4)]);
    let visits = due(&mut table, 20 * SECOND + LATE);
    assert_eq!(visits.iter().map(|visit| visit.conntrack).collect::<Vec<_>>(), [0xB0]);
}

#[test]
fn a_walk_that_finds_the_mark_of_a_quiet_flow_changed_has_it_visited() {
    let mut table = visited(Visits::Quiet);
    apply(&mut table, &[hooked(Kind::New, 1, 0xA0, 5, 5, 1), hooked(Kind::New, 2, 0xB0, 5, 5, 1)]);
    assert_eq!(due(&mut table, 10 * SECOND).len(), 2);
    let walked = |port, conntrack, mark| Observation {
        mark,
        ..hooked(Kind::Existing, port, conntrack, 5, 20 * SECOND, 1)
    };
    let same = sight(Kind::Existing, 1, 5, 5, 1).mark;
    look(&mut table, 20 * SECOND, &[walked(1, 0xA0, same), walked(2, 0xB0, same + 1)]);
    let visits = due(&mut table, 20 * SECOND + LATE);
    assert_eq!(visits.iter().map(|visit| visit.conntrack).collect::<Vec<_>>(), [0xB0]);
}

#[test]
fn a_flow_that_lost_its_slot_is_visited_by_its_new_one() {
    let mut table = visited(Visits::Quiet);
    let stamped = |kind, born, at, n| Observation {
        conntrack: 0xA0,
        born_ns: SINCE + born,
        midlife: born != 5,
        ..sight(kind, 1, 5, at, n)
    };
    apply(&mut table, &[stamped(Kind::New, 5, 5, 1), stamped(Kind::Update, SECOND, SECOND, 2)]);
    apply(&mut table, &[stamped(Kind::Update, 5, SECOND - 1, 1)]);
    assert_eq!(due(&mut table, 6 * SECOND + LATE)[0].born_ns, SINCE + SECOND);
}
