//! `conntally run` as a process: start, signals, broken pipes, a kill. Needs root; everything happens in network,
//! mount and process namespaces of its own, except for the module's parameters, which belong to the machine. An agent
//! that runs on the machine meanwhile turns accounting on here, too, and so disturbs the tests of accounting.
#![expect(clippy::unwrap_used, reason = "a test that cannot be set up has failed")]

mod script;

use std::process::Command;

use script::script;

#[test]
fn a_signal_ends_it_in_good_order_with_an_account_and_accounting_as_it_was() {
    let script = script(
        r#"
echo "before $(acct)"
"$AGENT" >out 2>err & agent=$!
wait_for ^ready err
echo "during $(acct)"
traffic; sleep 1.5; conntrack -F 2>/dev/null; sleep 0.5
kill -TERM $agent; wait $agent; echo "exit $?"
echo "after $(acct)"
grep -c '"final":true' out
grep -o "account: nothing was lost flows=1 ends=1 live=0 records=2 written=2 bytes=168" err
"#,
    );
    let Some(text) = script else { return };
    assert_eq!(
        text,
        "before 0\nduring 1\nexit 0\nafter 0\n1\n\
         account: nothing was lost flows=1 ends=1 live=0 records=2 written=2 bytes=168\n"
    );
}

#[test]
fn a_start_that_fails_leaves_accounting_as_it_was() {
    // Enough to turn accounting on, too little for kernel programs, whatever the machine permits.
    let script = script(
        r#"
for _ in 1 2 3 4 5; do
  setpriv --bounding-set -all,+net_admin --inh-caps -all "$AGENT" --source bpf >/dev/null 2>err
  echo "exit $? $(acct) $(grep -c 'turned on net' err)"
done
for _ in 1 2 3 4 5; do
  setpriv --bounding-set -all,+net_admin --inh-caps -all "$AGENT" record --source bpf flows.rec >/dev/null 2>err
  echo "record $? $(acct) $(ls | grep -c flows.rec)"
done
"#,
    );
    let Some(text) = script else { return };
    assert_eq!(text, "exit 1 0 2\n".repeat(5) + &"record 1 0 0\n".repeat(5));
}

#[test]
fn after_a_kill_the_next_agent_puts_accounting_back() {
    let script = script(
        r#"
"$AGENT" >/dev/null 2>err & agent=$!
wait_for ^ready err
kill -KILL $agent; wait $agent 2>/dev/null
echo "killed $(acct)"
rm err; "$AGENT" >/dev/null 2>err & agent=$!
wait_for ^ready err
kill -INT $agent; wait $agent; echo "exit $?"
echo "after $(acct)"
"#,
    );
    let Some(text) = script else { return };
    assert_eq!(text, "killed 1\nexit 0\nafter 0\n");
}

#[test]
fn the_old_values_of_a_namespace_that_is_gone_are_forgotten() {
    let script = script(
        r#"
ip netns add gone
inode=$(stat -Lc %i /run/netns/gone)
for switch in acct timestamp; do ip netns exec gone sh -c "echo 0 >/proc/sys/net/netfilter/nf_conntrack_$switch"; done
"$AGENT" >/dev/null 2>err & agent=$!
wait_for ^ready err
grep -c "netns $inode " run/sysctls
ip netns del gone
for _ in $(seq 60); do grep -q "netns $inode " run/sysctls || break; sleep 0.1; done
grep -c "netns $inode " run/sysctls
kill -TERM $agent; wait $agent; echo "exit $? $(acct)"
"#,
    );
    let Some(text) = script else { return };
    assert_eq!(text, "2\n0\nexit 0 0\n");
}

#[test]
fn the_first_of_two_agents_to_leave_leaves_accounting_on() {
    let script = script(
        r#"
"$AGENT" >/dev/null 2>err1 & first=$!
wait_for ^ready err1
"$AGENT" >/dev/null 2>err2 & second=$!
wait_for ^ready err2
kill -TERM $first; wait $first; echo "first $? $(acct)"
kill -TERM $second; wait $second; echo "second $? $(acct)"
"#,
    );
    let Some(text) = script else { return };
    assert_eq!(text, "first 0 1\nsecond 0 0\n");
}

