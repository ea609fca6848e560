//! Every reason that the agent can name, and the test that forces it.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

/// Where tests stand, from the root of the repository.
const PROCESSES: &str = "agent/tests/losses";
const GUESTS: &str = "tests/src/scenario";

/// Reason, and folder, file and function of the test. Guests play what takes kernel programs.
#[rustfmt::skip]
const FORCED: &[(&str, &str, &str, &str)] = &[
    ("update_ring_full", GUESTS, "load", "tiny_rings"),
    ("end_lost", GUESTS, "load", "ends_lost"),
    ("no_slot", GUESTS, "races", "no_room"),
    ("read_failed", GUESTS, "forced", "unreadable"),
    ("end_read_failed", GUESTS, "forced", "unreadable"),
    ("hook_skipped", GUESTS, "forced", "skipped"),
    ("end_reason_unknown", GUESTS, "forced", "skipped"),
    ("announce_failed", GUESTS, "forced", "unannounced"),
    ("module_reloaded", GUESTS, "kernel", "module_reload"),
    ("end_lost_unassigned", GUESTS, "forced", "unassigned"),
    ("unexplained", GUESTS, "forced", "unexplained"),
    ("ends_uncounted", GUESTS, "forced", "uncounted"),
    ("ended_unseen", PROCESSES, "live", "without_events_and_with_ends_that_nobody_told_of_the_completeness_is_unknown"),
    ("netlink_events_off", PROCESSES, "live", "without_events_and_with_ends_that_nobody_told_of_the_completeness_is_unknown"),
    ("netlink_overflow", PROCESSES, "live", "events_that_have_no_room_make_the_completeness_unknown"),
    ("netlink_malformed", PROCESSES, "live", "a_message_that_makes_no_sense_makes_the_completeness_unknown"),
    ("netlink_table_full", PROCESSES, "live", "what_flows_move_for_which_the_source_has_no_room_is_unknown_while_they_live"),
    ("netlink_dump_failed", PROCESSES, "live", "a_dump_that_fails_is_made_good_for_by_the_next"),
    ("netlink_namespace_refused", PROCESSES, "live", "a_namespace_that_cannot_be_entered_makes_the_completeness_unknown"),
    ("totals_regressed", PROCESSES, "live", "counters_that_somebody_resets_make_the_completeness_unknown"),
    ("gap_without_agent_ms", PROCESSES, "live", "a_time_without_an_agent_makes_the_completeness_unknown"),
    ("state_damaged", PROCESSES, "live", "a_damaged_state_makes_the_completeness_unknown_and_bills_nothing_twice"),
    ("state_set_aside", PROCESSES, "live", "a_state_of_another_version_is_set_aside_and_makes_the_completeness_unknown"),
    ("state_missing", PROCESSES, "live", "a_state_that_could_not_be_kept_makes_the_completeness_of_the_next_agent_unknown"),
    ("state_unkept", "agent/tests", "run", "a_full_state_directory_costs_the_guarantee_and_not_the_agent"),
    ("missed", PROCESSES, "replayed", "what_a_look_saw_of_a_flow_that_was_then_found_gone_is_lost_at_least"),
    ("flow_table_full", PROCESSES, "replayed", "each_sight_of_a_flow_for_which_the_table_has_no_room_is_counted"),
    ("ended_flows_forgotten_early", PROCESSES, "replayed", "an_ended_flow_of_a_tuple_with_too_many_is_forgotten_early"),
    ("end_after_missed", PROCESSES, "replayed", "the_end_of_a_flow_that_was_found_gone_tells_the_rest"),
    ("end_of_forgotten_flow", PROCESSES, "replayed", "the_end_of_a_forgotten_flow_makes_the_completeness_unknown"),
    ("recording_damaged_blocks", PROCESSES, "live", "a_damaged_recording_makes_the_completeness_unknown"),
    ("recording_records_skipped", PROCESSES, "live", "a_damaged_recording_makes_the_completeness_unknown"),
    ("recording_bytes_skipped", PROCESSES, "replayed", "a_recording_that_is_cut_off_makes_the_completeness_unknown"),
    ("output_queue_full", PROCESSES, "live", "what_has_no_room_on_the_way_to_a_slow_reader_is_lost_to_the_byte"),
    ("output_queue_full_ends", PROCESSES, "live", "what_has_no_room_on_the_way_to_a_slow_reader_is_lost_to_the_byte"),
    ("output_unwritten", "agent/tests", "run", "a_shutdown_that_takes_too_long_names_what_did_not_finish"),
    ("output_reader_gone", "agent/tests", "streams", "a_reader_that_has_seen_enough_is_no_error_and_what_it_left_is_counted_and_not_delivered"),
    ("reader_gone", "agent/tests", "streams", "a_reader_that_has_seen_enough_is_no_error_and_what_it_left_is_counted_and_not_delivered"),
    ("queue_full", PROCESSES, "delivered", "what_has_no_room_in_the_queue_of_a_sink_and_what_waits_there_in_the_end_is_lost_to_the_byte"),
    ("queue_full_ends", PROCESSES, "delivered", "what_has_no_room_in_the_queue_of_a_sink_and_what_waits_there_in_the_end_is_lost_to_the_byte"),
    ("unwritten", PROCESSES, "delivered", "what_has_no_room_in_the_queue_of_a_sink_and_what_waits_there_in_the_end_is_lost_to_the_byte"),
    ("given_up", PROCESSES, "delivered", "what_a_server_refuses_for_ever_is_given_up_to_the_byte_and_the_rest_is_stored"),
    ("unacknowledged", PROCESSES, "delivered", "what_nobody_acknowledges_counts_as_delivered_and_makes_the_completeness_unknown"),
    ("spool_damaged", "agent/tests", "spool/main", "what_is_damaged_is_counted_and_the_rest_is_delivered"),
    ("spool_missing", "agent/tests", "spool/main", "how_much_a_request_held_that_is_missing_is_unknown"),
];

