//! Judges by which way updates would come, and what every other way lacks.

use super::machine;
use crate::check::facts::{
    ConntrackState, Facts, HookPlan, Lockdown, PinnedFact, Possibility, Presence, TracingSupport,
};
use crate::check::verdict::Level::{Fail, Ok, Warn};
use crate::check::verdict::{Level, Line};

const WHAT: &str = "hooks";

/// Loads conntrack, as the agent does when it starts, and looks again.
const LOAD_AND_CHECK: &str = "modprobe nf_conntrack && conntally check";

/// What only the project can mend.
const REPORT: &str = "conntally check --json  # and report it with this output";

pub(super) fn hooks(facts: &Facts) -> Line {
    match &facts.tracing {
        TracingSupport::Works(plan) => works(facts, plan),
        TracingSupport::NotPermitted(why) => {
            permission(facts, without(facts, format!("tracing is not permitted ({why})")))
        }
        TracingSupport::Failed(why) => failed(facts, why),
        TracingSupport::Untried(why) => {
            until_loaded(facts, Line::new(Warn, WHAT, format!("not tried: {why}")))
                .notes(alternatives(facts, None))
        }
    }
}

/// What is to be done where conntrack has to be loaded before more can be said. Where it cannot be loaded, the line
/// about conntrack says what to do.
fn until_loaded(facts: &Facts, line: Line) -> Line {
    if facts.conntrack == ConntrackState::Missing {
        return line.advice("see conntrack");
    }
    line.mend([LOAD_AND_CHECK])
}

fn failed(facts: &Facts, why: &str) -> Line {
    match why_no_program(facts) {
        // The line about BTF knows the cause, and what mends it.
        Some(cause) => {
            let cause_line = machine::btf(facts);
            let line = without(facts, format!("kernel programs do not work here: {cause}"));
            Line { advice: cause_line.advice, mend: cause_line.mend, ..line }
        }
        None => without(facts, format!("kernel programs do not work here ({why})")).mend([REPORT]),
    }
}

pub(super) fn netlink(facts: &Facts) -> Line {
    let what = "netlink";
    match &facts.netlink {
        Possibility::Yes => Line::new(Ok, what, "conntrack answers"),
        Possibility::No(why) => {
            let level = if is_bpf_possible(facts) { Warn } else { Fail };
            let detail = format!("conntrack does not answer ({why}): flows that already run cannot be read");
            // Whoever may not ask does not learn whether anybody would answer.
            let line = Line::new(level, what, detail);
            if facts.lacks_net_admin() {
                machine::as_root(facts, line)
            } else {
                line.mend(["modprobe nf_conntrack_netlink"])
            }
        }
        Possibility::Untried(why) => until_loaded(facts, Line::new(Warn, what, format!("not tried: {why}"))),
    }
}

const fn is_bpf_possible(facts: &Facts) -> bool {
    matches!(facts.tracing, TracingSupport::Works(_) | TracingSupport::Untried(_))
}

fn works(facts: &Facts, plan: &HookPlan) -> Line {
    let mut notes: Vec<String> = plan.passed_over.iter().map(|why| format!("passed over: {why}")).collect();
    notes.extend(alternatives(facts, Some(plan.kind)));
    let hooks = if plan.packet.is_empty() {
        format!("{} on {} for flows, sweep for updates", plan.kind, list(&plan.life))
    } else {
        format!("{} on {} for packets, on {} for flows", plan.kind, list(&plan.packet), list(&plan.life))
    };
    match &plan.unproven {
        None => Line::new(Ok, WHAT, format!("{hooks}; test packets were seen exactly once")).notes(notes),
        Some(why) => {
            let detail = format!("{hooks}; that packets are seen exactly once could not be tried: {why}");
            let line = Line::new(Warn, WHAT, detail).notes(notes);
            if facts.missing_capabilities.is_empty() {
                // The private namespace of the test needs these to track its packets.
                line.mend(["modprobe -a nf_tables nft_ct && conntally check"])
            } else {
                machine::as_root(facts, line)
            }
        }
    }
}

/// No kernel programs: netlink has to do.
fn without(facts: &Facts, why: String) -> Line {
    let (level, then): (Level, _) = match facts.netlink {
        Possibility::Yes => (Warn, "the agent uses netlink instead"),
        Possibility::No(_) => (Fail, "netlink does not work either"),
        Possibility::Untried(_) => (Warn, "the agent would use netlink instead, which was not tried"),
    };
    Line::new(level, WHAT, format!("{why}; {then}")).notes(alternatives(facts, None))
}

