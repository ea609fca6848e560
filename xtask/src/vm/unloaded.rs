//! `cargo xtask vm unloaded`: `check` and `run` in a guest in which conntrack is not loaded.

use std::{fs, path::Path};

use anyhow::{Context as _, Result, ensure};
use serde_json::{Value, json};

use crate::{guest::NO_CONNTRACK, kernels::Series, paths::Paths, test::Count};

const SCRIPT: &str = concat!(include_str!("test_that.sh"), include_str!("unloaded.sh"));

/// Boots the guest, counts what `unloaded.sh` tests there, and reads the report that `check --json` wrote.
pub(crate) fn play(paths: &Paths, series: &Series) -> Result<Count> {
    let (mut count, out) = super::play_agent(paths, series, "unloaded", NO_CONNTRACK, SCRIPT)?;
    count.add(match judge(&out.join("check.json")) {
        Ok(()) => Count::success(),
        Err(error) => Count::failure(format!("check --json: {error:#}")),
    });
    Ok(count)
}

/// Whether the report is one, and says of conntrack that it is not there and was not tried.
fn judge(file: &Path) -> Result<()> {
    let text = fs::read_to_string(file).with_context(|| format!("cannot read {}", file.display()))?;
    let report: Value = serde_json::from_str(&text).context("it is no JSON")?;
    let expected = [
        ("/outcome", json!("degraded")),
        ("/facts/conntrack", json!("loadable")),
        ("/facts/netlink/possible", Value::Null),
        ("/facts/namespaces/0/tracking", json!("idle")),
    ];
    for (key, value) in expected {
        let found = report.pointer(key).with_context(|| format!("it has no {key}"))?;
        ensure!(*found == value, "{key} is {found} instead of {value}");
    }
    ensure!(report.pointer("/facts/tracing/untried").is_some(), "hooks were tried");
    Ok(())
}
