//! Records as aligned rows for a person at a terminal.

use std::net::IpAddr;

use super::names::{nat_name, protocol_name, protocol_state};
use super::time::rfc3339;
use crate::model::{EndReason, Family, NatKind, Record, RecordKind, Status, Tuple, protocol};

/// Rows after which the header is repeated.
pub const HEADER_EVERY: usize = 40;

/// Terminals narrower than this are treated as this wide.
const MIN_WIDTH: usize = 60;

/// Longest endpoint: an IPv6 address in brackets and a port.
const ENDPOINT_MAX: usize = 47;

/// From this width on state and age have room.
const WIDE: usize = 100;

/// From this width on packets and translated addresses have room, too.
const VERY_WIDE: usize = 140;

/// Width of the column of translated addresses at least.
const NAT_MIN: usize = 26;

/// One column: heading, width, and whether numbers make it right aligned.
struct Column {
    heading: &'static str,
    width: usize,
    right: bool,
    text: fn(&Record) -> String,
}

/// The line above the rows, without newline.
#[must_use]
pub fn header(width: usize) -> String {
    line(columns(width), width, |column| column.heading.to_owned())
}

/// A record as one line of at most `width` characters (at least 60), without newline. Packets and bytes are
/// totals since the flow's start: out = from its opener, in = back to it.
#[must_use]
pub fn row(record: &Record, width: usize) -> String {
    line(columns(width), width, |column| (column.text)(record))
}

fn columns(width: usize) -> Vec<Column> {
    let left = |heading, width, text| Column { heading, width, right: false, text };
    let right = |heading, width, text| Column { heading, width, right: true, text };
    let endpoint = endpoint_width(width);
    let mut columns = vec![
        left("TIME UTC", 8, time),
        left("EVENT", 6, event),
        left("PROTO", 7, transport),
        left("SOURCE", endpoint, source),
        left("DESTINATION", endpoint, destination),
    ];
    if width >= VERY_WIDE {
        columns.push(right("PACKETS O/I", 11, packets));
    }
    columns.push(right("BYTES OUT/IN", 12, bytes));
    if width >= WIDE {
        columns.extend([right("AGE", 6, age), left("STATE", 11, state)]);
    }
    if width >= VERY_WIDE {
        columns.push(left("TRANSLATED", width, translated));
    }
    columns
}

/// What source and destination may each take when the other columns have theirs.
const fn endpoint_width(width: usize) -> usize {
    let others = if width >= VERY_WIDE {
        8 + 6 + 7 + 11 + 12 + 6 + 11 + NAT_MIN + 9
    } else if width >= WIDE {
        8 + 6 + 7 + 12 + 6 + 11 + 7
    } else {
        8 + 6 + 7 + 12 + 5
    };
    let width = if width < MIN_WIDTH { MIN_WIDTH } else { width };
    let each = (width - others) / 2;
    if each > ENDPOINT_MAX { ENDPOINT_MAX } else { each }
}

fn line(columns: Vec<Column>, width: usize, text: impl Fn(&Column) -> String) -> String {
    let mut line = String::with_capacity(width);
    for column in columns {
        if !line.is_empty() {
            line.push(' ');
        }
        let room = column.width.min(width.max(MIN_WIDTH).saturating_sub(line.chars().count()));
        let cell = fit(&text(&column), room);
        let padding = " ".repeat(room - cell.chars().count());
        let (first, second) = if column.right { (padding, cell) } else { (cell, padding) };
        line.push_str(&first);
        line.push_str(&second);
    }
    line.truncate(line.trim_end().len());
    line
}

/// Shortens in the middle, so that an address keeps its beginning and its port.
fn fit(text: &str, width: usize) -> String {
    let length = text.chars().count();
    if length <= width {
        return text.to_owned();
    }
    let head = width / 2;
    let tail = width.saturating_sub(head + 1);
    let shortened = text.chars().take(head).chain(['…']).chain(text.chars().skip(length - tail));
    shortened.take(width).collect()
}

fn time(record: &Record) -> String {
    let stamp = rfc3339(record.observed_ns);
    stamp.iter().skip(11).take(8).map(|&byte| char::from(byte)).collect()
}

fn event(record: &Record) -> String {
    let name = match record.kind {
        RecordKind::New => "new",
        RecordKind::Update => "update",
        RecordKind::End => "end",
    };
    name.to_owned()
}

fn transport(record: &Record) -> String {
    match record.original.protocol {
        protocol::ICMPV6 => "icmp6".to_owned(),
        number => protocol_name(number).map_or_else(|| format!("ip/{number}"), str::to_owned),
    }
}

fn source(record: &Record) -> String {
    endpoint(&record.original, record.original.source(), record.original.src_port)
}

fn destination(record: &Record) -> String {
    let Tuple { dst_port, .. } = record.original;
    let text = endpoint(&record.original, record.original.destination(), dst_port);
    let [kind, code] = dst_port.to_be_bytes();
    if record.original.is_icmp() { format!("{text} {kind}/{code}") } else { text }
}

