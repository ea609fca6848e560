//! Instructions that the hooks add to a packet, counted in guests whose clock counts instructions.

use std::{collections::BTreeMap, time::Duration};

use anyhow::{Context as _, Result, bail, ensure};
use clap::{Args, ValueEnum};
use serde::Serialize;

use super::scale;
use crate::{
    guest::{Binaries, Guest, Profile},
    kernels::{Kernel, Series},
    matrix::{self, Hook},
    paths::Paths,
};

const SCRIPT: &str = concat!(include_str!("lab.sh"), include_str!("guest.sh"));

/// Packets timed in each of the three runs.
const PACKETS: u32 = 20_000;

/// What no packet hook may seem to add or save, as measured.
const NOISE: i64 = 5;

/// Flows that an agent sees timed, one in each run.
const FLOWS: i64 = 3;

/// What to measure.
#[derive(Args)]
pub(crate) struct Options {
    /// Kernel series
    #[arg(long, value_delimiter = ',', default_values_t = matrix::supported())]
    kernels: Vec<Series>,
    /// Measure what tests use, which is built faster
    #[arg(long)]
    quick: bool,
    /// Measure only this
    #[arg(long, value_enum)]
    only: Option<Part>,
}

/// What is measured in guests of their own.
#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Part {
    /// What is added to packets
    Packets,
    /// What looking at flows costs
    Scale,
}

impl Options {
    fn wants(&self, part: Part) -> bool {
        self.only.is_none_or(|only| only == part)
    }
}

/// One line of the result. Costs are instructions per packet, medians of three.
#[derive(Debug, PartialEq, Eq, Serialize)]
struct Line {
    bench: &'static str,
    kernel: String,
    hook: String,
    /// The whole packet with accounting on and no agent.
    base: i64,
    /// Of that, what the kernel's own accounting takes.
    acct: i64,
    /// What the agent adds.
    added: i64,
    /// The same from means, timer interrupts and the agent's own work included.
    added_mean: i64,
    limit: i64,
    /// What it adds when no packet is hooked (`source.updates = "sweep"`): nothing, but for noise.
    added_sweep: i64,
    /// Packets of the proof.
    packets: i64,
    /// How often the hook ran in as many packets, sent right after the timed ones of the same flow.
    runs: i64,
    /// Updates that the agent wrote about the timed flows.
    updates: i64,
    /// Entries of the agent's maps, bytes of its rings; `SLOTS` is the table that the hook looks flows up in.
    maps: BTreeMap<String, i64>,
    ok: bool,
}

/// Boots each kernel and prints a JSON line for each of its hooks.
pub(crate) fn run(paths: &Paths, options: &Options) -> Result<()> {
    let profile = if options.quick { Profile::Quick } else { Profile::Release };
    let binaries = Binaries::build(paths, profile)?;
    let mut all_ok = true;
    for series in &options.kernels {
        if options.wants(Part::Packets) {
            for line in measure(paths, &binaries, series)? {
                println!("{}", serde_json::to_string(&line)?);
                all_ok &= line.ok;
            }
        }
        if options.wants(Part::Scale) {
            let line = scale::measure(paths, &binaries, series)?;
            println!("{}", serde_json::to_string(&line)?);
            all_ok &= line.ok;
        }
    }
    ensure!(all_ok, "a figure is above its limit, or its proof failed");
    Ok(())
}

fn measure(paths: &Paths, binaries: &Binaries, series: &Series) -> Result<Vec<Line>> {
    let kernel = Kernel::find(paths, series)?;
    if let Some(substitute) = kernel.substitute() {
        println!("{substitute}");
    }
    let guest = Guest {
        kernel: &kernel,
        cpus: 1,
        memory: 1024,
        icount: true,
        append: "",
        systemd: false,
        limit: Duration::from_secs(900),
        out: paths.target.join("bench").join(series.to_string()),
        files: binaries.all(),
    };
    let hooks = Hook::of(series);
    let names: Vec<_> = hooks.iter().map(Hook::to_string).collect();
    let script = format!("HOOKS='{}'\nPACKETS={PACKETS}\n{SCRIPT}", names.join(" "));
    let outcome = guest.run(paths, &script, |_| {})?;
    ensure!(outcome.code == 0, "the measuring script failed on {series}:\n{}", outcome.printed);
    let lines = hooks.iter().map(|&hook| line(&outcome.printed, &kernel.release, series, hook));
    lines.collect::<Result<_>>().with_context(|| format!("the guest {series} printed:\n{}", outcome.printed))
}

/// The promises: a trampoline costs less than a breakpoint, which costs more on 5.10 than on later kernels.
fn limit(series: &Series, hook: Hook) -> i64 {
    match hook {
        Hook::Fentry => 190,
        Hook::Kprobe if series.has_module_btf() => 420,
        Hook::Kprobe => 500,
    }
}

