//! What expressions mean for a record, and what is said of wrong ones.

use super::*;
use crate::model::{EndReason, Family, NatKind, RecordKind, Status, protocol};
use crate::pipeline::networks::NetworkDefinition;
use crate::sinks::samples::{any_record, end_of_tcp};
use expr::{AddressField, AddressValue, At, Masked, NetnsValue, PortField, Range, Test};
use proptest::prelude::*;
use words::{Flag, StatusBit, Word};

fn networks() -> Arc<Networks> {
    let define = |name: &str, prefix: &str, internal| NetworkDefinition {
        name: name.into(),
        prefixes: vec![prefix.parse().unwrap()],
        internal: Some(internal),
    };
    let all = [define("site", "10.0.0.0/8", true), define("lab 1", "10.32.7.0/24", false)];
    Arc::new(Networks::new(&all).unwrap())
}

fn netns_name() -> NetnsName {
    Arc::new(|inode| (inode == 4_026_531_840).then(|| "init".into()))
}

fn lists(include: &[&str], exclude: &[&str]) -> FilterLists {
    let parse = |texts: &[&str]| texts.iter().map(|text| Filter::parse(text).unwrap()).collect();
    FilterLists { include: parse(include), exclude: parse(exclude) }
}

fn set(include: &[&str], exclude: &[&str]) -> FilterSet {
    FilterSet::new(&lists(include, exclude), networks(), netns_name()).unwrap()
}

fn holds(text: &str, record: &Record) -> bool {
    set(&[text], &[]).wants(record)
}

/// 10.0.0.2:40312 to 198.51.100.7:443, source translated to 192.0.2.1; ended as closed.
fn record() -> Record {
    Record { mark: 0x1234, zone: 7, ..end_of_tcp() }
}

#[test]
fn each_field_compares_what_it_says() {
    for yes in [
        "src = 10.0.0.2",
        "src in 10.0.0.0/8",
        "dst in {203.0.113.0/24, 198.51.100.0/24, ::/0}",
        "host in 10.0.0.0/8",
        "host in 198.51.100.0/24",
        "src in site",
        "nat_src = 192.0.2.1",
        "nat_host = 192.0.2.1",
        "src_port = 40312",
        "dst_port = https",
        "port in {1-5, 400-500}",
        "proto = tcp",
        "proto in {17, 6}",
        "family = ipv4",
        "direction = outbound",
        "mark = 0x1234",
        "mark = 4660",
        "mark = 0x30/0xf0",
        "zone = 7",
        "zone in 1-9",
        "netns = init",
        "netns = 4026531840",
        "kind = end",
        "kind in {new, end}",
        "nat = snat",
        "status = assured",
        "status in {offloaded, replied}",
        "end_reason = closed",
    ] {
        assert!(holds(yes, &record()), "{yes}");
        assert!(!holds(&format!("not {yes}"), &record()), "not {yes}");
    }
    for no in [
        "src = 10.0.0.3",
        "host in 2001:db8::/32",
        "src in 'lab 1'",
        "nat_dst = 198.51.100.7",
        "dst_port = 40312",
        "proto = udp",
        "family = ipv6",
        "direction in {inbound, internal}",
        "mark = 0x1235",
        "zone != 7",
        "netns = \"4026531840\"",
        "netns = blue",
        "kind != end",
        "nat = none",
        "status in {offloaded, expected}",
        "flag in {offloaded, no_counters, weak_id, first_seen_midlife}",
        "end_reason in {timeout, evicted}",
    ] {
        assert!(!holds(no, &record()), "{no}");
    }
}

#[test]
fn a_name_stands_for_its_addresses_those_of_networks_inside_included() {
    let mut inside = record();
    inside.original.src[..4].copy_from_slice(&[10, 32, 7, 1]);
    assert!(holds("src in site", &inside) && holds("src in \"lab 1\"", &inside));
}

#[test]
fn what_a_record_lacks_is_equal_to_nothing() {
    let mut ping = record();
    ping.original.protocol = protocol::ICMP;
    assert!(!holds("port in 0-65535", &ping));
    assert!(holds("port != 443", &ping));
    let update = Record { kind: RecordKind::Update, end_reason: None, ..record() };
    assert!(!holds("end_reason = closed", &update));
    assert!(holds("end_reason != closed", &update));
    let plain = Record { nat: NatKind::None, ..record() };
    assert!(!holds("nat_src in 0.0.0.0/0", &plain));
}

#[test]
fn not_binds_closest_then_and_then_or() {
    let (yes, no) = ("zone = 7", "zone = 8");
    assert!(holds(&format!("{yes} or {no} and {no}"), &record()));
    assert!(!holds(&format!("({yes} or {no}) and {no}"), &record()));
    assert!(holds(&format!("not {no} and {yes}"), &record()));
    assert!(!holds(&format!("not ({no} or {yes})"), &record()));
    assert!(holds(&format!("!{no} && ({no} || {yes})"), &record()));
}

