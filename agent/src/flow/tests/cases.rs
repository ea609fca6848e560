//! Single cases of a flow's life where the kernel keeps start stamps.

use super::*;
use crate::model::ObservationKind as Kind;

#[test]
fn a_flow_is_told_from_new_over_update_to_end() {
    let mut table = table();
    let records = apply(
        &mut table,
        &[
            sight(Kind::New, 1, 5, 5, 1),
            sight(Kind::Update, 1, 5, SECOND, 10),
            sight(Kind::Update, 1, 5, 2 * SECOND, 10),
            sight(Kind::End, 1, 5, 3 * SECOND, 12),
        ],
    );
    assert_eq!(story(&records), [(RecordKind::New, 1), (RecordKind::Update, 9), (RecordKind::End, 2)]);
    let end = records[2];
    assert_eq!(end.totals, totals(12));
    assert_eq!(end.end_reason, Some(EndReason::Timeout));
    assert_eq!(end.duration_ns, 3 * SECOND - 5);
    assert_eq!(end.start_ns, (EPOCH + SINCE) as i64 + 5);
    assert_eq!(end.observed_ns, (EPOCH + SINCE + 3 * SECOND) as i64);
    assert_eq!(records[1].last_moved_ns, Some((EPOCH + SINCE + SECOND) as i64));
    assert!(table.is_empty());
    assert_eq!(table.stats().bytes, 12 * 110);
    assert!(records.iter().all(|record| record.flow_id == end.flow_id && !record.flags.weak_id));
}

#[test]
fn an_end_at_first_sight_is_one_record_with_everything() {
    let mut table = table();
    let records = apply(&mut table, &[sight(Kind::End, 1, 5, SECOND, 7), sight(Kind::New, 1, 5, 5, 1)]);
    assert_eq!(story(&records), [(RecordKind::End, 7)]);
    assert!(!records[0].flags.first_seen_midlife);
}

#[test]
fn what_a_flow_moved_before_the_agent_came_is_not_billed() {
    let mut table = table();
    let old = -5_000_000;
    let records = apply(
        &mut table,
        &[
            sight(Kind::Existing, 1, old, 5, 1000),
            sight(Kind::Update, 1, old, SECOND, 1003),
            sight(Kind::End, 1, old, 2 * SECOND, 1004),
            sight(Kind::End, 2, old, 2 * SECOND, 50),
        ],
    );
    assert_eq!(
        story(&records),
        [(RecordKind::New, 0), (RecordKind::Update, 3), (RecordKind::End, 1), (RecordKind::End, 0)]
    );
    assert!(records.iter().all(|record| record.flags.first_seen_midlife));
    assert_eq!(records[0].last_moved_ns, None);
    assert_eq!(records[2].totals, totals(1004));
}

#[test]
fn a_dump_that_meets_a_younger_flow_first_bills_it_from_birth() {
    let mut table = table();
    let records = apply(&mut table, &[sight(Kind::Existing, 1, 5, 10, 4), sight(Kind::New, 1, 5, 5, 1)]);
    assert_eq!(story(&records), [(RecordKind::New, 4)]);
    assert!(!records[0].flags.first_seen_midlife);
}

#[test]
fn a_late_announcement_proves_that_everything_is_to_be_billed() {
    let mut table = table();
    let old = -5;
    let records = apply(
        &mut table,
        &[
            sight(Kind::Existing, 1, old, 10, 4),
            sight(Kind::New, 1, old, 5, 1),
            sight(Kind::End, 1, old, 20, 6),
        ],
    );
    assert_eq!(story(&records), [(RecordKind::New, 0), (RecordKind::Update, 4), (RecordKind::End, 2)]);
    assert!(records[0].flags.first_seen_midlife && !records[1].flags.first_seen_midlife);
}

#[test]
fn late_updates_neither_revive_a_flow_nor_count_twice() {
    let mut table = table();
    apply(&mut table, &[sight(Kind::New, 1, 5, 5, 1), sight(Kind::End, 1, 5, SECOND, 9)]);
    let late = [sight(Kind::Update, 1, 5, SECOND - 1, 8), sight(Kind::End, 1, 5, SECOND, 9)];
    assert_eq!(apply(&mut table, &late), []);
    assert_eq!(apply(&mut table, &late), []);
    assert!(table.is_empty());
}

