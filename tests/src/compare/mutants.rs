//! Tests of the comparator itself: agents with one fault each, and every one must be found out.

mod audit;

use std::net::IpAddr;

use serde_json::{Value, json};

use super::{Accounted, Verdict, against_conntrack, compare};
use crate::conntrack::Entry;
use crate::key::{Counter, FlowKey, Totals, Tuple, protocol};
use crate::ledger::{Account, Expectation};
use crate::records::Records;

const NAMESPACES: [u32; 2] = [4_026_532_001, 4_026_532_002];
const FLOWS_EACH: u16 = 1000;

/// What an exact agent would print for the ledger, as lines that a mutant can spoil.
struct Bench {
    ledger: Vec<Account>,
    lines: Vec<Value>,
}

impl Bench {
    fn exact() -> Self {
        let ledger: Vec<Account> = NAMESPACES
            .into_iter()
            .flat_map(|netns| (0..FLOWS_EACH).map(move |number| account(netns, number)))
            .collect();
        let lines = ledger.iter().enumerate().flat_map(|(id, account)| life(id, account)).collect();
        Self { ledger, lines }
    }

    fn records(&self) -> Records {
        let lines: Vec<String> = self.lines.iter().map(Value::to_string).collect();
        Records::from_lines(lines.iter().map(String::as_str))
    }

    fn accounted(&self) -> Accounted {
        Accounted::all(&self.records())
    }

    fn verdict(&self) -> Verdict {
        compare(&self.ledger, &self.records(), &NAMESPACES, self.ledger.len())
    }
}

fn account(netns: u32, number: u16) -> Account {
    let tuple = Tuple {
        protocol: protocol::UDP,
        source: IpAddr::from([10, 203, 1, 2]),
        destination: IpAddr::from([10, 203, 2, 2]),
        source_port: 20_000 + number,
        destination_port: 53,
    };
    let number = u64::from(number);
    let totals = Totals {
        original: Counter { packets: 3, bytes: 300 + number },
        reply: Counter { packets: 2, bytes: 900 + number },
    };
    Account { key: FlowKey { netns, zone: 0, tuple }, totals, expected: Expectation::default() }
}

/// A start with the first packet, an update, an end.
fn life(id: usize, account: &Account) -> [Value; 3] {
    let none = Totals::default();
    let first = Totals { original: Counter { packets: 1, bytes: 100 }, reply: Counter::default() };
    let middle =
        Totals { original: Counter { packets: 2, bytes: 200 }, reply: Counter { packets: 1, bytes: 450 } };
    [
        record(id, account, "start", none, first),
        record(id, account, "info", first, middle),
        record(id, account, "end", middle, account.totals),
    ]
}

fn record(id: usize, account: &Account, kind: &str, before: Totals, now: Totals) -> Value {
    let delta = now.minus(before).unwrap();
    let tuple = account.key.tuple;
    let side = |counter: Counter| json!({"bytes": counter.bytes, "packets": counter.packets});
    let mut line = json!({
        "@timestamp": "2026-11-20T10:00:05.123456789Z",
        "event": {"type": ["connection", kind], "start": "2026-11-20T10:00:00.000000001Z", "duration": 1},
        "flow": {"id": format!("{id:032x}"), "final": kind == "end"},
        "network": {"iana_number": tuple.protocol.to_string()},
        "source": side(now.original),
        "destination": side(now.reply),
        "conntally": {
            "delta": {"source": side(delta.original), "destination": side(delta.reply)},
            "netns": {"inode": account.key.netns},
            "zone": account.key.zone,
            "flags": []
        }
    });
    line["source"]["ip"] = json!(tuple.source);
    line["source"]["port"] = json!(tuple.source_port);
    line["destination"]["ip"] = json!(tuple.destination);
    line["destination"]["port"] = json!(tuple.destination_port);
    if kind == "end" {
        line["conntally"]["end_reason"] = json!("timeout");
    }
    line
}

fn is_end(line: &Value) -> bool {
    line["event"]["type"][1] == "end"
}

fn add(value: &mut Value, more: u64) {
    *value = json!(value.as_u64().unwrap() + more);
}

fn swap_sides(parent: &mut Value, names: [&str; 2]) {
    let [one, other] = names.map(|name| parent["source"][name].clone());
    for (name, value) in names.into_iter().zip([one, other]) {
        parent["source"][name] = parent["destination"][name].clone();
        parent["destination"][name] = value;
    }
}