#[test]
fn a_record_is_wanted_if_any_include_holds_and_no_exclude() {
    assert!(set(&[], &[]).wants(&record()) && set(&[], &[]).wants_all());
    assert!(set(&["zone = 8", "zone = 7"], &["proto = udp"]).wants(&record()));
    assert!(!set(&["zone = 8"], &[]).wants(&record()));
    assert!(!set(&["zone = 7"], &["proto = udp", "port = 443"]).wants(&record()));
    assert!(!set(&[], &["zone = 7"]).wants(&record()) && !set(&[], &["zone = 7"]).wants_all());
}

#[test]
fn what_is_taken_out_is_added_up() {
    let other = Record { zone: 8, ..record() };
    let mut records = vec![record(), other, record()];
    let filtered = set(&["zone = 8"], &[]).retain(&mut records);
    assert_eq!(records, [other]);
    assert_eq!(filtered, Sum { flows: 2, packets: 2, bytes: 120 });
}

#[test]
fn a_fault_is_told_with_its_column() {
    for (text, column, message) in [
        ("", 1, "expected a field like \"src\", \"not\" or \"(\", found the end"),
        ("scr in 10.0.0.0/8", 1, "no field is called \"scr\"; did you mean \"src\"?"),
        ("src 10.0.0.0/8", 5, "expected \"=\", \"!=\", \"in\" or \"not in\", found \"10.0.0.0/8\""),
        ("src in 10.0.0.0/33", 8, "\"10.0.0.0/33\" is neither an address nor a prefix"),
        ("src in 10.0.0.1/8", 8, "\"10.0.0.1/8\" has bits set behind its length; is 10.0.0.0/8 meant?"),
        ("src in 10.0.0.256", 8, "\"10.0.0.256\" is neither an address"),
        ("port = 65536", 8, "\"65536\" is no port and no range"),
        ("port = 9-1", 8, "\"9-1\" ends before it begins"),
        ("proto = tpc", 9, "\"tpc\" is no protocol; did you mean \"tcp\"?"),
        (
            "direction = outbond",
            13,
            "\"outbond\" is not one of inbound, outbound, internal, external; did you",
        ),
        ("mark = 0x11/0xf", 8, "\"0x11/0xf\" has bits that its mask lacks"),
        ("zone = 1 zone = 2", 10, "expected \"and\", \"or\" or the end, found \"zone\""),
        ("(zone = 1", 10, "expected \"and\", \"or\" or \")\", found the end"),
        ("zone in {1, 2", 14, "expected \",\" or \"}\", found the end"),
        ("zone in {}", 10, "expected a value, found \"}\""),
        ("zone not 1", 10, "expected \"in\", found \"1\""),
        ("zone = 1 ; zone", 10, "';' means nothing here"),
        ("src in 'site", 8, "this quote is never closed"),
        ("src in and", 8, "expected a value, found \"and\""),
    ] {
        let error = Filter::parse(text).unwrap_err();
        assert_eq!(error.column, column, "{text}: {error}");
        assert!(error.message.starts_with(message), "{text}: {error}");
    }
}

#[test]
fn a_name_that_is_not_there_is_told_with_its_column() {
    let error = Filter::parse("zone = 1 or dst in sites").unwrap().check(&networks()).unwrap_err();
    let expected = "\"sites\" is neither an address nor a name in [networks]; did you mean \"site\"?";
    assert_eq!((error.column, error.message.as_str()), (20, expected));
}

#[test]
fn a_direction_without_internal_networks_is_refused() {
    let error = Filter::parse("direction = inbound").unwrap().check(&Networks::default()).unwrap_err();
    assert_eq!(error.column, 1);
    assert!(error.message.contains("internal = true"), "{error}");
}

#[test]
fn nesting_and_length_are_bounded() {
    let nested = |depth: usize| format!("{}zone = 1{}", "(".repeat(depth), ")".repeat(depth));
    assert!(Filter::parse(&nested(parse::MAX_DEPTH)).is_ok());
    assert!(Filter::parse(&nested(parse::MAX_DEPTH + 1)).is_err());
    assert!(Filter::parse(&"!".repeat(60_000)).is_err());
    assert!(Filter::parse(&"(".repeat(60_000)).is_err());
    assert!(Filter::parse(&" ".repeat(parse::MAX_LENGTH + 1)).is_err());
    assert!(Filter::parse(&vec!["zone = 1"; 5_000].join(" or ")).is_ok());
}

fn word<T: Word + std::fmt::Debug>() -> impl Strategy<Value = Vec<T>> {
    let all: Vec<T> = T::ALL.iter().map(|(_, value)| *value).collect();
    prop::collection::vec(prop::sample::select(all), 1..4)
}

fn one<T: Word + std::fmt::Debug>() -> impl Strategy<Value = T> {
    word().prop_map(|values| values[0])
}

fn name() -> impl Strategy<Value = String> {
    prop_oneof!["[a-z0-9_.:/ ()'-]{1,8}", "[^']{1,8}", Just("and".to_owned())]
}