#[test]
fn the_next_flow_of_a_tuple_is_another_flow() {
    let mut table = table();
    let first = apply(&mut table, &[sight(Kind::New, 1, 5, 5, 1), sight(Kind::End, 1, 5, 50, 9)]);
    let second = apply(&mut table, &[sight(Kind::Update, 1, 60, 70, 3), sight(Kind::Update, 1, 5, 40, 8)]);
    assert_eq!(story(&second), [(RecordKind::New, 3)]);
    assert_ne!(first[0].flow_id, second[0].flow_id);
}

#[test]
fn a_changed_mark_is_worth_a_record_and_an_older_sight_does_not_change_it_back() {
    let mut table = table();
    let marked = Observation { mark: 7, ..sight(Kind::Update, 1, 5, 20, 1) };
    let records =
        apply(&mut table, &[sight(Kind::New, 1, 5, 5, 1), marked, sight(Kind::Update, 1, 5, 10, 1)]);
    assert_eq!(story(&records), [(RecordKind::New, 1), (RecordKind::Update, 0)]);
    assert_eq!(records[1].mark, 7);
}

#[test]
fn totals_that_go_back_never_give_a_delta_and_are_counted() {
    let mut table = table();
    let records = apply(
        &mut table,
        &[
            sight(Kind::New, 1, 5, 5, 10),
            sight(Kind::Update, 1, 5, 6, 9),
            sight(Kind::Update, 1, 5, 5 * SECOND, 2),
            sight(Kind::End, 1, 5, 6 * SECOND, 3),
        ],
    );
    assert_eq!(story(&records), [(RecordKind::New, 10), (RecordKind::End, 0)]);
    assert_eq!(records[1].totals, totals(10));
    assert_eq!(loss(&table, "totals_regressed"), 2, "the sight of the same moment is only out of order");
}

#[test]
fn a_flow_found_gone_ends_as_missed_with_its_last_totals() {
    let mut table = table();
    apply(&mut table, &[sight(Kind::New, 1, 5, 5, 10), sight(Kind::Update, 2, 5, SECOND, 1)]);
    let seen_since = sight(Kind::Gone, 2, 5, SECOND - 1, 0);
    let records = apply(&mut table, &[sight(Kind::Gone, 1, 5, SECOND, 0), seen_since]);
    assert_eq!(story(&records), [(RecordKind::End, 0)]);
    assert_eq!((records[0].end_reason, records[0].totals), (Some(EndReason::Missed), totals(10)));
    let true_end = [sight(Kind::End, 1, 5, SECOND, 11)];
    assert_eq!(story(&apply(&mut table, &true_end)), [(RecordKind::End, 1)], "only what it had moved since");
    assert_eq!(apply(&mut table, &true_end), []);
    assert_eq!(loss(&table, "end_after_missed"), 1);
    assert_eq!(table.len(), 1);
}

#[test]
fn gone_flows_that_nobody_knew_leave_no_trace() {
    let mut table = table();
    assert_eq!(apply(&mut table, &[sight(Kind::Gone, 1, 5, SECOND, 0)]), []);
    assert_eq!(table.stats().flows, 0);
}

#[test]
fn a_flow_without_counters_is_flagged_and_never_billed() {
    let mut table = table();
    let blind = |o: Observation| Observation { has_counters: false, totals: Totals::default(), ..o };
    let records = apply(
        &mut table,
        &[
            blind(sight(Kind::New, 1, 5, 5, 0)),
            blind(sight(Kind::Update, 1, 5, 6, 0)),
            blind(sight(Kind::End, 1, 5, 7, 0)),
        ],
    );
    assert_eq!(story(&records), [(RecordKind::New, 0), (RecordKind::End, 0)]);
    assert!(records.iter().all(|record| record.flags.no_counters));
}