#[test]
fn an_exact_agent_passes() {
    let verdict = Bench::exact().verdict();
    assert!(verdict.exact(), "{:?}", verdict.problems);
    assert_eq!(verdict.matched, 2 * usize::from(FLOWS_EACH));
}

#[test]
fn an_agent_that_drops_one_end_in_a_thousand_fails() {
    let mut bench = Bench::exact();
    let mut ends = 0;
    bench.lines.retain(|line| {
        ends += u32::from(is_end(line));
        !(is_end(line) && ends % 1000 == 0)
    });
    let verdict = bench.verdict();
    assert!(!verdict.exact());
    assert_eq!(verdict.missing_ends, 2);
}

#[test]
fn an_agent_that_adds_a_byte_fails() {
    let mut bench = Bench::exact();
    add(&mut bench.lines[1502]["source"]["bytes"], 1);
    assert!(is_end(&bench.lines[1502]));
    let verdict = bench.verdict();
    assert!(!verdict.exact());
    assert_eq!(verdict.wrong_counts, 1);
}

#[test]
fn an_agent_that_adds_a_byte_to_total_and_delta_alike_fails() {
    let mut bench = Bench::exact();
    add(&mut bench.lines[2]["source"]["bytes"], 1);
    add(&mut bench.lines[2]["conntally"]["delta"]["source"]["bytes"], 1);
    let verdict = bench.verdict();
    assert!(!verdict.exact());
    assert_eq!(verdict.double_counts, 1);
}

#[test]
fn an_agent_that_mistakes_the_zone_fails() {
    let mut bench = Bench::exact();
    for line in &mut bench.lines[..3] {
        line["conntally"]["zone"] = json!(1);
    }
    let verdict = bench.verdict();
    assert!(!verdict.exact());
    assert_eq!((verdict.missing, verdict.unexpected), (1, 1));
}

#[test]
fn an_agent_that_doubles_an_update_fails() {
    let mut bench = Bench::exact();
    bench.lines.insert(5, bench.lines[4].clone());
    let verdict = bench.verdict();
    assert!(!verdict.exact());
    assert_eq!(verdict.double_counts, 1);
}

#[test]
fn an_agent_that_doubles_an_end_fails() {
    let mut bench = Bench::exact();
    bench.lines.push(bench.lines[2].clone());
    let verdict = bench.verdict();
    assert!(!verdict.exact());
    assert_eq!(verdict.double_ends, 1);
}

#[test]
fn an_agent_that_doubles_a_start_fails() {
    let mut bench = Bench::exact();
    let mut again = bench.lines[0].clone();
    again["conntally"]["delta"] = json!({});
    bench.lines.insert(1, again);
    let verdict = bench.verdict();
    assert!(!verdict.exact());
    assert_eq!(verdict.wrong_facts, 1);
}

#[test]
fn an_agent_that_swaps_the_counters_of_the_directions_fails() {
    let mut bench = Bench::exact();
    for line in &mut bench.lines[..3] {
        swap_sides(line, ["bytes", "packets"]);
        swap_sides(&mut line["conntally"]["delta"], ["bytes", "packets"]);
    }
    let verdict = bench.verdict();
    assert!(!verdict.exact());
    assert_eq!(verdict.wrong_direction, 1);
}

#[test]
fn an_agent_that_swaps_the_addresses_of_the_directions_fails() {
    let mut bench = Bench::exact();
    for line in &mut bench.lines[..3] {
        swap_sides(line, ["ip", "port"]);
    }
    let verdict = bench.verdict();
    assert!(!verdict.exact());
    assert_eq!((verdict.missing, verdict.wrong_direction), (1, 1));
}

#[test]
fn an_agent_that_forgets_a_namespace_fails() {
    let mut bench = Bench::exact();
    bench.lines.retain(|line| line["conntally"]["netns"]["inode"] != NAMESPACES[1]);
    let verdict = bench.verdict();
    assert!(!verdict.exact());
    assert_eq!(verdict.missing, usize::from(FLOWS_EACH));
}

#[test]
fn an_agent_that_puts_flows_into_the_wrong_namespace_fails() {
    let mut bench = Bench::exact();
    for line in &mut bench.lines {
        line["conntally"]["netns"]["inode"] = json!(NAMESPACES[0]);
    }
    let verdict = bench.verdict();
    assert!(!verdict.exact());
    assert_eq!(verdict.unexpected, usize::from(FLOWS_EACH));
}