/// A pipe that is full and that nobody reads, as standard output.
const STUCK_OUTPUT: &str = r#"
mkfifo pipe; exec 3<>pipe
"$AGENT" >pipe 2>err 3<&- & agent=$!
wait_for ^ready err
dd if=/dev/zero of=pipe bs=4096 oflag=nonblock 2>/dev/null || true
traffic; sleep 1.5
"#;

#[test]
fn a_shutdown_that_takes_too_long_names_what_did_not_finish() {
    let Some(text) = script(&format!(
        r#"export CONNTALLY_SHUTDOWN_TIMEOUT=1s
{STUCK_OUTPUT}
kill -TERM $agent; wait $agent; echo "exit $?"
grep -o "; lost by output_.*" err; grep -o "account: lost output_.*records=1 written=0" err; grep ^conntally err"#
    )) else {
        return;
    };
    assert_eq!(
        text,
        "exit 1\n; lost by output_unwritten: 168 bytes, 2 packets, 0 flows\naccount: lost output_unwritten 1 flows=1 ends=0 live=1 records=1 written=0\n\
         conntally: the shutdown did not finish within 1s (shutdown_timeout): writing the output\n"
    );
}

#[test]
fn a_reader_that_is_too_slow_is_told_while_it_happens() {
    let Some(text) = script(&format!(
        r#"export CONNTALLY_SHUTDOWN_TIMEOUT=1s CONNTALLY_OUTPUT__QUEUE_RECORDS=1024
{STUCK_OUTPUT}
for port in $(seq 20000 21999); do echo >/dev/udp/127.0.0.1/$port; done 2>/dev/null
wait_for "WARN.*lost since the last report: output_queue_full [1-9]" err
kill -TERM $agent; wait $agent; echo "exit $?"
grep -c "account: lost output_queue_full [1-9].*output_unwritten [1-9].*written=0" err"#
    )) else {
        return;
    };
    assert_eq!(text, "exit 1\n1\n");
}

#[test]
fn a_full_disk_is_named_and_is_a_failure() {
    let script = script(
        r#"
timeout 20 "$AGENT" >/dev/full 2>err & agent=$!
wait_for ^ready err
traffic
wait $agent; echo "exit $?"
grep -o "shutting down: .*" err; grep -o "account: lost output_unwritten 1" err; grep ^conntally err
"#,
    );
    let Some(text) = script else { return };
    assert_eq!(
        text,
        "exit 1\nshutting down: the output cannot be written\naccount: lost output_unwritten 1\n\
         conntally: cannot write the output: No space left on device (os error 28)\n"
    );
}

#[test]
fn it_says_that_it_is_ready_in_any_format_and_at_any_level() {
    let script = script(
        r#"
for format in text json; do
    "$AGENT" run -qq --log-format $format --output null 2>err & agent=$!
    wait_for 'ready source=netlink' err; kill -TERM $agent; wait $agent; grep -c . err
done
"#,
    );
    let Some(text) = script else { return };
    assert_eq!(text, "1\n1\n");
}

#[test]
fn a_second_signal_ends_it_at_once() {
    let Some(text) = script(&format!(
        r#"export CONNTALLY_SOURCE__MANAGE_SYSCTLS=false
for switch in acct timestamp; do echo 1 >/proc/sys/net/netfilter/nf_conntrack_$switch; done
{STUCK_OUTPUT}
kill -TERM $agent; kill -INT $agent; sleep 0.3; [ -e /proc/$agent ] && echo "the first two are one"
kill -INT $agent; wait $agent; echo "exit $?"
grep -o "SIGINT while shutting down: ends at once" err"#
    )) else {
        return;
    };
    assert_eq!(text, "the first two are one\nexit 130\nSIGINT while shutting down: ends at once\n");
}

