//! The agent with `--source netlink` in front of real traffic in namespaces of this host.
//!
//! The binary is `$CONNTALLY_BIN`, or `conntally` beside this test's own target folder.

use std::path::PathBuf;

use conntally_tests::agent::Hook;
use conntally_tests::scenario::{self, Settings};

/// Why a scenario cannot be played here, or how to play it.
fn settings(scenario: &str) -> Result<Settings, String> {
    if !nix::unistd::geteuid().is_root() {
        return Err("needs root for network namespaces and packet sockets".to_owned());
    }
    let agent = agent().ok_or("there is no agent: run `cargo build -p conntally`, or set CONNTALLY_BIN")?;
    let out = Some(PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(scenario));
    Ok(Settings { agent, hook: Hook::Netlink, out, alone: false })
}

/// Test binaries are in `target/PROFILE/deps`, the agent in `target/PROFILE`.
fn agent() -> Option<PathBuf> {
    let named = std::env::var_os("CONNTALLY_BIN").map(PathBuf::from);
    let beside = || Some(std::env::current_exe().ok()?.parent()?.parent()?.join("conntally"));
    named.or_else(beside).filter(|path| path.exists())
}

fn play(name: &str) -> Result<(), String> {
    let settings = match settings(name) {
        Ok(settings) => settings,
        Err(why) if nix::unistd::geteuid().is_root() => return Err(why),
        Err(why) => {
            eprintln!("skipped: {why}");
            return Ok(());
        }
    };
    for scenario in scenario::select(name).map_err(|cause| cause.to_string())? {
        let report = scenario::play(scenario, &settings);
        if report.failed() {
            eprintln!("{report:#?}");
            return Err(format!("{name} is not exact"));
        }
    }
    Ok(())
}

#[test]
fn every_protocol_is_exact() -> Result<(), String> {
    play("protocols")
}

#[test]
fn thousands_of_one_packet_flows_are_exact() -> Result<(), String> {
    play("short")
}

#[test]
fn tcp_in_bulk_is_exact() -> Result<(), String> {
    play("tcp")
}

#[test]
fn translated_flows_are_exact_and_show_both_tuples() -> Result<(), String> {
    play("nat")
}

#[test]
fn every_end_has_a_reason_the_kernel_told() -> Result<(), String> {
    play("ends")
}

#[test]
fn a_tuple_opened_again_is_another_flow() -> Result<(), String> {
    play("replaced")
}

#[test]
fn sixty_flows_of_one_tuple_are_sixty_flows() -> Result<(), String> {
    play("reuse")
}

#[test]
fn flows_from_before_the_agent_are_flagged_and_only_their_new_bytes_billed() -> Result<(), String> {
    play("midlife")
}

#[test]
fn starts_updates_and_ends_come_within_a_second_of_their_due_time() -> Result<(), String> {
    play("live")
}

#[test]
fn two_agents_at_once_are_both_exact() -> Result<(), String> {
    play("two_agents")
}

#[test]
fn flows_the_kernel_does_not_count_are_flagged() -> Result<(), String> {
    play("no_counters")
}

#[test]
fn a_reader_that_goes_away_ends_the_agent_quietly() -> Result<(), String> {
    play("pipe")
}