#[test]
fn an_agent_that_loses_one_delta_fails() {
    let mut bench = Bench::exact();
    bench.lines.remove(1);
    let verdict = bench.verdict();
    assert!(!verdict.exact());
    assert_eq!(verdict.wrong_counts, 1);
}

#[test]
fn an_agent_that_invents_a_flow_fails() {
    let mut bench = Bench::exact();
    let stranger = account(NAMESPACES[0], FLOWS_EACH + 1);
    bench.lines.extend(life(999_999, &stranger));
    let verdict = bench.verdict();
    assert!(!verdict.exact());
    assert_eq!(verdict.unexpected, 1);
}

#[test]
fn an_agent_that_splits_a_flow_in_two_fails() {
    let mut bench = Bench::exact();
    bench.lines[2]["flow"]["id"] = json!("ffffffffffffffffffffffffffffffff");
    let verdict = bench.verdict();
    assert!(!verdict.exact());
    assert_eq!(verdict.unexpected, 1);
}

#[test]
fn an_agent_that_merges_two_flows_of_one_tuple_fails() {
    let mut bench = Bench::exact();
    let again = bench.ledger[0].clone();
    bench.ledger.push(again);
    let verdict = bench.verdict();
    assert!(!verdict.exact());
    assert_eq!(verdict.missing, 1);
}

#[test]
fn an_agent_that_gives_another_end_reason_fails() {
    let mut bench = Bench::exact();
    bench.ledger[0].expected.end_reasons = vec!["closed"];
    let verdict = bench.verdict();
    assert!(!verdict.exact());
    assert_eq!(verdict.wrong_facts, 1);
}

#[test]
fn an_agent_that_flags_a_flow_for_nothing_fails() {
    let mut bench = Bench::exact();
    for line in &mut bench.lines[..3] {
        line["conntally"]["flags"] = json!(["first_seen_midlife"]);
    }
    assert!(!bench.verdict().exact());
}

#[test]
fn an_agent_that_bills_what_moved_before_it_came_fails() {
    let mut bench = Bench::exact();
    bench.ledger[0].expected.baseline =
        Some(Totals { original: Counter { packets: 1, bytes: 100 }, reply: Counter::default() });
    for line in &mut bench.lines[..3] {
        line["conntally"]["flags"] = json!(["first_seen_midlife"]);
    }
    assert!(!bench.verdict().exact());
    bench.lines[0]["conntally"]["delta"] = json!({});
    let verdict = bench.verdict();
    assert!(verdict.exact(), "{:?}", verdict.problems);
}

#[test]
fn an_agent_that_hides_a_translation_fails() {
    let mut bench = Bench::exact();
    let mut reply = bench.ledger[0].key.tuple.answer();
    reply.destination_port = 4000;
    bench.ledger[0].expected.nat_reply = Some(reply);
    assert!(!bench.verdict().exact());
    for line in &mut bench.lines[..3] {
        line["source"]["nat"] = json!({"ip": "10.203.1.2", "port": 4000});
    }
    let verdict = bench.verdict();
    assert!(verdict.exact(), "{:?}", verdict.problems);
}

#[test]
fn garbage_among_the_records_fails() {
    let mut bench = Bench::exact();
    bench.lines.push(json!("half a li"));
    assert!(!bench.verdict().exact());
}

#[test]
fn an_agent_that_says_nothing_fails() {
    let mut bench = Bench::exact();
    bench.lines.clear();
    let verdict = bench.verdict();
    assert!(!verdict.exact());
    assert_eq!(verdict.missing, bench.ledger.len());
}

#[test]
fn a_run_without_flows_or_with_fewer_than_promised_fails() {
    let nothing = compare(&[], &Records::default(), &NAMESPACES, 0);
    assert!(!nothing.exact());
    let bench = Bench::exact();
    let fewer = compare(&bench.ledger, &bench.records(), &NAMESPACES, bench.ledger.len() + 1);
    assert!(!fewer.exact());
}

#[test]
fn a_byte_more_in_conntrack_than_in_the_records_fails() {
    let bench = Bench::exact();
    let mut entries: Vec<Entry> =
        bench.ledger.iter().map(|account| Entry::new(account.key, account.totals)).collect();
    let mut verdict = bench.verdict();
    against_conntrack(&mut verdict, &entries, &bench.records());
    assert!(verdict.exact());
    entries[0].totals.reply.bytes += 1;
    against_conntrack(&mut verdict, &entries, &bench.records());
    assert!(!verdict.exact());
    assert_eq!(verdict.conntrack_mismatches, 1);
}