#[test]
fn what_a_killed_agent_did_not_write_is_written_by_the_next_one_unchanged() {
    let Some(text) = script(&format!(
        r#"export CONNTALLY_STATE_DIR="$PWD/state"
{STUCK_OUTPUT}
"$AGENT" 2>&1 | sed "s,directory .* is in use by process $agent,directory is in use by the first,"
kill -9 $agent; wait $agent 2>/dev/null; echo "exit $?"
rm err; "$AGENT" >out 2>err & agent=$!
wait_for ^ready err
sleep 0.5; kill -TERM $agent; wait $agent; echo "exit $?"
grep -o 'handed on again.* flows=1 batches=1' err | sed "s/no agent.*known//"
grep -o '"type":\["connection","[a-z]*"\]' out
rm err; "$AGENT" >again 2>err & agent=$!
wait_for ^ready err
for _ in $(seq 50); do [ -e state/snapshot.3 ] && break; sleep 0.1; done
kill -9 $agent; wait $agent 2>/dev/null; echo "exit $?"
wc -c <again; stat -c "%a %n" state state/*"#
    )) else {
        return;
    };
    assert_eq!(
        text,
        "conntally: the state directory is in use by the first; give each agent its own\nexit 137\nexit 0\n\
         handed on again;  flows=1 batches=1\n\"type\":[\"connection\",\"start\"]\nexit 137\n0\n\
         700 state\n600 state/lock\n600 state/log.3\n600 state/snapshot.3\n"
    );
}

#[test]
fn a_full_state_directory_costs_the_guarantee_and_not_the_agent() {
    let script = script(
        r#"mkdir state; mount -t tmpfs -o size=16k none state
export CONNTALLY_STATE_DIR="$PWD/state"
"$AGENT" >out 2>err & agent=$!
wait_for ^ready err
for port in $(seq 20000 20099); do echo >/dev/udp/127.0.0.1/$port; done 2>/dev/null
wait_for "cannot keep the state" err; ls state
kill -TERM $agent; wait $agent; echo "exit $?"
grep -c . out; grep -o "account: lost state_unkept [0-9]* " err; grep -c ERROR.*cannot err"#,
    );
    let Some(text) = script else { return };
    let (kept, rest) = text.split_once("state_unkept ").unwrap();
    assert!(rest.split(' ').next().unwrap().parse::<u32>().unwrap() > 0);
    assert_eq!(kept, "lock\nunkept\nexit 0\n100\naccount: lost ");
    assert!(rest.ends_with(" \n1\n"), "{text}");
}

#[test]
fn where_nothing_outlives_an_agent_there_is_nothing_to_detach() {
    let script = script(r#"mkdir state; "$AGENT" detach --state-dir state; echo "code $?""#);
    let Some(text) = script else { return };
    assert!(text.contains("no kernel programs outlive an agent here\ncode 0"), "{text}");
}

#[test]
fn a_reader_that_goes_away_ends_it_quietly() {
    let script = script(
        r#"
{ timeout 20 "$AGENT" -q 2>err; echo "exit $?" >code; } | head -n 1 >line &
wait_for ^ready err
for _ in $(seq 20); do traffic; sleep 0.2; [ -e code ] && break; done
wait
cat code; wc -l <line; grep -v ^ready err || true
"#,
    );
    let Some(text) = script else { return };
    assert_eq!(text, "exit 0\n1\n");
}

#[test]
fn without_privilege_it_says_what_is_missing() {
    let Some(text) =
        script(r#"setpriv --bounding-set -all --inh-caps -all "$AGENT" -qq 2>&1; echo "exit $?""#)
    else {
        return;
    };
    assert_eq!(
        text,
        "conntally: cannot listen to conntrack by netlink: Operation not permitted (os error 1)\n\
         it needs root, or what `conntally check` names\nexit 1\n"
    );
}

#[test]
fn what_was_recorded_is_replayed_without_privilege_as_it_was_seen() {
    let script = script(
        r#"
"$AGENT" record flows.rec 2>err & agent=$!
wait_for ^ready err
traffic; sleep 1.5; conntrack -F 2>/dev/null; sleep 0.5
kill -TERM $agent; wait $agent; echo "record $?"
grep -o "account: .*" err
"$AGENT" record flows.rec 2>&1 | sed "s/ (os.*//"
"$AGENT" record --updates sweep other.rec 2>&1 | grep -o "^conntally: cannot record with .*sweep\""; ls other.rec 2>/dev/null
chmod 644 flows.rec; chmod 755 .
HOME=/nonexistent setpriv --reuid 65534 --clear-groups "$AGENT" replay "$PWD/flows.rec" -q 2>/dev/null >out; echo "replay $?"
grep -o '"final":[a-z]*' out; grep -o '"bytes":168,"packets":2' out | sort -u
"$AGENT" replay flows.rec -qq 2>&1 >/dev/full | grep ^conntally; echo "full ${PIPESTATUS[0]}"
truncate -s -7 flows.rec
"$AGENT" replay flows.rec -qq 2>&1 >/dev/null | grep ^conntally; echo "damaged ${PIPESTATUS[0]}"
"#,
    );
    let Some(text) = script else { return };
    assert_eq!(
        text,
        "record 0\naccount: nothing was lost observations=2\nconntally: cannot record to flows.rec: File exists\n\
         conntally: cannot record with source.updates = \"sweep\"\nreplay 0\n\"final\":false\n\"final\":true\n\
         \"bytes\":168,\"packets\":2\n\
         conntally: cannot write the output: No space left on device (os error 28)\nfull 1\n\
         conntally: flows.rec is damaged; what could be read was replayed\ndamaged 1\n"
    );
}

#[test]
fn an_idle_namespace_tracks_while_the_agent_runs_if_asked_to() {
    let script = script(
        r#"
nft flush ruleset
"$AGENT" run --track >out 2>err & agent=$!
wait_for ^ready err
nft list tables
traffic; sleep 1.5
kill -TERM $agent; wait $agent; echo "exit $?"
nft list tables; wc -l <out
"#,
    );
    let Some(text) = script else { return };
    assert_eq!(text, "table inet conntally\nexit 0\n1\n");
}

#[test]
fn a_wrong_configuration_starts_nothing_and_tells_every_problem() {
    let output = Command::new(env!("CARGO_BIN_EXE_conntally"))
        .args(["run", "-c", "/dev/null"])
        .env("CONNTALLY_SOURCE__HOK", "kprobe")
        .env("CONNTALLY_FLOW__MAX_FLOWS", "many")
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(1));
    assert_eq!(
        String::from_utf8_lossy(&output.stderr),
        "conntally: 2 problems in the configuration, nothing was started:\n\
         environment variable CONNTALLY_FLOW__MAX_FLOWS: flow.max_flows: must be a number without quotes, \
         but is \"many\"\n\
         environment variable CONNTALLY_SOURCE__HOK: source.hok: unknown key; did you mean \"hook\"?\n"
    );
}