/// What delivers and shows reasons that others name.
const SHOWS: [&str; 2] = ["agent/src/sinks", "agent/src/audit/render.rs"];

/// What a file speaks of that names reasons.
const SPEAKS: [&str; 5] = ["Losses", "LossCounters", "LOSS_NAMES", "Doubt", "Reasons"];

#[test]
fn every_reason_is_forced_by_a_test_that_is_there() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
    for (reason, folder, file, function) in FORCED {
        let path = root.join(folder).join(format!("{file}.rs"));
        let text = fs::read_to_string(&path).unwrap();
        assert!(
            text.contains(&format!("fn {function}(")),
            "{reason}: {function} is not in {}",
            path.display()
        );
    }
    let forced: BTreeSet<_> = FORCED.iter().map(|(reason, ..)| (*reason).to_owned()).collect();
    let mut named = BTreeSet::new();
    collect(&root.join("agent/src"), &mut named);
    assert!(named.len() > 30, "reasons are not found where they were: {named:?}");
    let unforced: Vec<_> = named.difference(&forced).collect();
    assert!(unforced.is_empty(), "no test forces {unforced:?}");
}

/// Words joined by `_` that stand alone in quotes, in files that name reasons, but for what stands in their tests.
fn collect(folder: &Path, named: &mut BTreeSet<String>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if SHOWS.iter().any(|shows| path.ends_with(shows)) {
            continue;
        }
        if path.is_dir() {
            collect(&path, named);
        } else if path.extension().is_some_and(|extension| extension == "rs") && !path.ends_with("tests.rs") {
            let text = fs::read_to_string(&path).unwrap();
            let text = text.split("#[cfg(test)]").next().unwrap();
            if SPEAKS.iter().any(|word| text.contains(word)) {
                named.extend(text.split('"').filter(|word| is_reason(word)).map(str::to_owned));
            }
        }
    }
}

fn is_reason(word: &str) -> bool {
    word.contains('_')
        && word.split('_').all(|part| !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_lowercase()))
}
