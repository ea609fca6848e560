//! The compiler and flags that make the kernel programs.

use std::{
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Result, bail};

use crate::{
    command::{self, cargo, program},
    paths::{Paths, cargo_home},
};

/// Debian's compiler: unlike rustup's stable ones it has a prebuilt core library for BPF.
const RUSTC: &str = "/usr/bin/rustc";
const TARGET: &str = "bpfel-unknown-none";

/// The command that builds the object, see [`built`].
pub(crate) fn build(paths: &Paths) -> Result<Command> {
    if !Path::new("/usr/lib/rustlib").join(TARGET).exists() || !command::exists("bpf-linker") {
        bail!("the compiler or linker of the kernel programs is missing: run `cargo xtask setup`");
    }
    let mut command = cargo();
    command.arg("build");
    target_arguments(&mut command, paths)
        .arg("--target-dir")
        .arg(target_folder(paths))
        // The flags come as one list, as paths may have blanks in them.
        .env("CARGO_ENCODED_RUSTFLAGS", flags(paths)?.join("\u{1f}"));
    Ok(command)
}

/// The command that lints them, by the linter of the compiler's own version.
pub(crate) fn clippy(paths: &Paths) -> Command {
    let mut command = program("/usr/bin/cargo-clippy");
    command.arg("clippy").env("CARGO", cargo().get_program());
    target_arguments(&mut command, paths)
        .arg("--target-dir")
        .arg(paths.target.join("ebpf-clippy"))
        .env("CARGO_ENCODED_RUSTFLAGS", "-Ctarget-cpu=v3");
    command
}

/// Where the build leaves the object.
pub(crate) fn built(paths: &Paths) -> PathBuf {
    target_folder(paths).join(TARGET).join("release/conntally-ebpf")
}

/// What decides about the bytes of the object, in one line.
pub(crate) fn describe() -> Result<String> {
    let rustc = command::output(Command::new(RUSTC).arg("--version"))?;
    let linker = command::output(program("bpf-linker").arg("--version"))?;
    Ok(format!("{}, {}", rustc.trim(), linker.trim()))
}

fn target_arguments<'a>(command: &'a mut Command, paths: &Paths) -> &'a mut Command {
    command
        .current_dir(paths.root.join("agent-ebpf"))
        .env("RUSTC", RUSTC)
        // aya-ebpf uses unstable features of the compiler.
        .env("RUSTC_BOOTSTRAP", "1")
        .args(["--quiet", "--locked", "--release", "--target", TARGET])
}

/// BTF in the object, and no path of this machine in it.
fn flags(paths: &Paths) -> Result<Vec<String>> {
    Ok(vec![
        "-Ctarget-cpu=v3".to_owned(),
        "-Cdebuginfo=2".to_owned(),
        "-Clink-arg=--btf".to_owned(),
        format!("--remap-path-prefix={}=cargo", cargo_home()?.display()),
        format!("--remap-path-prefix={}=.", paths.root.display()),
    ])
}

fn target_folder(paths: &Paths) -> PathBuf {
    paths.target.join("ebpf")
}
