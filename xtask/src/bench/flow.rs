//! Instructions that a flow of one packet costs from the kernel to a line in a pipe, beside other programs.

use std::{path::PathBuf, time::Duration};

use anyhow::{Context as _, Result, ensure};
use clap::Args;
use serde::{Deserialize, Serialize};

use crate::{
    guest::{Binaries, Guest, Profile},
    kernels::{Kernel, Series},
    paths::Paths,
    setup,
};

const SCRIPT: &str = concat!(include_str!("lab.sh"), include_str!("flow.sh"));

/// Flows that the agent is measured with, and that the others are, which take so much longer and lose records.
const FLOWS: u64 = 100_000;
const FEWER: u64 = 5_000;

/// Instructions of a flow, its first record and its end, at most.
const LIMIT: i64 = 8_000;

/// What part of `conntrack -E` it may cost.
const SHARE: f64 = 0.2;

/// Starts what runs only when nobody else does; every system has it.
const CHRT: &str = "/usr/bin/chrt";

/// Where Debian has the parts that ulogd loads by itself.
const ULOGD_PLUGINS: &[&str] = &[
    "ulogd_inpflow_NFCT.so",
    "ulogd_filter_IP2STR.so",
    "ulogd_filter_PRINTFLOW.so",
    "ulogd_output_LOGEMU.so",
];

/// What to measure.
#[derive(Args)]
pub(crate) struct Options {
    /// Kernel series
    #[arg(long, default_value = "6.12")]
    kernel: Series,
    /// Measure what tests use, which is built faster
    #[arg(long)]
    quick: bool,
}

/// What `conntally-flows` prints, per flow where it is a time.
#[derive(Clone, Debug, Deserialize)]
struct Told {
    flows: i64,
    busy_ns: i64,
    reading_ns: i64,
    lines: i64,
}

/// One line of the result.
#[derive(Debug, Serialize)]
struct Line {
    bench: &'static str,
    kernel: String,
    /// What accounts the flows.
    program: String,
    /// Instructions of a flow with nobody accounting it.
    base: i64,
    /// What the program adds, its work in the kernel and in user space together.
    added: i64,
    /// What reading the lines took besides.
    reading: i64,
    /// Records that are missing: two are expected of each flow.
    lost: i64,
    #[serde(skip_serializing_if = "Option::is_none")]
    limit: Option<i64>,
    /// What part of `conntrack -E` this is, by flows.
    of_conntrack: f64,
    /// The same by records that arrived: that one loses most of them, whatever the size of its buffer.
    of_conntrack_by_record: f64,
    ok: bool,
}

/// Boots the kernel and prints a JSON line for each program.
pub(crate) fn run(paths: &Paths, options: &Options) -> Result<()> {
    setup::ensure(&["ulogd2"])?;
    let profile = if options.quick { Profile::Quick } else { Profile::Release };
    let mut files = Binaries::build(paths, profile)?.all();
    files.push(PathBuf::from(CHRT));
    files.extend(ulogd());
    let kernel = Kernel::find(paths, &options.kernel)?;
    if let Some(substitute) = kernel.substitute() {
        eprintln!("{substitute}");
    }
    let guest = Guest {
        kernel: &kernel,
        cpus: 1,
        memory: 2048,
        icount: true,
        append: "",
        systemd: false,
        limit: Duration::from_secs(1800),
        out: paths.target.join("bench").join(format!("flow-{}", options.kernel)),
        files,
    };
    let script = format!("FLOWS={FLOWS}\nFEWER={FEWER}\n{SCRIPT}");
    let outcome = guest.run(paths, &script, |line| eprintln!("{line}"))?;
    ensure!(outcome.code == 0, "the measuring script failed:\n{}", outcome.printed);
    let lines = lines(&outcome.printed, &kernel.release)
        .with_context(|| format!("the guest printed:\n{}", outcome.printed))?;
    for line in &lines {
        println!("{}", serde_json::to_string(line)?);
    }
    ensure!(lines.iter().all(|line| line.ok), "a flow costs more than promised, or records are missing");
    Ok(())
}

