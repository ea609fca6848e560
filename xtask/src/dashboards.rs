//! `cargo xtask dashboards`: writes the Grafana boards anew, from the names that the agent's encoders write, checks their
//! JSON, and draws the pictures of them.

use std::fs;

use anyhow::{Context as _, Result, ensure};

use crate::command::{cargo, exists, program, run as run_command};
use crate::paths::Paths;
use crate::setup::python;
use crate::test::{Count, followed};

/// What to do with the boards.
#[derive(clap::Args)]
pub(crate) struct Options {
    #[command(subcommand)]
    task: Option<Task>,
}

/// What is done when it is asked for.
#[derive(clap::Subcommand)]
enum Task {
    /// Read the boards as Grafana's own classes do and write them again: nothing may be lost
    Check,
    /// Draw the boards' pictures, of an hour that is played into real servers; needs npm and Chromium
    Draw,
}

/// Writes the boards where they are committed, or draws those that are there.
pub(crate) fn run(paths: &Paths, options: &Options) -> Result<()> {
    match options.task {
        None => write(paths),
        Some(Task::Check) => {
            let counted = check(paths)?;
            ensure!(counted.failed == 0, "{} boards have what Grafana does not know", counted.failed);
            Ok(())
        }
        Some(Task::Draw) => draw(paths),
    }
}

fn write(paths: &Paths) -> Result<()> {
    let folder = paths.root.join("dashboards");
    run_command(
        cargo()
            .current_dir(&paths.root)
            .args(["run", "--quiet", "--locked", "--package", "conntally-dashboards", "--"])
            .arg(folder),
    )
}

/// Has Grafana's own classes read the committed boards and write them again.
pub(crate) fn check(paths: &Paths) -> Result<Count> {
    let python = python::BOARDS.ensure(paths)?;
    let folder = paths.root.join("dashboards");
    let mut boards: Vec<_> = fs::read_dir(&folder)?.flatten().map(|entry| entry.path()).collect();
    boards.retain(|path| path.extension().is_some_and(|extension| extension == "json"));
    boards.sort();
    let (text, success) = followed(program(python).arg(folder.join("check/round_trip.py")).args(&boards))?;
    let counted = Count::of_tests(&text);
    ensure!(success || counted.failed > 0, "the check of the boards broke off: see above");
    ensure!(counted.passed + counted.failed == boards.len() as u64, "not every board was checked");
    Ok(counted)
}

/// Asks the servers, then has Grafana's own components show what they answer.
fn draw(paths: &Paths) -> Result<()> {
    for (name, package) in [("npm", "npm"), ("node", "nodejs"), ("chromium", "chromium")] {
        ensure!(exists(name), "pictures need {name}, which is not there: install Debian's package {package}");
    }
    let folder = paths.target.join("draw");
    fs::create_dir_all(&folder).with_context(|| format!("cannot create {}", folder.display()))?;
    answers(paths)?;
    let project = paths.root.join("dashboards/draw");
    // Grafana's list of packages names some by addresses that are no registry's, and some that only its tests need.
    run_command(program("npm").current_dir(&project).args([
        "install",
        "--no-package-lock",
        "--legacy-peer-deps",
        "--ignore-scripts",
        "--no-audit",
        "--no-fund",
    ]))?;
    let pictures = paths.root.join("dashboards/pictures");
    run_command(program("node").current_dir(&project).arg("draw.mjs").arg(&folder).arg(pictures))
}

/// What the servers answer to all queries of the boards.
fn answers(paths: &Paths) -> Result<()> {
    let packages = ["--package", "conntally", "--package", "conntally-sink-tests"];
    run_command(
        cargo().current_dir(&paths.root).args(["build", "--quiet", "--locked", "--bins"]).args(packages),
    )?;
    let programs = paths.target.join("debug");
    let mut command = program(programs.join("conntally-board-answers"));
    command.arg("--agent").arg(programs.join("conntally")).arg("--cache").arg(&paths.cache);
    run_command(command.arg("--out").arg(paths.target.join("draw")))
}
