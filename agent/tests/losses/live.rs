//! What an agent loses of live flows, which it follows by netlink.

use crate::script::script;

/// Starts and ends agents, and prints what they say of completeness: bytes delivered and lost, and what is unknown.
const RUNS: &str = r#"
run() { rm -f err; "$AGENT" "$@" >>out 2>err & agent=$!; wait_for ^ready err; }
end() { kill -TERM $agent; wait $agent; said; }
said() {
    sed -n 's/.* audit: completeness of bytes \([^,]*\)\(, at most [0-9.]* %\)\?,.* packets.*/bytes \1/p' err
    grep -o '= delivered [0-9]* + not yet due [0-9]* + filtered [0-9]* + lost [0-9]*; packets' err
    grep -o 'of unknown amount: [a-z_]* [0-9]*' err | sed 's/_ms .*/_ms/' | sort -u; grep -o 'account: .*' err | sed 's/ flows=.*//'
}
udp() { for port in $(seq $1 $2); do echo >/dev/udp/127.0.0.1/$port; done 2>/dev/null; sleep 1.2; }
flush() { conntrack -F 2>/dev/null; sleep 0.7; }
"#;

pub(crate) fn runs(body: &str) -> Option<String> {
    script(&format!("{RUNS}{body}"))
}

/// The number behind the first such words.
pub(crate) fn figure(text: &str, words: &str) -> u64 {
    let rest = text.split_once(words).unwrap().1;
    rest.split(|c: char| !c.is_ascii_digit()).next().unwrap().parse().unwrap()
}

#[test]
fn a_time_without_an_agent_makes_the_completeness_unknown() {
    let text = runs(
        r#"
export CONNTALLY_STATE_DIR="$PWD/state"
run; udp 20000 20009; end; sleep 0.3
run; udp 20010 20019; end"#,
    );
    let Some(text) = text else { return };
    let [first, second] = ["bytes 100 %", "bytes unknown"]
        .map(|bytes| format!("{bytes}\n= delivered 290 + not yet due 0 + filtered 0 + lost 0; packets\n"));
    let told = "account: nothing was lost\n";
    assert_eq!(text, format!("{first}{told}{second}of unknown amount: gap_without_agent_ms\n{told}"));
}

#[test]
fn a_damaged_state_makes_the_completeness_unknown_and_bills_nothing_twice() {
    let text = runs(
        r#"
export CONNTALLY_STATE_DIR="$PWD/state"
run; udp 20000 20009; end >/dev/null
log=$(ls state/log.*); printf X | dd of=$log bs=1 seek=108 conv=notrunc 2>/dev/null
run; udp 20000 20004; end; grep -o "log.1 is damaged.*" err"#,
    );
    let Some(text) = text else { return };
    assert_eq!(
        text,
        "bytes unknown\n= delivered 145 + not yet due 0 + filtered 0 + lost 0; packets\n\
         of unknown amount: gap_without_agent_ms\nof unknown amount: state_damaged 1\n\
         account: lost state_damaged 1\nlog.1 is damaged to its end (byte 104)\n"
    );
}

#[test]
fn a_state_of_another_version_is_set_aside_and_makes_the_completeness_unknown() {
    // The header of a log, as it is of any version.
    let mut header = [0; 72];
    header[..12].copy_from_slice(b"CTALLYST\x63\0\x01\0");
    let crc = crc32c::crc32c(&header[..68]);
    header[68..].copy_from_slice(&crc.to_le_bytes());
    let header: String = header.iter().map(|byte| format!("\\x{byte:02x}")).collect();
    let text = runs(&format!(
        r#"
export CONNTALLY_STATE_DIR="$PWD/state"
mkdir -m 700 state; printf '{header}' >state/log.1
run; udp 20000 20009; end; ls state | grep version"#,
    ));
    let Some(text) = text else { return };
    assert_eq!(
        text,
        "bytes unknown\n= delivered 290 + not yet due 0 + filtered 0 + lost 0; packets\n\
         of unknown amount: state_set_aside 1\naccount: lost state_set_aside 1\nlog.1.version99\n"
    );
}