/// The program and its parts; where a system has them elsewhere it is simply not measured.
fn ulogd() -> Vec<PathBuf> {
    let folder = PathBuf::from(format!("/usr/lib/{}-linux-gnu/ulogd", std::env::consts::ARCH));
    let plugins = ULOGD_PLUGINS.iter().map(|plugin| folder.join(plugin));
    std::iter::once(PathBuf::from("/usr/sbin/ulogd")).chain(plugins).filter(|file| file.exists()).collect()
}

fn lines(printed: &str, release: &str) -> Result<Vec<Line>> {
    let told = |name: &str| {
        let last = printed.lines().rev().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
        serde_json::from_str::<Told>(last.with_context(|| format!("nothing of {name}"))?).context("no JSON")
    };
    let (base, base_of_few) = (told("base")?.busy_ns, told("fewer")?.busy_ns);
    let conntrack = told("conntrack")?;
    let added = conntrack.busy_ns - base_of_few;
    let conntrack = [added as f64, of_a_record(added, &conntrack)];
    [("conntally", base), ("conntrack", base_of_few), ("ulogd", base_of_few)]
        .into_iter()
        .map(|(name, base)| Ok(line(name, &told(name)?, base, conntrack, release)))
        .collect()
}

/// Instructions of a record that arrived.
fn of_a_record(added: i64, told: &Told) -> f64 {
    (added * told.flows) as f64 / told.lines.max(1) as f64
}

/// Only the agent's own figures can be too high.
fn line(program: &str, told: &Told, base: i64, [by_flow, by_record]: [f64; 2], release: &str) -> Line {
    let (added, lost) = (told.busy_ns - base, 2 * told.flows - told.lines);
    let share = |ours: f64, theirs: f64| (ours / theirs.max(1.0) * 1000.0).round() / 1000.0;
    let of_conntrack = share(added as f64, by_flow);
    let is_ours = program == "conntally";
    Line {
        bench: "flow",
        kernel: release.to_owned(),
        program: program.to_owned(),
        base,
        added,
        reading: told.reading_ns,
        lost,
        limit: is_ours.then_some(LIMIT),
        of_conntrack,
        of_conntrack_by_record: share(of_a_record(added, told), by_record),
        ok: !is_ours || (added <= LIMIT && lost == 0 && of_conntrack <= SHARE),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PRINTED: &str = r#"base {"flows":100,"busy_ns":20500,"reading_ns":0,"lines":0}
base {"flows":100,"busy_ns":20000,"reading_ns":0,"lines":0}
fewer {"flows":20,"busy_ns":21000,"reading_ns":0,"lines":0}
conntally {"flows":100,"busy_ns":27000,"reading_ns":900,"lines":200}
conntrack {"flows":20,"busy_ns":65000,"reading_ns":300,"lines":35}
ulogd {"flows":20,"busy_ns":85000,"reading_ns":300,"lines":40}"#;

    fn ours(printed: &str) -> Line {
        lines(printed, "6.12.1").unwrap().swap_remove(0)
    }

    #[test]
    fn the_warm_second_base_is_what_is_subtracted() {
        let lines = lines(PRINTED, "6.12.1").unwrap();
        let figures: Vec<_> = lines.iter().map(|line| (line.added, line.lost, line.ok)).collect();
        assert_eq!(figures, [(7000, 0, true), (44000, 5, true), (64000, 0, true)]);
    }

    #[test]
    fn too_dear_a_flow_or_a_missing_record_is_not_ok() {
        assert!(!ours(&PRINTED.replace("27000", "28001")).ok);
        assert!(!ours(&PRINTED.replace(r#""lines":200"#, r#""lines":199"#)).ok);
        assert!(!ours(&PRINTED.replace("65000", "50000")).ok);
    }

    #[test]
    fn a_program_of_which_nothing_was_told_is_an_error() {
        assert!(lines(&PRINTED.replace("ulogd", "xlogd"), "6.12.1").is_err());
    }
}
