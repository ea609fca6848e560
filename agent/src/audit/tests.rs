//! Single cases of the audit; the flow table's property test of random interleavings audits, too.

use super::*;
use crate::flow::Books;
use crate::model::{Sum, Waiting};
use crate::source::Counted;

const fn sum(flows: u64, n: u64) -> Sum {
    Sum { flows, packets: n, bytes: 100 * n }
}

/// Ten flows told and ended with 1000 packets, one that lives with 50 of which 5 are ahead, 20 moved before.
fn evidence() -> Evidence {
    let books = Books {
        ended: sum(10, 1000),
        live: sum(1, 50),
        ahead: sum(0, 5),
        baseline: sum(0, 20),
        delivered: sum(11, 1025),
        ..Books::default()
    };
    assert!(books.balance());
    let counted = Counted { ended: sum(10, 1000), ..Counted::default() };
    Evidence { books, counted: Some(counted), is_final: true, ..Evidence::default() }
}

fn audit(evidence: &Evidence) -> Statement {
    let statement = Auditor::default().audit(evidence);
    assert!(statement.balances(), "{statement:?}");
    statement
}

#[test]
fn what_waits_is_told_and_is_no_loss() {
    let waiting = Waiting { records: 7, moved: sum(1, 9), oldest: std::time::Duration::from_millis(61_500) };
    let waiting = vec![("archive", waiting), ("live", Waiting::default())];
    let statement = audit(&Evidence { waiting, ..evidence() });
    assert!(statement.completeness.is_whole());
    let text = statement.to_string();
    assert!(text.ends_with("; waiting for archive: 7 records of 900 bytes, the oldest for 61 s"), "{text}");
    let told = &statement.to_json()["waiting"];
    assert_eq!(
        told["archive"],
        serde_json::json!({ "records": 7, "flows": 1, "packets": 9, "bytes": 900, "oldest_ms": 61_500 })
    );
    assert_eq!((&told["live"]["records"], &told["live"]["oldest_ms"]), (&0.into(), &0.into()));
}

#[test]
fn without_a_loss_everything_is_there() {
    let statement = audit(&evidence());
    assert!(statement.completeness.is_whole());
    assert_eq!(statement.lost, []);
    assert_eq!((statement.delivered, statement.not_yet_due), (sum(11, 1025), sum(0, 5)));
    assert_eq!(statement.counted(), sum(11, 1030));
}

#[test]
fn a_lost_end_costs_what_was_not_delivered_of_its_flow() {
    let mut evidence = evidence();
    // A flow that ended with 100 packets; 30 were delivered before it was found gone.
    let counted = evidence.counted.as_mut().unwrap();
    counted.ended += sum(1, 100);
    counted.ends_lost = sum(1, 100);
    evidence.books.missed = sum(1, 30);
    evidence.books.delivered += sum(1, 30);
    let statement = audit(&evidence);
    assert_eq!(statement.lost, [("end_lost", sum(0, 70))]);
    assert_eq!(statement.completeness.flows, Completeness::Exact(1.0), "it had its record");
    assert_eq!(statement.completeness.bytes, Completeness::Exact(1.0 - 70.0 / 1130.0));
}

#[test]
fn a_lost_end_costs_an_unknown_amount_until_it_is_known_whose_it_was() {
    let mut evidence = evidence();
    let counted = evidence.counted.as_mut().unwrap();
    counted.ended += sum(1, 100);
    counted.ends_lost = sum(1, 100);
    counted.owes_looks = true;
    // The table still takes the flow for living, of which 30 packets were delivered.
    evidence.books.live += sum(1, 30);
    evidence.books.delivered += sum(1, 30);
    let statement = audit(&evidence);
    assert_eq!(statement.doubts, [("end_lost_unassigned", 1)]);
    assert_eq!(statement.lost, [("end_lost", sum(0, 20))], "the living flows may have had 80 of it");
    assert_eq!(statement.completeness.packets, Completeness::AtMost(1.0 - 20.0 / 1080.0));
}