#[test]
fn a_full_table_counts_what_it_refuses_and_still_delivers_ends_whole() {
    let mut table = FlowTable::new(options(1));
    let records = apply(
        &mut table,
        &[
            sight(Kind::New, 1, 5, 5, 1),
            sight(Kind::New, 2, 5, 5, 1),
            sight(Kind::Update, 2, 5, 6, 4),
            sight(Kind::End, 2, 5, 7, 6),
            sight(Kind::End, 1, 5, 8, 2),
            sight(Kind::New, 3, 9, 9, 1),
        ],
    );
    let expected = [(RecordKind::New, 1), (RecordKind::End, 6), (RecordKind::End, 1), (RecordKind::New, 1)];
    assert_eq!(story(&records), expected);
    assert_eq!(loss(&table, "flow_table_full"), 2);
}

#[test]
fn ended_flows_are_forgotten_after_two_settled_batches_and_their_memory_is_used_again() {
    let mut table = table();
    for round in 0..100 {
        let start = round * 10;
        apply(&mut table, &[sight(Kind::New, 1, start, 5000, 1), sight(Kind::End, 1, start, 5001, 1)]);
        assert!(table.flows.len() <= 3, "{} flows are kept", table.flows.len());
    }
    assert_eq!(loss(&table, "ended_flows_forgotten_early"), 0);
}

#[test]
fn ended_flows_are_bounded_when_no_batch_ever_settles() {
    let mut table = FlowTable::new(FlowTableOptions { max_ended: 10, ..options(1000) });
    let mut records = Vec::new();
    for port in 0..100 {
        let observations = vec![sight(Kind::End, port, 5, 10, 1)];
        table.apply(&Batch { observations, settled: false, look: None }, &mut records);
    }
    assert_eq!(table.flows.len(), 10);
    assert_eq!(loss(&table, "ended_flows_forgotten_early"), 90);
    assert_eq!(records.len(), 100);
}

#[test]
fn a_peer_that_opens_and_closes_one_tuple_makes_no_long_chain() {
    let mut table = table();
    let (mut records, mut longest) = (Vec::new(), 0);
    for born in 0..1_000_u16 {
        let observations =
            [Kind::New, Kind::End].map(|kind| sight(kind, 1, born.into(), u64::from(born) + 1, 1)).into();
        table.apply(&Batch { observations, settled: false, look: None }, &mut records);
        longest = longest.max(table.flows.len());
    }
    assert!(longest <= 129, "{longest} flows are compared with each event");
    assert_eq!((records.len(), table.len(), table.books().balance()), (2_000, 0, true));
    assert_eq!(loss(&table, "ended_flows_forgotten_early"), 1_000 - 128);
    for _ in 0..4 {
        apply(&mut table, &[]);
    }
    assert_eq!((table.flows.len(), table.len()), (0, 0));
    apply(&mut table, &[sight(Kind::New, 1, 5_000, 5_001, 1)]);
    assert_eq!(table.len(), 1);
}

#[test]
fn a_clock_step_during_a_flow_does_not_change_its_duration_or_start() {
    for step in [3600, -3600] {
        let mut table = table();
        let new = apply(&mut table, &[sight(Kind::New, 1, 5, 5, 1)]);
        let now =
            Anchor { real_ns: (EPOCH + SINCE) as i64 + (step + 1) * SECOND as i64, boot_ns: SINCE + SECOND };
        assert_eq!(table.re_anchor(now), Some(step * SECOND as i64));
        let end = apply(&mut table, &[sight(Kind::End, 1, 5, 2 * SECOND, 2)]);
        assert_eq!(end[0].duration_ns, 2 * SECOND - 5);
        assert_eq!(end[0].start_ns, new[0].start_ns);
        assert_eq!(end[0].observed_ns, (EPOCH + SINCE) as i64 + (step + 2) * SECOND as i64);
    }
}