/// A file with these sinks as the configuration of the agent.
fn with_sinks(sinks: &str, body: &str) -> Option<String> {
    script(&format!("cat >conntally.toml <<'EOF'\n{sinks}\nEOF\n{body}"))
}

#[test]
fn each_sink_gets_the_records_it_wants_and_output_means_nothing_any_more() {
    let text = with_sinks(
        "[sinks.screen]\ntype = \"stdout\"\nformat = \"json\"\nevents = [\"end\"]\n[sinks.measure]\ntype = \"null\"",
        r#"export CONNTALLY_OUTPUT__FORMAT=table
"$AGENT" >out 2>err & agent=$!
wait_for ^ready err
traffic; sleep 1.5; conntrack -F 2>/dev/null; sleep 0.5
kill -TERM $agent; wait $agent; echo "exit $?"
grep -o '"type":\["connection","[a-z]*"\]' out
grep -o "sink measure: .*" err | sed 's/tries=[0-9]*/tries/'
grep -o "account: nothing was lost flows=1 ends=1 live=0 records=2 written=3 bytes=168" err
grep -o "audit: completeness of bytes 100 %" err
"#,
    );
    let Some(text) = text else { return };
    assert_eq!(
        text,
        "exit 0\n\"type\":[\"connection\",\"end\"]\nsink measure: all is delivered records=2 merged=0 tries\n\
         account: nothing was lost flows=1 ends=1 live=0 records=2 written=3 bytes=168\n\
         audit: completeness of bytes 100 %\n"
    );
}