#[test]
fn what_the_output_dropped_is_lost_and_what_the_user_does_not_want_is_not() {
    let evidence = Evidence { dropped: sum(1, 7), filtered: sum(2, 100), unwritten: sum(0, 1), ..evidence() };
    let statement = audit(&evidence);
    assert_eq!(statement.lost, [("output_queue_full", sum(1, 7)), ("output_unwritten", sum(0, 1))]);
    assert_eq!((statement.delivered, statement.filtered), (sum(8, 917), sum(2, 100)));
    assert_eq!(statement.completeness.packets, Completeness::Exact(1.0 - 8.0 / 1030.0));
}

#[test]
fn what_a_reader_that_has_gone_did_not_take_is_not_delivered_and_its_own_reason() {
    let gone = Evidence { unwritten: sum(1, 7), reader_gone: true, ..evidence() };
    let statement = audit(&gone);
    assert_eq!(statement.lost, [("output_reader_gone", sum(1, 7))]);
    assert_eq!((statement.delivered, statement.lacks_only_readers()), (sum(10, 1018), true));
    let sink = |reason| vec![vec![("screen.reader_gone", sum(1, 7)), (reason, sum(0, 1))]];
    let lacks_only_readers = |sinks| audit(&Evidence { sinks, ..evidence() }).lacks_only_readers();
    assert!(lacks_only_readers(sink("log.reader_gone")));
    assert!(!lacks_only_readers(sink("screen.queue_full")));
    assert!(!audit(&evidence()).lacks_only_readers(), "nothing was lost");
    assert!(!audit(&Evidence { doubts: vec![("hook_skipped", 1)], ..gone }).lacks_only_readers());
}

#[test]
fn what_sinks_lost_counts_as_it_is_where_the_most_is_missing() {
    let live = vec![("live.queue_full", sum(0, 3)), ("live.unwritten", sum(2, 1))];
    let archive = vec![("archive.queue_full", sum(1, 7)), ("archive.given_up", Sum::default())];
    let evidence = Evidence { sinks: vec![live.clone(), archive, Vec::new()], ..evidence() };
    let statement = audit(&evidence);
    assert_eq!(statement.lost_sum(), sum(2, 7));
    assert_eq!(statement.delivered, sum(9, 1018));
    assert_eq!(statement.sinks, [live, vec![("archive.queue_full", sum(1, 7))], Vec::new()]);
    let text = statement.to_string();
    assert!(text.contains("; lost by live.queue_full: 300 bytes, 3 packets, 0 flows; "), "{text}");
    assert_eq!(statement.to_json()["lost"]["archive.queue_full"]["flows"], 1);
}

#[test]
fn what_is_lost_of_an_earlier_agents_records_is_lost_and_the_identity_holds() {
    let archive = vec![("archive.spool_damaged", sum(2, 7)), ("archive.queue_full", sum(0, 3))];
    let evidence = Evidence { sinks: vec![archive], inherited: sum(2, 7), ..evidence() };
    let statement = audit(&evidence);
    assert_eq!((statement.lost_sum(), statement.delivered), (sum(2, 10), sum(11, 1022)));
    assert_eq!(statement.completeness.packets, Completeness::Exact(1.0 - 10.0 / 1037.0));
}

#[test]
fn after_a_skipped_hook_completeness_is_no_exact_number() {
    let mut evidence = evidence();
    evidence.counted.as_mut().unwrap().ends_skipped = 3;
    let statement = audit(&evidence);
    assert_eq!(statement.doubts, [("hook_skipped", 3)]);
    assert_eq!(statement.completeness.bytes, Completeness::AtMost(1.0));
}

#[test]
fn a_flow_found_gone_without_a_lost_end_is_a_doubt_and_costs_at_least_what_a_walk_saw_of_it() {
    let mut evidence = evidence();
    evidence.books.missed = sum(1, 30);
    evidence.books.forgone = sum(0, 4);
    evidence.books.delivered += sum(1, 30);
    let statement = audit(&evidence);
    assert_eq!(statement.doubts, [("ended_unseen", 1)]);
    assert_eq!(statement.lost, [("missed", sum(0, 4))]);
    assert_eq!(statement.completeness.bytes, Completeness::AtMost(1.0 - 4.0 / 1064.0));
}

