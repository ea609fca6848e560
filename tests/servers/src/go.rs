//! Go programs from the modules that the Go proxy serves.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result, bail};
use serde::Deserialize;

use crate::shell::program;
use crate::workshop::Workshop;

/// The oldest Go that builds all servers.
const OLDEST: [u32; 3] = [1, 25, 5];

/// What is used where Go is older: Go serves itself as a module, too, which any Go can fetch and verify.
const NEWER: &str = "go1.26.8";

#[derive(Deserialize)]
struct Download {
    #[serde(rename = "Dir")]
    folder: PathBuf,
}

/// A Go that is new enough, kept from fetching another version of itself.
pub(crate) fn go(shop: &Workshop, folder: &Path) -> Result<Command> {
    let version = shop.output(tool(shop, "go".as_ref(), folder).args(["env", "GOVERSION"]))?;
    if is_enough(&version) {
        return Ok(tool(shop, "go".as_ref(), folder));
    }
    Ok(tool(shop, &newer(shop)?.join("bin/go"), folder))
}

/// What it compiles is kept beside our servers, because it remembers the paths of libraries there.
fn tool(shop: &Workshop, path: &Path, folder: &Path) -> Command {
    let mut go = program(path);
    go.current_dir(folder).env_remove("GOROOT").env("GOCACHE", shop.shared.join("go-build"));
    go.envs([("GOFLAGS", "-buildvcs=false"), ("GOTOOLCHAIN", "local")]);
    go
}

/// The sources of a module, in the read-only folder where Go keeps them.
pub(crate) fn module(shop: &Workshop, name: &str, version: &str) -> Result<PathBuf> {
    download(shop, go(shop, &shop.scratch)?, &format!("{name}@{version}"))
}

/// The same as a copy that can be built: being the main module there, it keeps its own pinned dependencies.
pub(crate) fn checkout(shop: &Workshop, name: &str, version: &str) -> Result<PathBuf> {
    let folder = module(shop, name, version)?;
    shop.copy(&folder, "source")
}

fn download(shop: &Workshop, mut go: Command, module: &str) -> Result<PathBuf> {
    let text = shop.output(go.args(["mod", "download", "-json", module]))?;
    let download: Download =
        serde_json::from_str(&text).with_context(|| format!("go does not say where {module} is"))?;
    Ok(download.folder)
}

/// The folder of the newer Go, fetched once for all servers.
fn newer(shop: &Workshop) -> Result<PathBuf> {
    let folder = shop.shared.join(NEWER);
    if folder.is_dir() {
        return Ok(folder);
    }
    let old = tool(shop, "go".as_ref(), &shop.scratch);
    let module = format!("golang.org/toolchain@v0.0.1-{NEWER}.linux-{}", architecture()?);
    let copy = shop.copy(&download(shop, old, &module)?, "toolchain")?;
    // Modules have no executable files.
    shop.run(program("chmod").args(["-R", "u+x"]).arg(copy.join("bin")).arg(copy.join("pkg/tool")))?;
    fs::rename(&copy, &folder).with_context(|| format!("cannot make {}", folder.display()))?;
    Ok(folder)
}

/// As Go calls it.
fn architecture() -> Result<&'static str> {
    match std::env::consts::ARCH {
        "x86_64" => Ok("amd64"),
        "aarch64" => Ok("arm64"),
        other => bail!("no Go is known for {other}: install {NEWER}"),
    }
}

/// Of a version as `go env GOVERSION` tells it; one that is not a release is believed to be new.
fn is_enough(version: &str) -> bool {
    let Some(numbers) = version.trim().strip_prefix("go") else { return true };
    let end = numbers.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(numbers.len());
    let mut numbers = numbers.get(..end).unwrap_or_default().split('.').map(|part| part.parse().unwrap_or(0));
    let mut next = || numbers.next().unwrap_or(0);
    [next(), next(), next()] >= OLDEST
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_compared_number_by_number() {
        for version in ["go1.25.5\n", "go1.25.10", "go1.26rc1", "go1.26", "go2.0", "devel go1.27-abc"] {
            assert!(is_enough(version), "{version}");
        }
        for version in ["go1.19.8", "go1.25.4", "go1.25", "go1.25rc3"] {
            assert!(!is_enough(version), "{version}");
        }
    }
}