#[test]
fn a_state_that_could_not_be_kept_makes_the_completeness_of_the_next_agent_unknown() {
    let text = runs(
        r#"
mkdir state; mount -t tmpfs -o size=16k none state
export CONNTALLY_STATE_DIR="$PWD/state"
run; udp 20000 20099; wait_for "cannot keep the state" err; kill -KILL $agent; wait $agent
mount -o remount,size=1m state
run; udp 20000 20009; end; ls state | grep unkept
run; udp 20000 20009; end >after; grep missing after || true"#,
    );
    let Some(text) = text else { return };
    assert_eq!(
        text,
        "bytes unknown\n= delivered 290 + not yet due 0 + filtered 0 + lost 0; packets\n\
         of unknown amount: state_missing 1\naccount: lost state_missing 1\n"
    );
}

#[test]
fn flows_for_which_the_table_has_no_room_are_counted_and_their_ends_are_whole() {
    let text = runs(
        r#"
export CONNTALLY_FLOW__MAX_FLOWS=1024
run; udp 20000 21199; flush; end"#,
    );
    let Some(text) = text else { return };
    // In its own list of flows the source may have no room, in its table the agent, or both.
    assert!(text.contains("= delivered 34800 + not yet due 0 + filtered 0 + lost 0"), "{text}");
    assert!(text.contains("account: lost ") && text.contains("_table_full "), "{text}");
}

#[test]
fn a_damaged_recording_makes_the_completeness_unknown() {
    let text = runs(
        r#"
run record flows.rec; udp 20000 20005; flush; kill $agent; wait $agent
printf X | dd of=flows.rec bs=1 seek=450 conv=notrunc 2>/dev/null
"$AGENT" replay flows.rec >/dev/null 2>err; echo "exit $?"; said"#,
    );
    let Some(text) = text else { return };
    assert_eq!(
        text,
        "exit 1\nbytes unknown\n= delivered 174 + not yet due 0 + filtered 0 + lost 0; packets\n\
         of unknown amount: recording_damaged_blocks 1\nof unknown amount: recording_records_skipped 6\n\
         account: lost recording_damaged_blocks 1, recording_records_skipped 6\n"
    );
}

#[test]
fn what_has_no_room_on_the_way_to_a_slow_reader_is_lost_to_the_byte() {
    let text = runs(
        r#"
export CONNTALLY_OUTPUT__QUEUE_RECORDS=1024
mkfifo pipe; sleep 30 <>pipe & "$AGENT" >pipe 2>err & agent=$!; wait_for ^ready err
udp 20000 22999; flush
grep -c . <pipe >written & reader=$!; sleep 1; kill -TERM $agent; wait $agent
kill %1; wait $reader
grep -o 'bytes: ended .* packets: ended' err; grep -o 'account: .*' err
"#,
    );
    let Some(text) = text else { return };
    let [ended, living, delivered, lost] =
        ["ended ", "living ", "delivered ", "lost "].map(|name| figure(&text, name));
    assert_eq!(ended + living, 3000 * 29, "{text}");
    assert_eq!(delivered + lost, 3000 * 29, "{text}");
    assert!(lost > 0 && delivered > 0, "{text}");
    let account = text.rsplit_once("account: lost ").unwrap().1;
    // Whether ends had room depends on how soon they came.
    let [records, written, starts, ends] =
        [" records=", " written=", "output_queue_full ", "output_queue_full_ends "]
            .map(|name| if account.contains(name) { figure(account, name) } else { 0 });
    assert_eq!(records, written + starts + ends, "{text}");
}

#[test]
fn events_that_have_no_room_make_the_completeness_unknown() {
    let text = runs(
        r#"
export CONNTALLY_SOURCE__NETLINK_BUFFER=64KiB
run; kill -STOP $agent; udp 20000 21999; flush; kill -CONT $agent; sleep 3; end"#,
    );
    let Some(text) = text else { return };
    assert!(text.starts_with("bytes unknown\n"), "{text}");
    assert!(text.contains("\nof unknown amount: netlink_overflow "), "{text}");
    assert!(text.contains("\naccount: lost netlink_overflow "), "{text}");
}