#[test]
fn an_end_on_its_way_is_not_lost_until_it_should_have_come() {
    let mut auditor = Auditor::default();
    let mut evidence = Evidence { is_final: false, ..evidence() };
    evidence.counted.as_mut().unwrap().ended += sum(1, 8);
    for settled in 0..2 {
        evidence.settled_batches = settled;
        let statement = auditor.audit(&evidence);
        assert!(statement.balances() && statement.completeness.is_whole());
        assert_eq!(statement.not_yet_due, sum(1, 13));
    }
    evidence.settled_batches = 2;
    let statement = auditor.audit(&evidence);
    assert!(statement.balances());
    assert_eq!((statement.lost, statement.not_yet_due), (vec![("unexplained", sum(1, 8))], sum(0, 5)));
    // It comes after all.
    evidence.books.ended += sum(1, 8);
    evidence.books.delivered += sum(1, 8);
    let statement = auditor.audit(&evidence);
    assert!(statement.balances() && statement.completeness.is_whole(), "{statement:?}");
}

#[test]
fn at_the_end_nothing_is_on_its_way() {
    let mut evidence = evidence();
    evidence.counted.as_mut().unwrap().ended += sum(1, 8);
    assert_eq!(audit(&evidence).lost, [("unexplained", sum(1, 8))]);
}

#[test]
fn an_end_told_that_nobody_counted_is_a_doubt() {
    let mut evidence = evidence();
    evidence.counted.as_mut().unwrap().ended = sum(9, 900);
    assert_eq!(audit(&evidence).doubts, [("ends_uncounted", 1)]);
}

#[test]
fn a_source_that_counts_nothing_by_itself_is_believed_until_there_is_a_doubt() {
    let believed = Evidence { counted: None, ..evidence() };
    assert!(audit(&believed).completeness.is_whole());
    let doubted = Evidence { doubts: vec![("netlink_overflow", 1)], ..believed };
    assert_eq!(audit(&doubted).completeness.bytes, Completeness::AtMost(1.0));
}

#[test]
fn a_window_tells_of_itself_only() {
    let mut auditor = Auditor::default();
    let mut evidence = Evidence { dropped: sum(0, 25), doubts: vec![("hook_skipped", 1)], ..evidence() };
    let statement = auditor.audit(&evidence);
    let first = auditor.turn_window(&statement);
    assert_eq!(first.completeness.packets, Completeness::AtMost(1.0 - 25.0 / 1030.0));
    assert_eq!(
        (first.lost, first.doubts),
        (vec![("output_queue_full", sum(0, 25))], vec![("hook_skipped", 1)])
    );
    evidence.counted.as_mut().unwrap().ended += sum(1, 100);
    evidence.books.ended += sum(1, 100);
    evidence.books.delivered += sum(1, 100);
    let statement = auditor.audit(&evidence);
    let second = auditor.turn_window(&statement);
    assert!(
        second.completeness.is_whole() && second.lost.is_empty() && second.doubts.is_empty(),
        "{second:?}"
    );
    evidence.dropped += sum(0, 1);
    let statement = auditor.audit(&evidence);
    let third = auditor.turn_window(&statement);
    assert_eq!(third.completeness.packets, Completeness::Exact(0.0));
    assert!(
        third.to_string().ends_with("; lost by output_queue_full: 100 bytes, 1 packets, 0 flows"),
        "{third}"
    );
    assert_eq!(third.to_json()["lost"]["output_queue_full"]["packets"], 1);
}

#[test]
fn a_person_reads_the_identity_and_a_program_the_same() {
    let evidence = Evidence { dropped: sum(1, 5), doubts: vec![("hook_skipped", 2)], ..evidence() };
    let statement = audit(&evidence);
    let text = statement.to_string();
    let packets = "packets: ended 1000 + living 50 - baseline 20 = delivered 1020 + not yet due 5 + filtered 0 + lost 5";
    assert!(text.contains(packets), "{text}");
    assert!(text.starts_with("completeness of bytes unknown, at most 99.51 %, "), "{text}");
    assert!(text.ends_with(
        "lost by output_queue_full: 500 bytes, 5 packets, 1 flows; of unknown amount: hook_skipped 2"
    ));
    let json = statement.to_json();
    assert_eq!(json["lost"]["output_queue_full"]["bytes"], 500);
    assert_eq!(json["unknown"]["hook_skipped"], 2);
    assert!(json["completeness"]["bytes"]["at_most"].is_f64() && json["balances"] == true);
}
