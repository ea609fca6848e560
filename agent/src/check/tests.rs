//! Verdicts on machines as they are met, and what a person reads of them.

use super::facts::*;
use super::gather::{Probes, gather};
use super::verdict::{Level, Line, Outcome, Settings, Verdict};
use super::{render, verdict};

const DEFAULTS: Settings = Settings { manage_sysctls: true, enable_tracking: false };
const UNMANAGED: Settings = Settings { manage_sysctls: false, enable_tracking: false };

/// A router with a current kernel on which nothing is wrong.
fn healthy() -> Facts {
    Facts {
        release: "6.12.117".to_owned(),
        machine: "x86_64".to_owned(),
        btf_vmlinux: Presence::Present,
        btf_module: Presence::Present,
        layout: Possibility::Yes,
        lockdown: Lockdown::None,
        jit: Some(true),
        ftrace: Some(true),
        is_root: false,
        missing_capabilities: Vec::new(),
        conntrack: ConntrackState::Loaded,
        functions: vec![FunctionFact { name: "nf_ct_delete", present: true, variants: Vec::new() }],
        tracing: TracingSupport::Works(plan("fentry")),
        netlink: Possibility::Yes,
        new_namespaces: NewNamespaces { acct: Some(true), timestamp: Some(true) },
        namespaces: vec![namespace(1, "init", "")],
        pinned: Vec::new(),
    }
}

fn plan(kind: &'static str) -> HookPlan {
    HookPlan {
        kind,
        packet: vec!["nf_ct_acct_add".to_owned()],
        life: vec!["nf_ct_destroy".to_owned(), "__nf_conntrack_confirm".to_owned()],
        passed_over: Vec::new(),
        unproven: None,
    }
}

fn namespace(inode: u32, name: &str, enter: &str) -> NamespaceFact {
    NamespaceFact {
        inode,
        name: Some(name.to_owned()),
        enter: Some(enter.to_owned()),
        error: None,
        acct: Some(true),
        timestamp: Some(true),
        max: Some(262_144),
        count: Some(12),
        tracking: Tracking::Active,
        flowtables: Some(Vec::new()),
        unlisted: None,
    }
}

fn line(facts: &Facts, settings: Settings, what: &str) -> Line {
    Verdict::of(facts, settings).lines.into_iter().find(|line| line.what == what).unwrap()
}

fn with(change: impl FnOnce(&mut Facts)) -> Facts {
    let mut facts = healthy();
    change(&mut facts);
    facts
}

#[test]
fn a_healthy_machine_has_nothing_to_mend() {
    let verdict = Verdict::of(&healthy(), DEFAULTS);
    assert_eq!(verdict.outcome, Outcome::Works);
    assert_eq!(verdict.outcome.exit_code(), 0);
    assert!(verdict.lines.iter().all(|line| line.level == Level::Ok && line.mend.is_empty()), "{verdict:?}");
}

type Change = fn(&mut Facts);

