//! What is lost or cannot be known, forced on an agent that runs as a process: its audit and its account name the reason
//! and the amount, or say that the amount is unknown. What only kernel programs can lose is forced in guests (`tests`).
#![expect(clippy::unwrap_used, reason = "a test that cannot be set up has failed")]

mod script;

use script::script;

/// Starts and ends agents, and prints what they say of completeness: bytes delivered and lost, and what is unknown.
const RUNS: &str = r#"
run() { rm -f err; "$AGENT" "$@" >>out 2>err & agent=$!; wait_for ^ready err; }
end() { kill -TERM $agent; wait $agent; said; }
said() {
    sed -n 's/.* audit: completeness of bytes \([^,]*\)\(, at most [0-9.]* %\)\?,.* packets.*/bytes \1/p' err
    grep -o '= delivered [0-9]* + not yet due [0-9]* + filtered [0-9]* + lost [0-9]*; packets' err
    grep -o 'of unknown amount: [a-z_]* ' err | sort -u; grep -o 'account: .*' err | sed 's/ flows=.*//'
}
udp() { for port in $(seq $1 $2); do echo >/dev/udp/127.0.0.1/$port; done 2>/dev/null; sleep 1.2; }
flush() { conntrack -F 2>/dev/null; sleep 0.7; }
"#;

fn runs(body: &str) -> Option<String> {
    script(&format!("{RUNS}{body}"))
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
    assert_eq!(text, format!("{first}{told}{second}of unknown amount: gap_without_agent_ms \n{told}"));
}

#[test]
fn a_damaged_state_makes_the_completeness_unknown_and_bills_nothing_twice() {
    let text = runs(
        r#"
export CONNTALLY_STATE_DIR="$PWD/state"
run; udp 20000 20009; end >/dev/null
log=$(ls state/log.*); printf X | dd of=$log bs=1 seek=100 conv=notrunc 2>/dev/null
run; udp 20000 20004; end; grep -o "log.1 is damaged.*" err"#,
    );
    let Some(text) = text else { return };
    assert_eq!(
        text,
        "bytes unknown\n= delivered 145 + not yet due 0 + filtered 0 + lost 0; packets\n\
         of unknown amount: gap_without_agent_ms \nof unknown amount: state_damaged \n\
         account: lost state_damaged 1\nlog.1 is damaged to its end (byte 96)\n"
    );
}

#[test]
fn a_state_of_another_version_is_set_aside_and_makes_the_completeness_unknown() {
    // The header of a log, as it is of any version.
    let mut header = [0; 64];
    header[..12].copy_from_slice(b"CTALLYST\x63\0\x01\0");
    let crc = crc32c::crc32c(&header[..60]);
    header[60..].copy_from_slice(&crc.to_le_bytes());
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
         of unknown amount: state_set_aside \naccount: lost state_set_aside 1\nlog.1.version99\n"
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
         of unknown amount: recording_damaged_blocks \nof unknown amount: recording_records_skipped \n\
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
grep -o 'bytes: ended .* packets: ended' err
"#,
    );
    let Some(text) = text else { return };
    let figure = |name: &str| {
        let rest = text.split_once(name).unwrap().1;
        rest.split([' ', ';']).next().unwrap().parse::<u64>().unwrap()
    };
    let [ended, living, delivered, lost] = ["ended ", "living ", "delivered ", "lost "].map(figure);
    assert_eq!(ended + living, 3000 * 29, "{text}");
    assert_eq!(delivered + lost, 3000 * 29, "{text}");
    assert!(lost > 0 && delivered > 0, "{text}");
}
