//! What sinks lose, or cannot deliver, of a recording and of live flows.

use std::process::Command;
use std::sync::{Arc, Mutex};

use conntally::model::ObservationKind::{End, New};

use crate::http;
use crate::live::{figure, runs};
use crate::ports_of_flows::sight;
use crate::replaying::{file, recording};

/// A line of the flow from this port.
const REFUSED: &str = "src_port=7";

/// A sink that writes a line for each record.
fn sink(address: &str) -> String {
    format!(
        "[sinks.live]\ntype = \"influxdb\"\nversion = 1\nurl = \"http://{address}\"\ndatabase = \"flows\"\n\
         per_flow = true\ncompress = false\nstatus = false\n"
    )
}

#[test]
fn what_a_server_refuses_for_ever_is_given_up_to_the_byte_and_the_rest_is_stored() {
    let stored = Arc::new(Mutex::new(0));
    let storing = Arc::clone(&stored);
    let address = http::serve(move |asked| {
        let lines: Vec<_> = asked.body.lines().collect();
        let is_refused = lines.iter().any(|line| line.contains(REFUSED));
        *storing.lock().unwrap() += if is_refused { 0 } else { lines.len() };
        let (status, said) =
            if is_refused { ("400 Bad Request", "unable to parse 'it'") } else { ("204 No Content", "") };
        Some(format!("HTTP/1.1 {status}\r\ncontent-length: {}\r\n\r\n{said}", said.len()))
    });
    let config = file(sink(&address.unwrap().to_string()).as_bytes());
    let all = |kind, packets| (1..=9).map(|port| sight(kind, port, packets)).collect();
    let recording = recording([all(New, 1), all(End, 6)]);
    let mut command = Command::new(env!("CARGO_BIN_EXE_conntally"));
    command.env("NO_COLOR", "1").arg("-c").arg(config.path()).arg("replay").arg(recording.path());
    let log = String::from_utf8(command.output().unwrap().stderr).unwrap();
    assert_eq!(*stored.lock().unwrap(), 16, "{log}");
    assert!(log.contains("; lost by live.given_up: 1200 bytes, 12 packets, 1 flows\n"), "{log}");
    assert!(log.contains(" = delivered 9600 + not yet due 0 + filtered 0 + lost 1200; "), "{log}");
    assert!(log.contains("account: lost live.given_up 2 flows=9 "), "{log}");
}

#[test]
fn what_has_no_room_in_the_queue_of_a_sink_and_what_waits_there_in_the_end_is_lost_to_the_byte() {
    let lines = sink("127.0.0.1:9") + "queue_records = 1024\nwhen_full = \"drop_newest\"\n";
    let text = runs(&format!(
        r#"cat >conntally.toml <<'EOF'
shutdown_timeout = "2s"
{lines}EOF
run; udp 20000 22999; flush; end; grep -o '; lost by live.*' err; grep -o ' records=[0-9]* written=0 .*' err"#
    ));
    let Some(text) = text else { return };
    let [full, left] =
        ["queue_full", "unwritten"].map(|reason| figure(&text, &format!("lost by live.{reason}: ")));
    // The sink's own tries to connect were accounted, too.
    assert!(full > 0 && left > 0 && full + left >= 3_000 * 29, "{text}");
    assert_eq!(
        (figure(&text, "delivered "), figure(&text, "filtered 0 + lost ")),
        (0, full + left),
        "{text}"
    );
    let records = ["queue_full ", "queue_full_ends ", "unwritten "]
        .map(|reason| figure(&text, &format!("live.{reason}")));
    assert_eq!(records.iter().sum::<u64>(), figure(&text, " records="), "{text}");
}

#[test]
fn what_nobody_acknowledges_counts_as_delivered_and_makes_the_completeness_unknown() {
    let text = runs(
        r#"
printf '[sinks.live]\ntype = "influxdb"\nversion = 1\nurl = "udp://127.0.0.1:8089"\n' >conntally.toml
python3 -c 'import socket, time; s = socket.socket(type=socket.SOCK_DGRAM); s.bind(("127.0.0.1", 8089)); time.sleep(9)' &
run; udp 20000 20009; end; grep -o 'of unknown amount: live.unacknowledged' err; grep -c 'datagrams to' err"#,
    );
    let Some(text) = text else { return };
    assert!(text.starts_with("bytes unknown\n"), "{text}");
    assert!(
        text.ends_with("account: nothing was lost\nof unknown amount: live.unacknowledged\n1\n"),
        "it is no loss, and told once at the start: {text}"
    );
}