fn endpoint(tuple: &Tuple, ip: IpAddr, port: u16) -> String {
    match (tuple.has_ports(), tuple.family) {
        (true, Family::V4) => format!("{ip}:{port}"),
        (true, Family::V6) => format!("[{ip}]:{port}"),
        (false, _) => ip.to_string(),
    }
}

fn packets(record: &Record) -> String {
    both(record, record.totals.original.packets, record.totals.reply.packets)
}

fn bytes(record: &Record) -> String {
    both(record, record.totals.original.bytes, record.totals.reply.bytes)
}

fn both(record: &Record, out: u64, back: u64) -> String {
    if record.flags.no_counters { "-".to_owned() } else { format!("{}/{}", short(out), short(back)) }
}

/// A number in at most five characters: three digits and a decimal prefix.
fn short(number: u64) -> String {
    let mut unit = 1;
    for prefix in ["", "k", "M", "G", "T", "P", "E"] {
        let (whole, rest) = (number / unit, u128::from(number % unit));
        let hundredths = rest * 100 / u128::from(unit);
        match whole {
            0..1000 if unit == 1 => return number.to_string(),
            0..10 => return format!("{whole}.{hundredths:02}{prefix}"),
            10..100 => return format!("{whole}.{}{prefix}", hundredths / 10),
            100..1000 => return format!("{whole}{prefix}"),
            _ => unit = unit.saturating_mul(1000),
        }
    }
    number.to_string()
}

fn age(record: &Record) -> String {
    let seconds = record.duration_ns / 1_000_000_000;
    let (minutes, hours, days) = (seconds / 60, seconds / 3600, seconds / 86_400);
    match seconds {
        0..10 => format!("{seconds}.{}s", record.duration_ns / 100_000_000 % 10),
        10..60 => format!("{seconds}s"),
        60..3600 => format!("{minutes}m{:02}s", seconds % 60),
        3600..86_400 => format!("{hours}h{:02}m", minutes % 60),
        _ if days < 100 => format!("{days}d{:02}h", hours % 24),
        _ => format!("{days}d"),
    }
}

/// Why it ended, else the protocol tracker's state, else how far the exchange has come.
fn state(record: &Record) -> String {
    let exchange = if record.status.has(Status::ASSURED) {
        "assured"
    } else if record.status.has(Status::SEEN_REPLY) {
        "replied"
    } else {
        "unreplied"
    };
    let tracked = protocol_state(record).map_or(exchange, |(_, state)| state);
    record.end_reason.map_or(tracked, EndReason::name).to_owned()
}

/// The addresses that the answerer or the opener sees in place of the real ones.
fn translated(record: &Record) -> String {
    let source = endpoint(&record.reply, record.reply.destination(), record.reply.dst_port);
    let destination = endpoint(&record.reply, record.reply.source(), record.reply.src_port);
    match record.nat {
        NatKind::None => String::new(),
        NatKind::Source => format!("{} {source}", nat_name(record.nat)),
        NatKind::Destination => format!("{} {destination}", nat_name(record.nat)),
        NatKind::Both => format!("{source} → {destination}"),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::samples::{any_record, end_of_tcp, ping};
    use super::*;

    fn screen(width: usize) -> String {
        let mut long_v6 = ping();
        long_v6.original.protocol = protocol::UDP;
        long_v6.original.src = [0x20; 16];
        long_v6.flags.no_counters = true;
        [header(width), row(&end_of_tcp(), width), row(&ping(), width), row(&long_v6, width)].join("\n")
    }

    #[test]
    fn a_narrow_terminal_has_the_essentials() {
        insta::assert_snapshot!(screen(80));
    }

    #[test]
    fn a_wide_terminal_has_state_and_age() {
        insta::assert_snapshot!(screen(120));
    }

    #[test]
    fn a_very_wide_terminal_has_everything_in_full() {
        insta::assert_snapshot!(screen(200));
    }

    #[test]
    fn numbers_take_five_characters_at_most() {
        let cases = [
            (0, "0"),
            (999, "999"),
            (1000, "1.00k"),
            (9_999, "9.99k"),
            (12_345, "12.3k"),
            (999_999, "999k"),
            (1_000_000, "1.00M"),
            (u64::MAX, "18.4E"),
        ];
        for (number, expected) in cases {
            assert_eq!(short(number), expected);
        }
    }

    #[test]
    fn ages_are_as_exact_as_their_size_deserves() {
        let cases = [
            (0, "0.0s"),
            (59, "59s"),
            (61, "1m01s"),
            (7_260, "2h01m"),
            (90_000, "1d01h"),
            (86_400_000, "1000d"),
        ];
        for (seconds, expected) in cases {
            let record = Record { duration_ns: seconds * 1_000_000_000, ..end_of_tcp() };
            assert_eq!(age(&record), expected);
        }
    }

    proptest! {
        #[test]
        fn no_row_is_wider_than_the_terminal(record in any_record(), width in 0..300usize) {
            prop_assert!(row(&record, width).chars().count() <= width.max(MIN_WIDTH));
            prop_assert!(header(width).chars().count() <= width.max(MIN_WIDTH));
        }

        #[test]
        fn any_number_is_short(number: u64) {
            prop_assert!(short(number).len() <= 5);
        }
    }
}
