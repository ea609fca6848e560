//! Writes the boards into a folder.

use std::fs;
use std::path::PathBuf;

use anyhow::{Context as _, Result};
use conntally_dashboards::boards;

fn main() -> Result<()> {
    let folder = std::env::args_os().nth(1).map(PathBuf::from).context("name the folder to write into")?;
    for (name, board) in boards() {
        let file = folder.join(name);
        let text = format!("{board:#}\n");
        fs::write(&file, text).with_context(|| format!("cannot write {}", file.display()))?;
    }
    Ok(())
}
