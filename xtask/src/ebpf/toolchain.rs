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

/// The linter of that compiler: rustup's looks for the core library among rustup's.
const CLIPPY: &str = "/usr/bin/clippy-driver";
/// From the LLVM that the linker is built with.
const OBJCOPY: &str = "/usr/lib/llvm-22/bin/llvm-objcopy";

/// The command that builds the object, which is then to be stripped, see [`strip`].
pub(crate) fn build(paths: &Paths) -> Result<Command> {
    require(command::exists("bpf-linker") && Path::new(OBJCOPY).exists(), "linker")?;
    let mut command = cargo();
    command.arg("build");
    target_arguments(&mut command, paths)
        .arg("--target-dir")
        .arg(target_folder(paths))
        // The flags come as one list, as paths may have blanks in them.
        .env("CARGO_ENCODED_RUSTFLAGS", flags(paths)?.join("\u{1f}"));
    Ok(command)
}

/// The command that leaves in [`built`] what the kernel reads of the object: programs, maps and BTF, but not the
/// debugging information that the linker made the BTF of.
pub(crate) fn strip(paths: &Paths) -> Command {
    let mut command = program(OBJCOPY);
    command.arg("--strip-debug").arg(linked(paths)).arg(built(paths));
    command
}

/// The command that lints them: `cargo check` with the linter in the compiler's place. `cargo clippy` would take the
/// linter beside itself, which is another compiler's.
pub(crate) fn clippy(paths: &Paths) -> Result<Command> {
    require(Path::new(CLIPPY).exists(), "linter")?;
    let mut command = cargo();
    command.arg("check");
    target_arguments(&mut command, paths)
        .arg("--target-dir")
        .arg(paths.target.join("ebpf-clippy"))
        .env("RUSTC_WORKSPACE_WRAPPER", CLIPPY)
        // The linter's own separator between its arguments.
        .env("CLIPPY_ARGS", "-Dwarnings__CLIPPY_HACKERY__")
        .env("CARGO_ENCODED_RUSTFLAGS", "-Ctarget-cpu=v3");
    Ok(command)
}

/// Where the build leaves the object, once it is stripped.
pub(crate) fn built(paths: &Paths) -> PathBuf {
    linked(paths).with_extension("o")
}

/// Where the linker leaves it.
fn linked(paths: &Paths) -> PathBuf {
    target_folder(paths).join(TARGET).join("release/conntally-ebpf")
}

fn require(tool: bool, name: &str) -> Result<()> {
    if !tool || !Path::new("/usr/lib/rustlib").join(TARGET).exists() {
        bail!("the compiler or {name} of the kernel programs is missing: run `cargo xtask setup`");
    }
    Ok(())
}

/// What decides about the bytes of the object, in one line.
pub(crate) fn describe() -> Result<String> {
    let rustc = command::output(Command::new(RUSTC).arg("--version"))?;
    let linker = command::output(program("bpf-linker").arg("--version"))?;
    let objcopy = command::output(program(OBJCOPY).arg("--version"))?;
    let llvm = objcopy.lines().find(|line| line.contains("version")).unwrap_or_default();
    Ok(format!("{}, {}, {}", rustc.trim(), linker.trim(), llvm.trim()))
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