/// What is wrong, the topic that says so, how bad it is with the defaults and unmanaged, and what mends it.
const CASES: &[(&str, Change, &str, Level, Level, &str)] = &[
    (
        "no privileges",
        |facts| facts.missing_capabilities = vec!["CAP_NET_ADMIN", "CAP_SYS_ADMIN"],
        "privileges",
        Level::Fail,
        Level::Fail,
        "sudo conntally check",
    ),
    (
        "root without what a container was not given",
        |facts| {
            facts.is_root = true;
            facts.missing_capabilities = vec!["CAP_NET_ADMIN"];
        },
        "privileges",
        Level::Fail,
        Level::Fail,
        "--privileged",
    ),
    (
        "no CAP_SYS_PTRACE",
        |facts| facts.missing_capabilities = vec!["CAP_SYS_PTRACE"],
        "privileges",
        Level::Warn,
        Level::Warn,
        "sudo conntally check",
    ),
    (
        "lockdown",
        |facts| facts.lockdown = Lockdown::Confidentiality,
        "lockdown",
        Level::Warn,
        Level::Warn,
        "lockdown=integrity",
    ),
    (
        "no BTF",
        |facts| facts.btf_vmlinux = Presence::Absent,
        "BTF",
        Level::Warn,
        Level::Warn,
        "CONFIG_DEBUG_INFO_BTF=y",
    ),
    (
        "unknown layout",
        |facts| facts.layout = Possibility::No("the kernel has no nf_conn.ext".to_owned()),
        "BTF",
        Level::Warn,
        Level::Warn,
        "update conntally",
    ),
    (
        "conntrack not loaded",
        |facts| facts.conntrack = ConntrackState::Loadable,
        "conntrack",
        Level::Warn,
        Level::Warn,
        "modprobe nf_conntrack",
    ),
    (
        "conntrack missing",
        |facts| facts.conntrack = ConntrackState::Missing,
        "conntrack",
        Level::Fail,
        Level::Fail,
        "apt install linux-image-6.12.117",
    ),
    (
        "tracing refused",
        |facts| facts.tracing = TracingSupport::NotPermitted("EPERM".to_owned()),
        "hooks",
        Level::Warn,
        Level::Warn,
        "--privileged",
    ),
    (
        "programs fail",
        |facts| facts.tracing = TracingSupport::Failed("the verifier said no".to_owned()),
        "hooks",
        Level::Warn,
        Level::Warn,
        "conntally check --json",
    ),
    (
        "programs were not tried",
        |facts| facts.tracing = TracingSupport::Untried("conntrack is not loaded".to_owned()),
        "hooks",
        Level::Warn,
        Level::Warn,
        "modprobe nf_conntrack",
    ),
    (
        "hooks are not proven",
        |facts| {
            let unproven = Some("no namespace could be made".to_owned());
            facts.tracing = TracingSupport::Works(HookPlan { unproven, ..plan("fentry") });
        },
        "hooks",
        Level::Warn,
        Level::Warn,
        "modprobe -a nf_tables nft_ct",
    ),
    (
        "netlink does not answer",
        |facts| facts.netlink = Possibility::No("EPROTONOSUPPORT".to_owned()),
        "netlink",
        Level::Warn,
        Level::Warn,
        "modprobe nf_conntrack_netlink",
    ),
    (
        "netlink may not be asked",
        |facts| {
            facts.netlink = Possibility::No("EPERM".to_owned());
            facts.missing_capabilities = vec!["CAP_NET_ADMIN"];
        },
        "netlink",
        Level::Warn,
        Level::Warn,
        "sudo conntally check",
    ),
    (
        "netlink was not asked",
        |facts| facts.netlink = Possibility::Untried("conntrack is not loaded".to_owned()),
        "netlink",
        Level::Warn,
        Level::Warn,
        "modprobe nf_conntrack",
    ),
    (
        "programs fail for want of BTF",
        |facts| {
            facts.btf_vmlinux = Presence::Absent;
            facts.tracing = TracingSupport::Failed("no BTF".to_owned());
        },
        "hooks",
        Level::Warn,
        Level::Warn,
        "CONFIG_DEBUG_INFO_BTF=y",
    ),
    (
        "counters off",
        |facts| facts.namespaces[0].acct = Some(false),
        "accounting",
        Level::Warn,
        Level::Fail,
        "sysctl -w net.netfilter.nf_conntrack_acct=1",
    ),
    (
        "new namespaces without counters",
        |facts| facts.new_namespaces.acct = Some(false),
        "new namespaces",
        Level::Ok,
        Level::Warn,
        "echo 1 > /sys/module/nf_conntrack/parameters/acct",
    ),
    (
        "no timestamps",
        |facts| facts.namespaces[0].timestamp = Some(false),
        "timestamps",
        Level::Ok,
        Level::Warn,
        "sysctl -w net.netfilter.nf_conntrack_timestamp=1",
    ),
    (
        "table nearly full",
        |facts| facts.namespaces[0].count = Some(240_000),
        "limits",
        Level::Warn,
        Level::Warn,
        "sysctl -w net.netfilter.nf_conntrack_max=524288",
    ),
    (
        "nothing tracks",
        |facts| facts.namespaces[0].tracking = Tracking::Idle,
        "tracking",
        Level::Warn,
        Level::Warn,
        "conntally run --track",
    ),
    (
        "flowtable without counter",
        |facts| facts.namespaces[0].flowtables = Some(vec![blind_flowtable()]),
        "flowtables",
        Level::Warn,
        Level::Warn,
        "nft list flowtable inet filter fast",
    ),
];

fn blind_flowtable() -> Flowtable {
    let [family, table, name] = ["inet", "filter", "fast"].map(str::to_owned);
    Flowtable { family, table, name, counter: false }
}

