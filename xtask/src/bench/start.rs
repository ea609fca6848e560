//! Guest time from the start of the agent to its `ready` line, then to its first record.

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use clap::Args;
use serde::{Deserialize, Serialize};

use crate::{
    guest::{Binaries, Guest, Profile},
    kernels::{Kernel, Series},
    matrix::{self, Hook},
    paths::Paths,
};

/// What is promised of both, in milliseconds on a CPU of a thousand million instructions per second.
const LIMIT_MS: f64 = 1000.0;

/// What to measure.
#[derive(Args)]
pub(crate) struct Options {
    /// Kernel series
    #[arg(long, value_delimiter = ',', default_values_t = matrix::supported())]
    kernels: Vec<Series>,
    /// Measure what tests use, which is built faster
    #[arg(long)]
    quick: bool,
}

/// What `conntally-e2e start` prints.
#[derive(Debug, Deserialize, Serialize)]
struct Times {
    ready_ms: f64,
    first_record_ms: f64,
}

/// One line of the result.
#[derive(Debug, Serialize)]
struct Line {
    bench: &'static str,
    kernel: String,
    hook: String,
    #[serde(flatten)]
    times: Times,
    limit_ms: f64,
    ok: bool,
}

/// Boots each kernel for each of its hooks, so that every start is a machine's first, and prints a JSON line each.
pub(crate) fn run(paths: &Paths, options: &Options) -> Result<()> {
    let profile = if options.quick { Profile::Quick } else { Profile::Release };
    let binaries = Binaries::build(paths, profile)?;
    let mut all_ok = true;
    for series in &options.kernels {
        for &hook in Hook::of(series) {
            let line = measure(paths, &binaries, series, hook)?;
            println!("{}", serde_json::to_string(&line)?);
            all_ok &= line.ok;
        }
    }
    ensure!(all_ok, "a start takes longer than promised");
    Ok(())
}

fn measure(paths: &Paths, binaries: &Binaries, series: &Series, hook: Hook) -> Result<Line> {
    let kernel = Kernel::find(paths, series)?;
    if let Some(substitute) = kernel.substitute() {
        eprintln!("{substitute}");
    }
    let guest = Guest {
        kernel: &kernel,
        cpus: 1,
        memory: 1024,
        icount: true,
        append: "",
        systemd: false,
        limit: Duration::from_secs(300),
        out: paths.target.join("bench").join(format!("start-{series}-{hook}")),
        files: binaries.all(),
    };
    let script = format!("exec conntally-e2e start --agent /bin/conntally --hook {hook}\n");
    let outcome = guest.run(paths, &script, |_| {})?;
    ensure!(outcome.code == 0, "the agent did not start on {series} with {hook}:\n{}", outcome.printed);
    line(&outcome.printed, &kernel.release, hook)
}

fn line(printed: &str, release: &str, hook: Hook) -> Result<Line> {
    let times: Option<Times> = printed.lines().find_map(|line| serde_json::from_str(line).ok());
    let times = times.with_context(|| format!("the guest told no times:\n{printed}"))?;
    let ok = times.ready_ms <= LIMIT_MS && times.first_record_ms <= LIMIT_MS;
    Ok(Line {
        bench: "start",
        kernel: release.to_owned(),
        hook: hook.to_string(),
        times,
        limit_ms: LIMIT_MS,
        ok,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(printed: &str) -> Result<Line> {
        line(printed, "6.12.1", Hook::Fentry)
    }

    #[test]
    fn both_times_have_to_keep_the_limit() {
        assert!(of(r#"{"ready_ms":999.5,"first_record_ms":1000.0}"#).unwrap().ok);
        assert!(!of(r#"{"ready_ms":1000.5,"first_record_ms":900.0}"#).unwrap().ok);
        assert!(!of(r#"{"ready_ms":500.0,"first_record_ms":1000.5}"#).unwrap().ok);
    }

    #[test]
    fn a_guest_that_tells_no_times_is_an_error() {
        assert!(of("the agent is not ready\n").is_err());
    }
}