fn address() -> impl Strategy<Value = AddressValue> {
    let prefix = (any::<std::net::IpAddr>(), any::<u8>()).prop_map(|(address, length)| {
        let most = if address.is_ipv4() { 32 } else { 128 };
        let prefix = ipnetwork::IpNetwork::new(address, length % (most + 1)).unwrap();
        AddressValue::Prefix(ipnetwork::IpNetwork::new(prefix.network(), prefix.prefix()).unwrap())
    });
    prop_oneof![prefix, name().prop_map(|name| AddressValue::Network(name, At(0)))]
}

fn range() -> impl Strategy<Value = Range> {
    any::<(u16, u16)>().prop_map(|(a, b)| Range { first: a.min(b), last: a.max(b) })
}

fn test() -> impl Strategy<Value = Test> {
    let some = 1..4;
    let mask = any::<(u32, u32)>().prop_map(|(value, mask)| Masked { value: value & mask, mask });
    let netns = prop_oneof![any::<u32>().prop_map(NetnsValue::Inode), name().prop_map(NetnsValue::Name)];
    prop_oneof![
        (one::<AddressField>(), prop::collection::vec(address(), some.clone()))
            .prop_map(|(field, values)| Test::Address(field, values)),
        (one::<PortField>(), prop::collection::vec(range(), some.clone()))
            .prop_map(|(field, values)| Test::Port(field, values)),
        prop::collection::vec(any::<u8>(), some.clone()).prop_map(Test::Protocol),
        prop::collection::vec(mask, some.clone()).prop_map(Test::Mark),
        prop::collection::vec(range(), some.clone()).prop_map(Test::Zone),
        prop::collection::vec(netns, some).prop_map(Test::Netns),
        word::<Family>().prop_map(Test::Family),
        word().prop_map(|values| Test::Direction(values, At(0))),
        word::<RecordKind>().prop_map(Test::Kind),
        word::<NatKind>().prop_map(Test::Nat),
        word::<StatusBit>().prop_map(Test::Status),
        word::<Flag>().prop_map(Test::Flag),
        word::<EndReason>().prop_map(Test::EndReason),
    ]
}

fn expr() -> impl Strategy<Value = Expr> {
    let term = (test(), any::<bool>()).prop_map(|(test, negated)| Expr::Term { test, negated });
    term.prop_recursive(5, 24, 3, |inner| {
        let several = prop::collection::vec(inner.clone(), 2..4);
        prop_oneof![
            several.clone().prop_map(Expr::All),
            several.prop_map(Expr::Any),
            inner.prop_map(|inner| Expr::Not(Box::new(inner))),
        ]
    })
}

/// What an expression says, by going through its tree.
fn meaning(expr: &Expr, record: &Record) -> bool {
    match expr {
        Expr::All(parts) => parts.iter().all(|part| meaning(part, record)),
        Expr::Any(parts) => parts.iter().any(|part| meaning(part, record)),
        Expr::Not(inner) => !meaning(inner, record),
        Expr::Term { .. } => alone(expr.clone()).is_none_or(|set| set.wants(record)),
    }
}

fn alone(expr: Expr) -> Option<FilterSet> {
    let lists = FilterLists { include: vec![Filter { expr, text: String::new() }], exclude: vec![] };
    FilterSet::new(&lists, networks(), netns_name()).ok()
}

proptest! {
    #[test]
    fn no_text_makes_the_parser_panic(text in "\\PC{0,60}") {
        if let Err(error) = Filter::parse(&text) {
            prop_assert!(error.to_string().contains('^'));
        }
    }

    #[test]
    fn no_row_of_tokens_makes_it_panic(tokens in prop::collection::vec(prop::sample::select(vec![
        "src", "port", "mark", "not", "and", "or", "in", "=", "!=", "!", "(", ")", "{", "}", ",", "10.0.0.0/8",
        "\"x", "'y'", "1-", "-", "0x", "0x1/", "::", "\n", "ä",
    ]), 0..24)) {
        let text = tokens.join(" ");
        if let Ok(filter) = Filter::parse(&text) {
            let _ = filter.check(&networks());
        }
    }

    #[test]
    fn the_printed_form_says_the_same(expr in expr()) {
        let printed = expr.to_string();
        let read = Filter::parse(&printed);
        prop_assert_eq!(read.as_ref().map(|filter| &filter.expr), Ok(&expr), "{}", printed);
    }

    #[test]
    fn the_program_says_what_the_tree_says(expr in expr(), record in any_record()) {
        if let Some(program) = alone(expr.clone()) {
            prop_assert_eq!(program.wants(&record), meaning(&expr, &record));
        }
    }
}

#[test]
fn status_bits_without_a_name_are_not_compared() {
    let dying = Record { status: Status(Status::DYING), ..record() };
    assert!(StatusBit::names().all(|name| !holds(&format!("status = {name}"), &dying)));
}