/// The first flow comes in two pieces, the second opened by an answer.
fn in_pieces(bench: &mut Bench) {
    let whole = bench.ledger[0].clone();
    bench.ledger[0].expected.pieces = true;
    let first =
        Totals { original: Counter { packets: 2, bytes: 200 }, reply: Counter { packets: 1, bytes: 450 } };
    let rest = Account {
        key: FlowKey { tuple: whole.key.tuple.answer(), ..whole.key },
        totals: whole.totals.minus(first).unwrap().swapped(),
        expected: Expectation::default(),
    };
    bench.lines[2] = record(0, &whole, "end", first, first);
    bench.lines.push(record(999_999, &rest, "end", Totals::default(), rest.totals));
}

#[test]
fn pieces_that_add_up_to_the_wire_pass() {
    let mut bench = Bench::exact();
    in_pieces(&mut bench);
    let verdict = bench.verdict();
    assert!(verdict.exact(), "{:?}", verdict.problems);
}

#[test]
fn an_agent_that_loses_a_piece_fails() {
    let mut bench = Bench::exact();
    in_pieces(&mut bench);
    bench.lines.pop();
    let verdict = bench.verdict();
    assert!(!verdict.exact());
    assert_eq!(verdict.wrong_counts, 1);
}

#[test]
fn an_agent_that_takes_a_piece_for_the_other_direction_fails() {
    let mut bench = Bench::exact();
    in_pieces(&mut bench);
    let piece = bench.lines.last_mut().unwrap();
    swap_sides(piece, ["ip", "port"]);
    assert!(!bench.verdict().exact());
}

#[test]
fn an_agent_that_never_ends_a_piece_fails() {
    let mut bench = Bench::exact();
    in_pieces(&mut bench);
    bench.lines.last_mut().unwrap()["event"]["type"] = json!(["connection", "info"]);
    let verdict = bench.verdict();
    assert!(!verdict.exact());
    assert_eq!(verdict.missing_ends, 1);
}

#[test]
fn an_agent_that_bills_a_piece_twice_fails() {
    let mut bench = Bench::exact();
    in_pieces(&mut bench);
    add(&mut bench.lines.last_mut().unwrap()["conntally"]["delta"]["source"]["bytes"], 1);
    let verdict = bench.verdict();
    assert!(!verdict.exact());
    assert_eq!(verdict.double_counts, 1);
}

#[test]
fn an_admitted_loss_is_summed_up_to_the_byte() {
    let mut bench = Bench::exact();
    bench.ledger.iter_mut().for_each(|account| account.expected.loss_admitted = true);
    bench.lines.remove(2);
    bench.lines.drain(2..5);
    let verdict = bench.verdict();
    assert!(verdict.exact(), "{:?}", verdict.problems);
    assert_eq!(verdict.shortfall.ends, 2);
    let mut missing = bench.ledger[1].totals;
    missing +=
        Totals { original: Counter { packets: 1, bytes: 100 }, reply: Counter { packets: 1, bytes: 450 } };
    assert_eq!(verdict.shortfall.totals, missing);
}

#[test]
fn an_agent_that_tells_more_than_the_wire_of_a_flow_without_end_fails() {
    let mut bench = Bench::exact();
    bench.ledger.iter_mut().for_each(|account| account.expected.loss_admitted = true);
    bench.lines.remove(2);
    for name in ["source", "destination"] {
        add(&mut bench.lines[1][name]["bytes"], 1000);
        add(&mut bench.lines[1]["conntally"]["delta"][name]["bytes"], 1000);
    }
    let verdict = bench.verdict();
    assert!(!verdict.exact());
    assert_eq!(verdict.wrong_counts, 1);
}

#[test]
fn an_admitted_loss_excuses_no_wrong_end() {
    let mut bench = Bench::exact();
    bench.ledger.iter_mut().for_each(|account| account.expected.loss_admitted = true);
    add(&mut bench.lines[2]["source"]["bytes"], 1);
    assert!(!bench.verdict().exact());
}