/// What permits tracing.
fn permission(facts: &Facts, line: Line) -> Line {
    match facts.lockdown {
        Lockdown::Confidentiality => line.advice(machine::UNLOCK),
        _ if !facts.missing_capabilities.is_empty() => machine::as_root(facts, line),
        _ => line.advice(machine::PRIVILEGED),
    }
}

/// Every way that is not used: whether it could be, and what it lacks.
fn alternatives(facts: &Facts, used: Option<&str>) -> Vec<String> {
    let mut notes = Vec::new();
    // Where tracing is not permitted neither is possible: the line says so.
    let is_permitted = !matches!(facts.tracing, TracingSupport::NotPermitted(_));
    let is_unknown = facts.lacks_conntrack();
    if is_permitted && used != Some("fentry") {
        notes.push(match why_no_fentry(facts) {
            Some(why) => format!("fentry: not possible, {why}"),
            None if is_unknown => "fentry: not known before conntrack is loaded; the cheapest way".to_owned(),
            None => "fentry: by the looks of it possible; the cheapest way".to_owned(),
        });
    }
    if is_permitted && used != Some("kprobe") {
        notes.push(match why_no_program(facts) {
            Some(why) => format!("kprobe: not possible, {why}"),
            None if is_unknown => {
                "kprobe: not known before conntrack is loaded; more than twice the cost per packet".to_owned()
            }
            None => "kprobe: as exact, but more than twice the cost per packet".to_owned(),
        });
    }
    notes.push(match &facts.netlink {
        Possibility::Yes => {
            "netlink: updates only as often as the whole table is dumped; ends that the socket has \
                           no room for are found by a dump, without their last totals"
                .to_owned()
        }
        Possibility::No(why) => format!("netlink: not possible, {why}"),
        Possibility::Untried(why) => format!("netlink: not tried, {why}"),
    });
    notes.extend(missing_functions(facts));
    notes
}

fn missing_functions(facts: &Facts) -> impl Iterator<Item = String> {
    let split = facts.functions.iter().filter(|function| !function.variants.is_empty());
    split.map(|function| {
        let parts = function.variants.join(", ");
        format!("{} was split by the compiler ({parts}): a hook on it does not see every call", function.name)
    })
}

fn why_no_program(facts: &Facts) -> Option<String> {
    match (&facts.btf_vmlinux, &facts.layout) {
        (Presence::Absent, _) => Some("the kernel image has no BTF".to_owned()),
        (Presence::Broken(why), _) => Some(why.clone()),
        (_, Possibility::No(why)) => Some(why.clone()),
        _ => None,
    }
}

fn why_no_fentry(facts: &Facts) -> Option<String> {
    let switched_off = |switch: Option<bool>, sysctl: &str| {
        (switch == Some(false)).then(|| format!("{sysctl} is 0, mended by: sysctl -w {sysctl}=1"))
    };
    let no_types = || {
        // A module that is not loaded has no BTF to be seen.
        let is_module = !matches!(facts.conntrack, ConntrackState::BuiltIn) && !facts.lacks_conntrack();
        (is_module && facts.btf_module != Presence::Present)
            .then(|| "there is no BTF of nf_conntrack".to_owned())
    };
    why_no_program(facts)
        .or_else(|| switched_off(facts.jit, "net.core.bpf_jit_enable"))
        .or_else(|| switched_off(facts.ftrace, "kernel.ftrace_enabled"))
        .or_else(no_types)
}

fn list(functions: &[String]) -> String {
    functions.join(" and ")
}

/// Programs that outlive their agents. There is no line when there are none.
pub(super) fn pinned(facts: &Facts) -> Option<Line> {
    let what = "left programs";
    let unused: Vec<_> = facts.pinned.iter().filter(|pinned| !pinned.in_use).collect();
    if unused.is_empty() {
        let is_any = !facts.pinned.is_empty();
        return is_any.then(|| Line::new(Ok, what, "those that outlive an agent are in use"));
    }
    let of =
        |pinned: &&PinnedFact| pinned.state_dir.clone().unwrap_or_else(|| "no known directory".to_owned());
    let dirs: Vec<_> = unused.iter().map(of).collect();
    let detail = format!(
        "programs of {} look at packets, and no agent runs that reads what they tell; an agent with that state \
         directory takes them over",
        dirs.join(", ")
    );
    Some(Line::new(Warn, what, detail).mend(["conntally detach"]))
}