#[test]
fn everything_that_can_be_wrong_is_told_by_its_topic_with_what_mends_it() {
    for (case, change, topic, managed, unmanaged, mend) in CASES {
        let facts = with(change);
        for (settings, level) in [(DEFAULTS, managed), (UNMANAGED, unmanaged)] {
            let line = line(&facts, settings, topic);
            assert_eq!(line.level, *level, "{case}: {line:?}");
            let told = line.mend.iter().chain(&line.advice).any(|it| it.contains(mend));
            assert!(*level == Level::Ok || told, "{case}: {line:?}");
        }
    }
}

#[test]
fn every_warning_and_failure_names_what_mends_it() {
    for (case, change, ..) in CASES {
        for settings in [DEFAULTS, UNMANAGED] {
            let verdict = Verdict::of(&with(change), settings);
            let is_silent = |line: &&Line| line.mend.is_empty() && line.advice.is_none();
            let silent = verdict.lines.iter().filter(|line| line.level != Level::Ok).find(is_silent);
            assert_eq!(silent, None, "{case}");
        }
    }
}

#[test]
fn what_no_command_does_is_told_as_text() {
    for (case, change, ..) in CASES {
        let verdict = Verdict::of(&with(change), DEFAULTS);
        let comments: Vec<_> =
            verdict.lines.iter().flat_map(|line| &line.mend).filter(|it| it.starts_with('#')).collect();
        assert!(comments.is_empty(), "{case}: {comments:?}");
    }
}

/// A machine on which nobody has used conntrack since it was started.
fn without_conntrack() -> Facts {
    let untried = "conntrack is not loaded".to_owned();
    with(|facts| {
        facts.conntrack = ConntrackState::Loadable;
        facts.btf_module = Presence::Absent;
        facts.tracing = TracingSupport::Untried(untried.clone());
        facts.netlink = Possibility::Untried(untried);
        facts.new_namespaces = NewNamespaces::default();
        let off =
            NamespaceFact { acct: None, timestamp: None, max: None, count: None, ..namespace(1, "init", "") };
        facts.namespaces = vec![NamespaceFact { tracking: Tracking::Idle, ..off }];
    })
}

#[test]
fn nothing_is_claimed_of_a_conntrack_that_is_not_loaded() {
    let facts = without_conntrack();
    for settings in [DEFAULTS, UNMANAGED] {
        let verdict = Verdict::of(&facts, settings);
        assert_eq!(verdict.outcome, Outcome::Degraded, "it can be loaded");
        for topic in ["accounting", "timestamps", "new namespaces", "limits"] {
            let line = line(&facts, settings, topic);
            assert!(line.detail.starts_with("not known before conntrack is loaded"), "{line:?}");
        }
    }
    let hooks = line(&facts, DEFAULTS, "hooks");
    assert!(hooks.notes.iter().any(|note| note.starts_with("fentry: not known before")), "{hooks:?}");
    assert!(!hooks.notes.iter().any(|note| note.contains("not possible")), "{hooks:?}");
    let netlink = line(&facts, DEFAULTS, "netlink");
    assert_eq!((netlink.level, netlink.detail.as_str()), (Level::Warn, "not tried: conntrack is not loaded"));
}

#[test]
fn what_keeps_fentry_away_with_any_conntrack_is_told_before_it_is_loaded() {
    let mut facts = without_conntrack();
    facts.jit = Some(false);
    let notes = line(&facts, DEFAULTS, "hooks").notes.join("\n");
    assert!(notes.contains("fentry: not possible, net.core.bpf_jit_enable is 0"), "{notes}");
}

#[test]
fn why_flowtables_are_not_listed_is_told_as_it_is() {
    let unlisted = |why: Unlisted| {
        with(|facts| {
            facts.namespaces[0].flowtables = None;
            facts.namespaces[0].unlisted = Some(why);
        })
    };
    let refused = || Unlisted::Refused("Operation not permitted (you must be root)".to_owned());
    let unprivileged = Facts { missing_capabilities: vec!["CAP_NET_ADMIN"], ..unlisted(refused()) };
    for (facts, note) in [
        (unlisted(Unlisted::NoNft), "install nftables"),
        (unlisted(refused()), "nft says: Operation not permitted"),
        (unprivileged, "sudo conntally check"),
    ] {
        let line = line(&facts, DEFAULTS, "flowtables");
        assert!(line.notes.len() == 1 && line.notes[0].contains(note), "{line:?}");
    }
}