#[test]
fn namespaces_and_zones_keep_equal_tuples_apart() {
    let mut table = table();
    let new = sight(Kind::New, 1, 5, 5, 1);
    let records = apply(&mut table, &[new, Observation { netns: 2, ..new }, Observation { zone: 3, ..new }]);
    assert_eq!(records.len(), 3);
    assert_eq!(table.len(), 3);
}

#[test]
fn a_clock_that_was_set_back_before_the_agent_came_makes_no_old_flow_young() {
    let mut table = table();
    let future = 30 * SECOND as i64;
    let records = apply(
        &mut table,
        &[
            sight(Kind::Existing, 1, future, 5, 1000),
            sight(Kind::Update, 1, future, 60 * SECOND, 1001),
            sight(Kind::End, 1, future, 61 * SECOND, 1002),
        ],
    );
    assert_eq!(story(&records), [(RecordKind::New, 0), (RecordKind::Update, 1), (RecordKind::End, 1)]);
}

#[test]
fn records_that_nobody_wants_leave_their_deltas_to_those_that_are_wanted() {
    use RecordKind::{End, New, Update};
    let expected: [(Wanted, &[(RecordKind, u64)]); 4] = [
        (Wanted { new: true, update: true }, &[(New, 2), (Update, 3), (End, 4)]),
        (Wanted { new: false, update: true }, &[(Update, 5), (End, 4)]),
        (Wanted { new: true, update: false }, &[(New, 0), (End, 9)]),
        (Wanted { new: false, update: false }, &[(End, 9)]),
    ];
    for (wanted, story_told) in expected {
        let mut table = FlowTable::new(options(10).with_wanted(wanted));
        let mut records = apply(&mut table, &[hooked(Kind::New, 1, 0xA0, 5, 5, 2)]);
        records.extend(apply(&mut table, &[hooked(Kind::Update, 1, 0xA0, 5, SECOND, 5)]));
        records.extend(apply(&mut table, &[hooked(Kind::End, 1, 0xA0, 5, 2 * SECOND, 9)]));
        assert_eq!(story(&records), story_told, "{wanted:?}");
    }
}

#[test]
fn when_only_ends_are_wanted_a_missed_one_has_everything_that_a_walk_saw() {
    let mut table = FlowTable::new(options(10).with_wanted(Wanted { new: false, update: false }));
    let old = |at, n| Observation { midlife: true, start_ns: 5, ..hooked(Kind::Existing, 2, 0xB0, 7, at, n) };
    assert_eq!(look(&mut table, 1, &[hooked(Kind::Existing, 1, 0xA0, 5, 5, 2), old(5, 100)]), []);
    let seen = [hooked(Kind::Existing, 1, 0xA0, 5, SECOND, 7), old(SECOND, 103)];
    assert_eq!(look(&mut table, SECOND, &seen), []);
    assert_eq!(table.books().held.packets, 2 * 7 + 2 * 3);
    assert_eq!(look(&mut table, 2 * SECOND, &[]), []);
    assert_eq!(story(&look(&mut table, 3 * SECOND, &[])), [(RecordKind::End, 7), (RecordKind::End, 3)]);
}

#[test]
fn figures_that_no_kernel_would_say_do_no_harm() {
    let highest = Counter { packets: u64::MAX, bytes: u64::MAX };
    for at in [0, u64::MAX / 2, u64::MAX] {
        let wild = |kind, conntrack| Observation {
            boot_ns: at,
            born_ns: at,
            start_ns: u64::MAX,
            conntrack,
            totals: Totals { original: highest, reply: highest },
            ..sight(kind, 1, 0, 0, 0)
        };
        let mut table = table();
        apply(&mut table, &[wild(Kind::New, 7), wild(Kind::Existing, 7), wild(Kind::Update, u64::MAX)]);
        let scope = || Scope::Namespaces(vec![1]);
        for began_boot_ns in [u64::MAX, at] {
            let look = Some(Look { began_boot_ns, scope: scope() });
            apply_batch(&mut table, &Batch { observations: vec![wild(Kind::End, 9)], settled: true, look });
            table.take_due(began_boot_ns, 10, &mut Vec::new());
        }
        assert_eq!(table.losses().len(), 5);
    }
}
