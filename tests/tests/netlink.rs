//! The agent with `--source netlink` in front of real traffic in namespaces of this host.
//!
//! The binary is `$CONNTALLY_BIN`, or `conntally` beside this test's own target folder.

use std::path::PathBuf;

use anyhow::{Context, Result, ensure};
use conntally_tests::agent::Hook;
use conntally_tests::isolation::Turn;
use conntally_tests::scenario::{self, Settings};

/// Flows in large scenarios: enough to overrun a reader that is stopped.
const FLOWS: u32 = 10_000;

/// How to play a scenario here.
fn settings(scenario: &str) -> Result<Settings> {
    let agent = agent().context("there is no agent: run `cargo build -p conntally`, or set CONNTALLY_BIN")?;
    let out = Some(PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(scenario));
    Ok(Settings { agent, hook: Hook::Netlink, out, alone: false, updates: None, flows: FLOWS })
}

/// Test binaries are in `target/PROFILE/deps`, the agent in `target/PROFILE`.
fn agent() -> Option<PathBuf> {
    let named = std::env::var_os("CONNTALLY_BIN").map(PathBuf::from);
    let beside = || Some(std::env::current_exe().ok()?.parent()?.parent()?.join("conntally"));
    named.or_else(beside).filter(|path| path.exists())
}

fn play(name: &str) -> Result<()> {
    let Some(_turn) = Turn::take_or_skip()? else { return Ok(()) };
    let settings = settings(name)?;
    for scenario in scenario::select(&[name])? {
        let report = scenario::play(scenario, &settings);
        ensure!(!report.failed(), "{name} is not exact: {report:#?}");
    }
    Ok(())
}

#[test]
fn every_protocol_is_exact() -> Result<()> {
    play("protocols")
}

#[test]
fn thousands_of_one_packet_flows_are_exact() -> Result<()> {
    play("short")
}

#[test]
fn tcp_in_bulk_is_exact() -> Result<()> {
    play("tcp")
}

#[test]
fn translated_flows_are_exact_and_show_both_tuples() -> Result<()> {
    play("nat")
}

#[test]
fn the_same_tuple_in_two_zones_is_two_exact_flows() -> Result<()> {
    play("zones")
}

#[test]
fn every_end_has_a_reason_the_kernel_told() -> Result<()> {
    play("ends")
}

#[test]
fn a_tuple_opened_again_is_another_flow() -> Result<()> {
    play("replaced")
}

#[test]
fn sixty_flows_of_one_tuple_are_sixty_flows() -> Result<()> {
    play("reuse")
}

#[test]
fn flows_from_before_the_agent_are_flagged_and_only_their_new_bytes_billed() -> Result<()> {
    play("midlife")
}

#[test]
fn starts_updates_and_ends_come_within_a_second_of_their_due_time() -> Result<()> {
    play("live")
}

#[test]
fn flows_that_went_quiet_deliver_their_last_bytes() -> Result<()> {
    play("quiet")
}

#[test]
fn updates_come_although_nobody_wants_starts() -> Result<()> {
    play("no_starts")
}

#[test]
fn two_agents_at_once_are_both_exact() -> Result<()> {
    play("two_agents")
}

#[test]
fn flows_the_kernel_does_not_count_are_flagged() -> Result<()> {
    play("no_counters")
}

#[test]
fn a_reader_that_goes_away_ends_the_agent_quietly() -> Result<()> {
    play("pipe")
}

#[test]
fn a_restart_bills_no_byte_twice_and_skips_none() -> Result<()> {
    play("restart")
}

#[test]
fn an_agent_killed_again_and_again_bills_each_byte_once() -> Result<()> {
    play("kill9")
}

#[test]
fn a_burst_while_the_agent_is_stopped_is_exact() -> Result<()> {
    play("burst")
}

#[test]
fn flushes_under_load_lose_no_byte() -> Result<()> {
    play("flush")
}

#[test]
fn an_agent_that_is_killed_under_load_does_not_disturb_another() -> Result<()> {
    play("second_agent")
}

#[test]
fn flows_over_a_link_that_goes_down_time_out_with_what_was_counted() -> Result<()> {
    play("link_down")
}

#[test]
fn icmp_errors_are_in_no_flow() -> Result<()> {
    play("icmp_errors")
}

#[test]
fn what_is_sent_again_is_counted_again() -> Result<()> {
    play("retransmits")
}

#[test]
fn options_extension_headers_and_fragments_are_exact() -> Result<()> {
    play("extension_headers")
}

#[test]
fn a_changed_mark_or_label_shows() -> Result<()> {
    play("marks")
}

#[test]
fn two_sockets_that_race_for_one_flow_are_one_exact_flow() -> Result<()> {
    play("udp_clash")
}
