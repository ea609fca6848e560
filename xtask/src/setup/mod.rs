//! `cargo xtask setup`: installs what is missing and says why.

mod crates;
mod packages;
pub(crate) mod python;

use anyhow::{Result, bail};

use crate::{
    command::{self, as_root, cargo, run as run_command},
    paths::Paths,
};
use packages::Package;

/// Installs what the other tasks need; quick, and offline, when all is there.
pub(crate) fn run(paths: &Paths) -> Result<()> {
    require_components()?;
    let missing = packages::missing(packages::NEEDED.iter())?;
    if missing.is_empty() {
        println!("setup: all {} packages are there", packages::NEEDED.len());
    } else {
        install(&missing)?;
    }
    crates::NEEDED.iter().try_for_each(|tool| tool.ensure(paths))?;
    python::NEEDED.iter().try_for_each(|environment| environment.ensure(paths).map(drop))
}

/// Installs what is missing of a few packages.
pub(crate) fn ensure(names: &[&str]) -> Result<()> {
    let wanted = packages::NEEDED.iter().filter(|package| names.contains(&package.name));
    let missing = packages::missing(wanted)?;
    if missing.is_empty() { Ok(()) } else { install(&missing) }
}

/// Formatter and linter come with the Rust toolchain, which is the user's to install.
fn require_components() -> Result<()> {
    for component in ["fmt", "clippy"] {
        let there =
            cargo().args([component, "--version"]).output().is_ok_and(|output| output.status.success());
        if !there {
            bail!("cargo {component} is missing: rustup component add rustfmt clippy");
        }
    }
    Ok(())
}

fn install(missing: &[&Package]) -> Result<()> {
    println!("setup: missing here:");
    for package in missing {
        println!("  {:<26} {}", package.name, package.why);
    }
    if !command::exists("apt-get") {
        bail!("this is not a Debian system: install what the list above says by its own package manager");
    }
    let names = missing.iter().map(|package| package.name);
    // A list that is out of date names versions that the archive no longer has.
    run_command(as_root("apt-get").args(["-qq", "update"]))?;
    run_command(
        as_root("env")
            .args([
                "DEBIAN_FRONTEND=noninteractive",
                "apt-get",
                "install",
                "-y",
                "-qq",
                "--no-install-recommends",
                // What conflicts with a package of the user's is the user's to decide.
                "--no-remove",
            ])
            .args(names),
    )
}
