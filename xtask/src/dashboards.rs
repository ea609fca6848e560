//! `cargo xtask dashboards`: writes the Grafana boards anew, from the names that the agent's encoders write.

use anyhow::Result;

use crate::command::{cargo, run as run_command};
use crate::paths::Paths;

/// Writes them where they are committed.
pub(crate) fn run(paths: &Paths) -> Result<()> {
    let folder = paths.root.join("dashboards");
    run_command(
        cargo()
            .current_dir(&paths.root)
            .args(["run", "--quiet", "--locked", "--package", "conntally-dashboards", "--"])
            .arg(folder),
    )
}
