//! Instructions of looking at a flow without a packet: of the sweep and of the walk, by the agent's own log.

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use serde::Serialize;

use crate::{
    guest::{Binaries, Guest},
    kernels::{Kernel, Series},
    matrix::Hook,
    paths::Paths,
};

const SCRIPT: &str = concat!(include_str!("lab.sh"), include_str!("scale.sh"));

/// The kernel whose figures have limits, with that many flows; the others' are printed, with fewer. How long a
/// single run may take is judged on each.
const JUDGED: &str = "6.12";
const FLOWS: i64 = 100_000;
const FEWER: i64 = 20_000;

/// Buckets of the kernel's table.
const BUCKETS: i64 = 131_072;

/// Instructions at most.
mod limit {
    pub(super) const SWEEP_CHANGED: i64 = 900;
    pub(super) const SWEEP_UNCHANGED: i64 = 450;
    pub(super) const WALK_FLOW: i64 = 1_300;
    pub(super) const WALK_BUCKET: i64 = 40;
    pub(super) const WALK_LOAD: i64 = 200_000_000;
    /// Of one run of either, as the kernel is not preempted meanwhile.
    pub(super) const LONGEST: i64 = 500_000;
}

/// One line of the result. Costs are instructions.
#[derive(Debug, PartialEq, Eq, Serialize)]
pub(super) struct Line {
    bench: &'static str,
    kernel: String,
    hook: String,
    flows: i64,
    buckets: i64,
    #[serde(flatten)]
    costs: Costs,
    /// Whether all limits hold on this kernel, not that of the longest run alone.
    judged: bool,
    pub(super) ok: bool,
}

#[derive(Debug, PartialEq, Eq, Serialize)]
struct Costs {
    /// A flow that is swept and has a record.
    sweep_changed: i64,
    /// A flow that is swept and of which nothing has changed.
    sweep_unchanged: i64,
    /// A flow in the first walk, which gives it its slot; buckets apart. Has no limit.
    walk_first: i64,
    /// A flow in a later walk; buckets apart.
    walk: i64,
    /// A bucket of an empty table.
    walk_bucket: i64,
    /// Loading the walk: verifying it, above all.
    walk_load: i64,
    /// The longest single run of sweep and walk.
    longest: i64,
}

/// Boots a kernel and measures with its cheapest hook.
pub(super) fn measure(paths: &Paths, binaries: &Binaries, series: &Series) -> Result<Line> {
    let kernel = Kernel::find(paths, series)?;
    let hook = Hook::of(series).first().context("a kernel without hooks")?.to_string();
    let judged = series.to_string() == JUDGED;
    let flows = if judged { FLOWS } else { FEWER };
    let guest = Guest {
        kernel: &kernel,
        cpus: 1,
        memory: 1024,
        icount: true,
        append: "",
        systemd: false,
        limit: Duration::from_secs(900),
        out: paths.target.join("bench").join(format!("scale-{series}")),
        files: binaries.all(),
    };
    let script = format!("FLOWS={flows}\nBUCKETS={BUCKETS}\nHOOK={hook}\n{SCRIPT}");
    let outcome = guest.run(paths, &script, |_| {})?;
    ensure!(outcome.code == 0, "the measuring script failed on {series}:\n{}", outcome.printed);
    let costs = costs(&outcome.printed, flows)
        .with_context(|| format!("the guest {series} printed:\n{}", outcome.printed))?;
    let ok = costs.keep_limits(judged);
    Ok(Line { bench: "scale", kernel: kernel.release, hook, flows, buckets: BUCKETS, costs, judged, ok })
}

impl Costs {
    const fn keep_limits(&self, judged: bool) -> bool {
        let is_cheap = self.sweep_changed <= limit::SWEEP_CHANGED
            && self.sweep_unchanged <= limit::SWEEP_UNCHANGED
            && self.walk <= limit::WALK_FLOW
            && self.walk_bucket <= limit::WALK_BUCKET
            && self.walk_load <= limit::WALK_LOAD;
        self.longest <= limit::LONGEST && (is_cheap || !judged)
    }
}

fn costs(printed: &str, flows: i64) -> Result<Costs> {
    let [empty, later] = ends(printed, "moving walked")?;
    let [first, _] = ends(printed, "resting walked")?;
    let [resting, _] = ends(printed, "resting looked")?;
    let [moving, _] = ends(printed, "moving looked")?;
    let [load, _] = ends(printed, "moving took a program program=\"walk\"")?;
    let bucket = empty.number("spent_ns")? as f64 / empty.number("buckets")? as f64;
    let walked = |walk: Logged<'_>| -> Result<i64> {
        let met = walk.number("flows")?;
        ensure!(met >= flows, "a walk met {met} of {flows} flows");
        let buckets = bucket * walk.number("buckets")? as f64;
        Ok(((walk.number("spent_ns")? as f64 - buckets) / met as f64).round() as i64)
    };
    let unchanged = sweep_unchanged(resting, flows)?;
    let longest = [empty, later, first, resting, moving].map(|line| line.number("longest_ns"));
    Ok(Costs {
        sweep_changed: sweep_changed(moving, unchanged, flows)?,
        sweep_unchanged: unchanged,
        walk_first: walked(first)?,
        walk: walked(later)?,
        walk_bucket: bucket.round() as i64,
        walk_load: load.number("took_ns")?,
        longest: longest.into_iter().collect::<Result<Vec<_>>>()?.into_iter().max().unwrap_or(i64::MAX),
    })
}