fn line(printed: &str, release: &str, series: &Series, hook: Hook) -> Result<Line> {
    let (base, base_mean) = medians(printed, "base")?;
    let (none, _) = medians(printed, "none")?;
    let (with, with_mean) = medians(printed, &hook.to_string())?;
    let (sweep, _) = medians(printed, &format!("sweep-{hook}"))?;
    let [packets, runs, updates, starts] = proof(printed, hook)?;
    let maps = maps(printed, hook);
    let (added, limit) = (with - base, limit(series, hook));
    let proven = packets >= 10_000 && runs == packets && updates == 0 && starts == FLOWS;
    Ok(Line {
        bench: "kernel",
        kernel: release.to_owned(),
        hook: hook.to_string(),
        base,
        acct: base - none,
        added,
        added_mean: with_mean - base_mean,
        limit,
        added_sweep: sweep - base,
        packets,
        runs,
        updates,
        ok: added <= limit && (sweep - base).abs() <= NOISE && proven && maps.contains_key("SLOTS"),
        maps,
    })
}

/// Of the three runs of a configuration: the median of the medians and that of the means.
fn medians(printed: &str, configuration: &str) -> Result<(i64, i64)> {
    let runs: Vec<Vec<i64>> = printed.lines().filter_map(|line| numbers_after(line, configuration)).collect();
    let middle = |column: usize| {
        let mut values: Vec<i64> = runs.iter().filter_map(|run| run.get(column).copied()).collect();
        values.sort_unstable();
        values.get(values.len() / 2).copied()
    };
    ensure!(runs.len() == 3, "{} runs of {configuration} instead of 3", runs.len());
    match (middle(0), middle(1)) {
        (Some(median), Some(mean)) => Ok((median, mean)),
        _ => bail!("a run of {configuration} without figures"),
    }
}

fn proof(printed: &str, hook: Hook) -> Result<[i64; 4]> {
    let found = printed.lines().find_map(|line| numbers_after(line, &format!("proof {hook}")));
    let numbers = found.with_context(|| format!("no proof for {hook}"))?;
    numbers.try_into().ok().with_context(|| format!("half a proof for {hook}"))
}

/// What the guest said of the agent's maps.
fn maps(printed: &str, hook: Hook) -> BTreeMap<String, i64> {
    let words = format!("map {hook} ");
    let pairs = printed.lines().filter_map(|line| line.strip_prefix(&words)?.split_once(' '));
    pairs.filter_map(|(name, entries)| Some((name.to_owned(), entries.parse().ok()?))).collect()
}

/// The numbers of a line that begins with these words.
fn numbers_after(line: &str, words: &str) -> Option<Vec<i64>> {
    let rest = line.strip_prefix(words)?.strip_prefix(' ')?;
    rest.split_whitespace().map(|word| word.parse().ok()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const PRINTED: &str = "none 6900 6950\nnone 6901 6951\nnone 6899 6949\nbase 7000 7050\nbase 7002 7052\n\
        base 7001 7051\nfentry 7170 7300\nfentry 7160 7290\nfentry 7165 7280\n\
        sweep-fentry 7001 7052\nsweep-fentry 7003 7051\nsweep-fentry 7002 7050\nproof fentry 21000 21000 0 3\n\
        map fentry SLOTS 65536\nmap fentry ENDS 16777216\n";

    fn of(printed: &str) -> Result<Line> {
        line(printed, "6.12.1", &"6.12".parse().unwrap(), Hook::Fentry)
    }

    #[test]
    fn the_added_cost_is_the_difference_of_medians() {
        let line = of(PRINTED).unwrap();
        assert_eq!((line.base, line.acct, line.added, line.added_mean), (7001, 101, 164, 239));
        assert_eq!(line.added_sweep, 1);
        assert_eq!(line.maps.get("SLOTS"), Some(&65536));
        assert!(line.ok);
    }

    #[test]
    fn too_dear_or_unproven_is_not_ok() {
        assert!(!of(&PRINTED.replace("fentry 716", "fentry 726")).unwrap().ok);
        assert!(!of(&PRINTED.replace("21000 21000 0", "21000 20999 0")).unwrap().ok);
        assert!(!of(&PRINTED.replace("21000 0 3", "21000 1 3")).unwrap().ok);
        assert!(!of(&PRINTED.replace("sweep-fentry 700", "sweep-fentry 701")).unwrap().ok);
        assert!(!of(&PRINTED.replace("SLOTS", "SLOT")).unwrap().ok);
    }

    #[test]
    fn a_missing_run_or_proof_is_an_error() {
        assert!(of(&PRINTED.replace("base 7001", "xase 7001")).is_err());
        assert!(of(&PRINTED.replace("proof", "loof")).is_err());
    }
}
