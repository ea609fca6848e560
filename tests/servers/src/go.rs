//! Go programs from the modules that the Go proxy serves.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result};
use serde::Deserialize;

use crate::shell::program;
use crate::workshop::Workshop;

#[derive(Deserialize)]
struct Download {
    #[serde(rename = "Dir")]
    folder: PathBuf,
}

/// The Go tool, kept from fetching another version of itself. What it compiles is kept beside our servers, because it
/// remembers the paths of libraries there.
pub(crate) fn go(shop: &Workshop, folder: &Path) -> Command {
    let mut go = program("go");
    go.current_dir(folder).env("GOCACHE", shop.shared.join("go-build"));
    go.envs([("GOFLAGS", "-buildvcs=false"), ("GOTOOLCHAIN", "local")]);
    go
}

/// The sources of a module, in the read-only folder where Go keeps them.
pub(crate) fn module(shop: &Workshop, name: &str, version: &str) -> Result<PathBuf> {
    let module = format!("{name}@{version}");
    let text = shop.output(go(shop, &shop.scratch).args(["mod", "download", "-json", &module]))?;
    let download: Download =
        serde_json::from_str(&text).with_context(|| format!("go does not say where {module} is"))?;
    Ok(download.folder)
}

/// The same as a copy that can be built: being the main module there, it keeps its own pinned dependencies.
pub(crate) fn checkout(shop: &Workshop, name: &str, version: &str) -> Result<PathBuf> {
    let folder = module(shop, name, version)?;
    shop.copy(&folder, "source")
}