#[test]
fn without_programs_and_without_netlink_nothing_can_be_accounted() {
    let facts = with(|facts| {
        facts.tracing = TracingSupport::NotPermitted("EPERM".to_owned());
        facts.netlink = Possibility::No("EPERM".to_owned());
    });
    let verdict = Verdict::of(&facts, DEFAULTS);
    assert_eq!(verdict.outcome, Outcome::CannotAccount);
    assert_eq!(verdict.outcome.exit_code(), 1);
    assert_eq!(line(&facts, DEFAULTS, "hooks").level, Level::Fail);
}

#[test]
fn warnings_alone_have_an_exit_code_of_their_own() {
    let verdict = Verdict::of(&with(|facts| facts.lockdown = Lockdown::Confidentiality), DEFAULTS);
    assert_eq!(verdict.outcome, Outcome::Degraded);
    assert_eq!(verdict.outcome.exit_code(), 3);
}

#[test]
fn counters_that_are_off_where_no_flow_runs_harm_nobody() {
    let facts = with(|facts| {
        facts.namespaces[0].acct = Some(false);
        facts.namespaces[0].count = Some(0);
    });
    assert_eq!(line(&facts, DEFAULTS, "accounting").level, Level::Ok);
    assert_eq!(line(&facts, UNMANAGED, "accounting").level, Level::Fail);
}

#[test]
fn commands_for_another_namespace_go_into_it() {
    let facts = with(|facts| {
        facts
            .namespaces
            .push(NamespaceFact { acct: Some(false), ..namespace(2, "blue", "ip netns exec blue") });
    });
    let line = line(&facts, DEFAULTS, "accounting");
    assert_eq!(line.mend, ["ip netns exec blue sysctl -w net.netfilter.nf_conntrack_acct=1"]);
    assert!(line.detail.starts_with("off in 1 of 2 namespaces: blue"), "{}", line.detail);
}

#[test]
fn a_hundred_namespaces_do_not_make_a_hundred_commands() {
    let facts = with(|facts| {
        facts.namespaces =
            (1..=100).map(|i| NamespaceFact { acct: Some(false), ..namespace(i, "pod", "x") }).collect();
    });
    let line = line(&facts, DEFAULTS, "accounting");
    assert_eq!(line.mend.len(), 6);
    assert!(line.detail.contains("pod and 95 more"), "{}", line.detail);
}

#[test]
fn an_old_kernel_with_kprobes_works_and_says_what_the_others_lack() {
    let facts = with(|facts| {
        facts.btf_module = Presence::Absent;
        facts.tracing = TracingSupport::Works(plan("kprobe"));
        facts.functions[0].variants = vec!["nf_ct_delete.part.0".to_owned()];
    });
    let verdict = Verdict::of(&facts, DEFAULTS);
    assert_eq!(verdict.outcome, Outcome::Works);
    let notes = line(&facts, DEFAULTS, "hooks").notes.join("\n");
    assert!(notes.contains("fentry: not possible, there is no BTF of nf_conntrack"), "{notes}");
    assert!(notes.contains("nf_ct_delete.part.0"), "{notes}");
}

#[test]
fn a_switch_that_is_off_is_named_as_the_reason() {
    let facts = with(|facts| {
        facts.jit = Some(false);
        facts.tracing = TracingSupport::Works(plan("kprobe"));
    });
    let notes = line(&facts, DEFAULTS, "hooks").notes.join("\n");
    assert!(notes.contains("sysctl -w net.core.bpf_jit_enable=1"), "{notes}");
}

