//! The linker of the kernel programs, built from its crate against Debian's LLVM.

use anyhow::Result;

use crate::{
    command::{cargo, output, program, run},
    paths::Paths,
};

/// The series that goes with the LLVM of the packages.
const SERIES: &str = "0.13";

/// Builds it unless it is there.
pub(crate) fn ensure(paths: &Paths) -> Result<()> {
    if let Some(version) = version().filter(|version| version.starts_with(&format!("{SERIES}."))) {
        println!("setup: bpf-linker {version} is there");
        return Ok(());
    }
    println!("setup: building bpf-linker {SERIES}, which links the kernel programs (a few minutes)");
    run(cargo()
        // Outside the repository, whose cargo configuration is not meant for it.
        .current_dir(&paths.cache)
        .env("LLVM_PREFIX", "/usr/lib/llvm-22")
        .args(["install", "--quiet", "--locked", "--force", "bpf-linker", "--version", &format!("^{SERIES}")])
        .args(["--no-default-features", "--features", "llvm-22"]))
}

/// The version that is installed, if it runs.
pub(crate) fn version() -> Option<String> {
    let text = output(program("bpf-linker").arg("--version")).ok()?;
    text.split_whitespace().nth(1).map(str::to_owned)
}