fn sweep_unchanged(resting: Logged<'_>, flows: i64) -> Result<i64> {
    let (looked_at, changed) = (resting.number("looked_at")?, resting.number("changed")?);
    ensure!(looked_at >= 2 * flows, "only {looked_at} flows were looked at while they rested");
    ensure!(changed <= looked_at / 1_000, "{changed} flows changed while they rested");
    Ok(resting.number("spent_ns")? / looked_at)
}

fn sweep_changed(moving: Logged<'_>, unchanged: i64, flows: i64) -> Result<i64> {
    let (looked_at, changed) = (moving.number("looked_at")?, moving.number("changed")?);
    ensure!(changed >= 2 * flows, "only {changed} flows changed while they moved");
    Ok((moving.number("spent_ns")? - unchanged * (looked_at - changed)) / changed)
}

/// A line of an agent's log: words and `key=value`.
#[derive(Clone, Copy)]
struct Logged<'a>(&'a str);

impl Logged<'_> {
    fn number(self, key: &str) -> Result<i64> {
        let value = self.0.split_whitespace().find_map(|word| word.strip_prefix(key)?.strip_prefix('='));
        let value = value.with_context(|| format!("no {key} in '{}'", self.0))?;
        value.parse().with_context(|| format!("{key} is no number in '{}'", self.0))
    }
}

/// The first and the last line of an agent that have the given words.
fn ends<'a>(printed: &'a str, words: &str) -> Result<[Logged<'a>; 2]> {
    let (agent, words) = words.split_once(' ').unwrap_or((words, ""));
    let is_meant = |line: &&str| line.strip_prefix(agent).is_some_and(|rest| rest.contains(words));
    let mut lines = printed.lines().filter(is_meant);
    let first = lines.next().with_context(|| format!("the agent '{agent}' logged no '{words}'"))?;
    Ok([Logged(first), Logged(lines.next_back().unwrap_or(first))])
}

#[cfg(test)]
mod tests {
    use super::*;

    const PRINTED: &str = "\
        moving DEBUG the kernel took a program program=\"walk\" took_ns=90000000\n\
        moving DEBUG walked through the kernel's table flows=0 buckets=1000 spent_ns=30000 longest_ns=30000\n\
        moving DEBUG walked through the kernel's table flows=100 buckets=1000 spent_ns=150000 longest_ns=40000\n\
        moving DEBUG looked at flows that were due looked_at=400 changed=300 spent_ns=290000 longest_ns=50000\n\
        resting DEBUG walked through the kernel's table flows=100 buckets=1000 spent_ns=155000 longest_ns=40000\n\
        resting DEBUG looked at flows that were due looked_at=300 changed=0 spent_ns=120000 longest_ns=50000\n";

    #[test]
    fn what_is_common_is_taken_off() {
        let costs = costs(PRINTED, 100).unwrap();
        assert_eq!((costs.sweep_unchanged, costs.sweep_changed), (400, 833));
        assert_eq!((costs.walk_bucket, costs.walk, costs.walk_first), (30, 1200, 1250));
        assert_eq!((costs.walk_load, costs.longest), (90_000_000, 50_000));
        assert!(costs.keep_limits(true) && costs.keep_limits(false));
    }

    #[test]
    fn each_cost_has_its_limit() {
        for (from, to) in [
            ("took_ns=90000000", "took_ns=200000001"),
            ("changed=300 spent_ns=290000", "changed=300 spent_ns=320000"),
            ("changed=0 spent_ns=120000", "changed=0 spent_ns=140000"),
            ("spent_ns=150000", "spent_ns=161000"),
            ("flows=0 buckets=1000 spent_ns=30000", "flows=0 buckets=1000 spent_ns=41000"),
            ("longest_ns=40000", "longest_ns=500001"),
        ] {
            let costs = costs(&PRINTED.replace(from, to), 100).unwrap();
            assert!(!costs.keep_limits(true), "{to}");
            assert_eq!(costs.keep_limits(false), costs.longest == 50_000, "{to}");
        }
    }

    #[test]
    fn too_few_flows_are_no_measurement() {
        for (from, to) in [
            ("flows=100", "flows=99"),
            ("looked_at=300 changed=0", "looked_at=199 changed=0"),
            ("looked_at=300 changed=0", "looked_at=300 changed=1"),
            ("changed=300", "changed=199"),
        ] {
            assert!(costs(&PRINTED.replace(from, to), 100).is_err(), "{to}");
        }
    }
}