#[test]
fn text_is_what_a_stranger_reads() {
    let facts = with(|facts| {
        facts.tracing = TracingSupport::NotPermitted("operation not permitted".to_owned());
        facts.lockdown = Lockdown::Confidentiality;
        facts
            .namespaces
            .push(NamespaceFact { acct: Some(false), ..namespace(2, "blue", "ip netns exec blue") });
    });
    insta::assert_snapshot!(render::text(&Verdict::of(&facts, DEFAULTS)), @r"
    conntally can account here, with limits: 3 warnings.

    ok    privileges      all that the agent uses
    ok    kernel          6.12.117 x86_64
    WARN  lockdown        confidentiality: the kernel refuses tracing programs, only netlink is left
                          mend: boot with lockdown=integrity, or with Secure Boot off
    ok    BTF             of the kernel image and of nf_conntrack
    ok    conntrack       loaded
    WARN  hooks           tracing is not permitted (operation not permitted); the agent uses netlink
                          instead
                          - netlink: updates only as often as the whole table is dumped; ends that the
                            socket has no room for are found by a dump, without their last totals
                          mend: boot with lockdown=integrity, or with Secure Boot off
    ok    netlink         conntrack answers
    ok    tracking        connections are tracked in 2 of 2 namespaces: init, blue
    WARN  accounting      off in 1 of 2 namespaces: blue; the agent turns it on while it runs, but flows
                          that already run stay without counters
                          mend: ip netns exec blue sysctl -w net.netfilter.nf_conntrack_acct=1
    ok    timestamps      the kernel keeps the start of every flow
    ok    new namespaces  nothing makes them start without counters
    ok    limits          24 in the tables now, room for 262144 in each namespace
    ok    flowtables      none
    ");
}

#[test]
fn json_is_one_line_with_verdict_and_facts() {
    let facts = with(|facts| facts.namespaces[0].acct = Some(false));
    let text = render::json(&facts, &Verdict::of(&facts, UNMANAGED)).unwrap();
    assert_eq!(text.lines().count(), 1);
    let value: serde_json::Value = serde_json::from_str(&text).unwrap();
    assert_eq!(value["outcome"], "cannot_account");
    assert_eq!(value["exit_code"], 1);
    assert_eq!(value["facts"]["namespaces"][0]["acct"], false);
    let accounting =
        value["lines"].as_array().unwrap().iter().find(|line| line["what"] == "accounting").unwrap();
    assert_eq!(accounting["level"], "fail");
    assert_eq!(accounting["mend"][0], "sysctl -w net.netfilter.nf_conntrack_acct=1");
}

#[test]
fn json_says_what_is_possible_in_plain_words() {
    let facts = with(|facts| {
        facts.netlink = Possibility::No("EPERM".to_owned());
        facts.layout = Possibility::Untried("no types".to_owned());
    });
    let value: serde_json::Value =
        serde_json::from_str(&render::json(&facts, &Verdict::of(&facts, DEFAULTS)).unwrap()).unwrap();
    assert_eq!(value["facts"]["netlink"], serde_json::json!({ "possible": false, "reason": "EPERM" }));
    assert_eq!(value["facts"]["layout"], serde_json::json!({ "possible": null, "reason": "no types" }));
    let healthy = serde_json::to_value(healthy()).unwrap();
    assert_eq!(healthy["netlink"], serde_json::json!({ "possible": true }));
    assert_eq!(healthy["tracing"]["works"]["unproven"], serde_json::Value::Null);
}

#[test]
fn this_machine_can_be_looked_at_with_any_privileges() {
    let probes = Probes {
        tracing: &|| TracingSupport::Untried("a test".to_owned()),
        netlink: &|| Err("a test".to_owned()),
    };
    let facts = gather(&probes);
    assert!(!facts.release.is_empty());
    assert!(!facts.namespaces.is_empty(), "at least the own namespace is there");
    let verdict = Verdict::of(&facts, verdict::Settings { manage_sysctls: true, enable_tracking: false });
    println!("{}", render::text(&verdict));
    assert_eq!(verdict.count(Level::Ok) + verdict.count(Level::Warn) + verdict.count(Level::Fail), 13);
}

#[test]
fn programs_that_nobody_reads_are_told_of() {
    let pinned = |in_use| PinnedFact { state_dir: Some("/var/lib/conntally".to_owned()), in_use };
    let used = Facts { pinned: vec![pinned(true)], ..healthy() };
    assert_eq!(line(&used, DEFAULTS, "left programs").level, Level::Ok);
    let left = Facts { pinned: vec![pinned(true), pinned(false)], ..healthy() };
    let line = line(&left, DEFAULTS, "left programs");
    assert_eq!((line.level, line.mend), (Level::Warn, vec!["conntally detach".to_owned()]));
    assert!(line.detail.contains("/var/lib/conntally"), "{}", line.detail);
    assert!(Verdict::of(&healthy(), DEFAULTS).lines.iter().all(|line| line.what != "left programs"));
}