#[test]
fn an_agent_that_misses_a_change_of_mark_or_label_fails() {
    let mut bench = Bench::exact();
    bench.ledger[0].expected.marks = vec![1, 2];
    bench.ledger[0].expected.labels = Some([8; 16]);
    for (line, mark) in bench.lines.iter_mut().zip([1, 1, 2]) {
        line["conntally"]["mark"] = json!(mark);
        line["conntally"]["labels"] = json!("08".repeat(16));
    }
    let verdict = bench.verdict();
    assert!(verdict.exact(), "{:?}", verdict.problems);
    bench.lines[2]["conntally"]["mark"] = json!(1);
    assert_eq!(bench.verdict().wrong_facts, 1);
    bench.lines[2]["conntally"]["labels"] = json!("00".repeat(16));
    assert_eq!(bench.verdict().wrong_facts, 2);
}

/// The first flow is offloaded after its second record, and nobody counts what it moves then.
fn offloaded(bench: &mut Bench) {
    bench.ledger[0].expected.offloaded = true;
    bench.lines[2] = bench.lines[1].clone();
    bench.lines[2]["event"]["type"] = json!(["connection", "end"]);
    bench.lines[2]["conntally"]["delta"] = json!({});
    bench.lines[2]["conntally"]["flags"] = json!(["offloaded"]);
}

#[test]
fn an_agent_that_flags_what_it_cannot_count_passes() {
    let mut bench = Bench::exact();
    offloaded(&mut bench);
    let verdict = bench.verdict();
    assert!(verdict.exact(), "{:?}", verdict.problems);
}

#[test]
fn an_agent_that_hides_that_a_flow_is_not_counted_fails() {
    let mut bench = Bench::exact();
    offloaded(&mut bench);
    bench.lines[2]["conntally"]["flags"] = json!([]);
    assert!(!bench.verdict().exact());
}

#[test]
fn an_agent_that_guesses_what_an_offloaded_flow_moved_fails() {
    let mut bench = Bench::exact();
    offloaded(&mut bench);
    add(&mut bench.lines[2]["source"]["bytes"], 1_000_000);
    assert!(!bench.verdict().exact());
}

const ANSWER: Counter = Counter { packets: 1, bytes: 120 };

/// The table was resized, and the kernel took an answer of the first flow for the opener's.
fn merged(bench: &mut Bench) {
    let account = &mut bench.ledger[0];
    account.expected.resized = true;
    account.totals.original = account.totals.original.minus(ANSWER).unwrap();
    account.totals.reply += ANSWER;
}

#[test]
fn an_agent_that_says_what_the_kernel_merged_passes() {
    let mut bench = Bench::exact();
    merged(&mut bench);
    let verdict = bench.verdict();
    assert!(verdict.exact(), "{:?}", verdict.problems);
    bench.ledger[0].expected.resized = false;
    assert!(!bench.verdict().exact());
}

#[test]
fn an_agent_that_adds_a_byte_to_what_was_merged_fails() {
    for side in ["source", "destination"] {
        let mut bench = Bench::exact();
        merged(&mut bench);
        add(&mut bench.lines[2][side]["bytes"], 1);
        add(&mut bench.lines[2]["conntally"]["delta"][side]["bytes"], 1);
        assert!(!bench.verdict().exact());
    }
}

/// Two CPUs opened the first flow at once, and the kernel did not count so many packets of it.
fn uncounted(bench: &mut Bench, packets: u64) {
    let account = &mut bench.ledger[0];
    account.expected.raced = true;
    account.totals.original += Counter { packets, bytes: 128 * packets };
}

#[test]
fn an_agent_that_says_what_the_kernel_counted_of_a_race_passes() {
    let mut bench = Bench::exact();
    uncounted(&mut bench, 1);
    let verdict = bench.verdict();
    assert!(verdict.exact(), "{:?}", verdict.problems);
    bench.ledger[0].expected.raced = false;
    assert!(!bench.verdict().exact());
}

#[test]
fn an_agent_that_misses_more_of_a_race_than_the_kernel_may_fails() {
    let mut bench = Bench::exact();
    uncounted(&mut bench, 2);
    assert!(!bench.verdict().exact());
    let mut bench = Bench::exact();
    uncounted(&mut bench, 1);
    bench.ledger[0].totals.reply += ANSWER;
    assert!(!bench.verdict().exact());
}

#[test]
fn an_agent_that_takes_a_packet_of_the_opener_for_an_answer_fails() {
    let mut bench = Bench::exact();
    let account = &mut bench.ledger[0];
    account.expected.resized = true;
    account.totals.reply = account.totals.reply.minus(ANSWER).unwrap();
    account.totals.original += ANSWER;
    assert!(!bench.verdict().exact());
}