#[test]
fn without_events_and_with_ends_that_nobody_told_of_the_completeness_is_unknown() {
    let text = runs(
        r#"
echo 0 >/proc/sys/net/netfilter/nf_conntrack_events
run; udp 20000 20009; flush; wait_for '"final":true' out; end; grep -c '"end_reason":"missed"' out"#,
    );
    let Some(text) = text else { return };
    assert_eq!(
        text,
        "bytes unknown\n= delivered 290 + not yet due 0 + filtered 0 + lost 0; packets\n\
         of unknown amount: ended_unseen 10\nof unknown amount: netlink_events_off 1\n\
         account: lost netlink_events_off 1\n10\n"
    );
}

#[test]
fn a_namespace_that_cannot_be_entered_makes_the_completeness_unknown() {
    let text = runs(
        r#"
ip netns add other
echo 1 >/proc/sys/net/netfilter/nf_conntrack_acct
run_confined() { setpriv --bounding-set -all,+net_admin --inh-caps -all "$AGENT" >out 2>err & agent=$!; wait_for ^ready err; }
run_confined; udp 20000 20009; end"#,
    );
    let Some(text) = text else { return };
    assert_eq!(
        text,
        "bytes unknown\n= delivered 290 + not yet due 0 + filtered 0 + lost 0; packets\n\
         of unknown amount: netlink_namespace_refused 1\naccount: lost netlink_namespace_refused 1\n"
    );
}

#[test]
fn what_flows_move_for_which_the_source_has_no_room_is_unknown_while_they_live() {
    let text = runs(
        r#"
export CONNTALLY_FLOW__MAX_FLOWS=1024
run; udp 20000 21199; end"#,
    );
    let Some(text) = text else { return };
    assert!(text.starts_with("bytes unknown\n= delivered 29696 + not yet due 0 "), "{text}");
    assert!(text.contains("\nof unknown amount: netlink_table_full "), "{text}");
}

#[test]
fn counters_that_somebody_resets_make_the_completeness_unknown() {
    let text = runs(
        r#"
run; udp 20000 20009; conntrack -L -z >/dev/null 2>&1; flush; end"#,
    );
    let Some(text) = text else { return };
    assert_eq!(
        text,
        "bytes unknown\n= delivered 290 + not yet due 0 + filtered 0 + lost 0; packets\n\
         of unknown amount: totals_regressed 10\naccount: lost totals_regressed 10\n"
    );
}

/// Has calls of the agent that runs go wrong as told (`strace -e inject=`), until they are right again.
const WRONG: &str = r#"
go_wrong() { strace -qq -f -o calls -e inject="$1" -p $agent & tracer=$!; wait_for "$agent" calls; }
go_right() { kill -INT $tracer; wait $tracer; }
"#;

#[test]
fn a_dump_that_fails_is_made_good_for_by_the_next() {
    let text = runs(&format!(
        r#"{WRONG}
run; go_wrong sendto:error=ENOBUFS:when=1..3; udp 20000 20009
wait_for "lost since the last report: netlink_dump_failed" err; go_right
udp 20010 20019; udp 20020 20029; end >said; sed 's/failed [1-3]$/failed/' said"#
    ));
    let Some(text) = text else { return };
    assert_eq!(
        text,
        "bytes 100 %\n= delivered 870 + not yet due 0 + filtered 0 + lost 0; packets\n\
         account: lost netlink_dump_failed\n"
    );
}

#[test]
fn a_message_that_makes_no_sense_makes_the_completeness_unknown() {
    let text = runs(&format!(
        r#"{WRONG}
run; go_wrong recvfrom:poke_exit=@arg2=01000000; udp 20000 20009
wait_for "lost since the last report: .*netlink_malformed" err; go_right
udp 20010 20019; end"#
    ));
    let Some(text) = text else { return };
    assert!(text.starts_with("bytes unknown\n= delivered 580 + "), "{text}");
    assert!(text.contains("\nof unknown amount: netlink_malformed "), "{text}");
}