#[test]
fn a_sink_that_cannot_write_is_named_and_the_others_go_on() {
    let text = with_sinks(
        "[sinks.screen]\ntype = \"stdout\"\nformat = \"json\"\n[sinks.measure]\ntype = \"null\"",
        r#""$AGENT" >/dev/full 2>err & agent=$!
wait_for ^ready err
traffic; sleep 1.5; conntrack -F 2>/dev/null; sleep 1
kill -TERM $agent; wait $agent; echo "exit $?"
grep -o "ERROR.*sink screen: nothing.*" err | sed 's/ERROR.*sink/ERROR sink/'
grep -o "sink measure: all is delivered records=2" err
grep -o "account: lost screen.unwritten 2 " err; grep -o "; lost by screen.unwritten: .*" err; grep ^conntally err
"#,
    );
    let Some(text) = text else { return };
    assert_eq!(
        text,
        "exit 1\nERROR sink screen: nothing can be written any more\nsink measure: all is delivered records=2\n\
         account: lost screen.unwritten 2 \n; lost by screen.unwritten: 168 bytes, 2 packets, 1 flows\n\
         conntally: cannot write the output: No space left on device (os error 28)\n"
    );
}

#[test]
fn what_one_sink_of_a_killed_agent_did_not_deliver_is_handed_to_all_again() {
    let text = with_sinks(
        "[sinks.screen]\ntype = \"stdout\"\nformat = \"json\"\n[sinks.measure]\ntype = \"null\"",
        &format!(
            r#"export CONNTALLY_STATE_DIR="$PWD/state"
{STUCK_OUTPUT}
kill -9 $agent; wait $agent 2>/dev/null; echo "exit $?"
rm err; "$AGENT" >out 2>err & agent=$!
wait_for ^ready err
sleep 1; kill -TERM $agent; wait $agent; echo "exit $?"
grep -o 'handed on again.* flows=1 batches=1' err | sed "s/no agent.*known//"
grep -o '"type":\["connection","[a-z]*"\]' out
grep -o "sink measure: all is delivered records=1" err
rm err; "$AGENT" >again 2>err & agent=$!
wait_for ^ready err
kill -TERM $agent; wait $agent; echo "exit $?"
wc -c <again
"#
        ),
    );
    let Some(text) = text else { return };
    assert_eq!(
        text,
        "exit 137\nexit 0\nhanded on again;  flows=1 batches=1\n\"type\":[\"connection\",\"start\"]\n\
         sink measure: all is delivered records=1\nexit 0\n0\n"
    );
}

#[test]
fn what_waited_for_company_when_the_agent_was_killed_is_delivered_by_the_next_one() {
    let text = with_sinks(
        "[sinks.measure]\ntype = \"null\"\nbatch_age = \"60s\"\nevents = [\"end\"]",
        r#"export CONNTALLY_STATE_DIR="$PWD/state"
"$AGENT" 2>err & agent=$!
wait_for ^ready err
traffic; sleep 1.5; conntrack -F 2>/dev/null; sleep 1
kill -9 $agent; wait $agent 2>/dev/null; echo "exit $?"
for _ in 1 2; do
  rm err; "$AGENT" 2>err & agent=$!
  wait_for ^ready err
  sleep 0.5; kill -TERM $agent; wait $agent; echo "exit $?"
  grep -o "sink measure: all is delivered records=[0-9]*" err
done
"#,
    );
    let Some(text) = text else { return };
    let delivered = |records| format!("exit 0\nsink measure: all is delivered records={records}\n");
    assert_eq!(text, format!("exit 137\n{}{}", delivered(1), delivered(0)));
}
