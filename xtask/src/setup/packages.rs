//! The Debian packages that the tasks need.

use std::path::Path;

use anyhow::Result;

use crate::command::{exists, program};

/// A package, how else to know that it is there, and why it is wanted.
pub(crate) struct Package {
    /// Its name on Debian.
    pub(crate) name: &'static str,
    /// A program, file or `python3:module` of it, for systems without dpkg.
    probe: &'static str,
    /// What for.
    pub(crate) why: &'static str,
}

const fn package(name: &'static str, probe: &'static str, why: &'static str) -> Package {
    Package { name, probe, why }
}

/// What is needed, by task.
pub(crate) const NEEDED: &[Package] = &[
    package("gcc", "gcc", "links the agent and the tests"),
    package("libc6-dev", "/usr/include/stdlib.h", "the same"),
    package("g++", "g++", "links bpf-linker with LLVM"),
    package("rustc-web", "/usr/bin/rustc", "a compiler with a prebuilt core library for BPF"),
    package("libstd-rust-web-dev-bpf", "/usr/lib/rustlib/bpfel-unknown-none", "that library"),
    package("rust-web-clippy", "/usr/bin/clippy-driver", "the linter of that compiler"),
    package("llvm-22-dev", "/usr/lib/llvm-22/bin/llvm-config", "what bpf-linker is built with"),
    package(
        "llvm-22",
        "/usr/lib/llvm-22/bin/llvm-objcopy",
        "strips the kernel programs of debugging information",
    ),
    package("zlib1g-dev", "/usr/include/zlib.h", "the same"),
    package("qemu-system-x86", "qemu-system-x86_64", "runs guests with other kernels"),
    package("busybox-static", "busybox", "the guests' shell and small tools"),
    package("systemd", "/lib/systemd/systemd", "starts the agent as a service in a guest"),
    package("cpio", "cpio", "packs what a guest boots from"),
    package("kmod", "depmod", "finds the modules that a guest needs"),
    package("xz-utils", "xz", "unpacks modules"),
    package("zstd", "zstd", "the same"),
    package("bash", "bash", "runs scripts in guests"),
    package("bpftool", "bpftool", "counts how often the kernel programs run"),
    package("valgrind", "valgrind", "counts the instructions of benchmarks"),
    package("nftables", "nft", "makes namespaces track connections"),
    package("conntrack", "conntrack", "what the agent is compared with"),
    package("ulogd2", "ulogd", "the same"),
    package("iproute2", "ip", "makes namespaces and links"),
    package("iputils-ping", "ping", "sends echo requests"),
    package("ethtool", "ethtool", "turns segmentation offloads off, so that a capture sees real packets"),
    package("procps", "sysctl", "sets kernel parameters"),
    package("strace", "strace", "has system calls of an agent fail"),
    package(
        "golang-go",
        "go",
        "builds the servers that are written in Go; one that is too old fetches a newer one",
    ),
    package("maven", "mvn", "fetches the servers that are written in Java"),
    package("default-jdk-headless", "javac", "runs them"),
    package("unzip", "unzip", "unpacks them"),
    package("pkg-config", "pkg-config", "links the servers that are written in Go"),
    package("python3-venv", "python3:ensurepip", "makes folders for tools that come as Python packages"),
    package("tcpdump", "tcpdump", "looks at packets when a test fails"),
];

/// Those of them that are not there.
pub(crate) fn missing(wanted: impl Iterator<Item = &'static Package>) -> Result<Vec<&'static Package>> {
    let listed = if exists("dpkg-query") { installed()? } else { Vec::new() };
    Ok(wanted.filter(|package| !listed.iter().any(|name| name == package.name) && !found(package)).collect())
}

/// Without dpkg, or where somebody installed the tool in another way, its own file tells.
fn found(package: &Package) -> bool {
    if let Some(module) = package.probe.strip_prefix("python3:") {
        let import = format!("import {module}");
        return program("python3").args(["-c", &import]).output().is_ok_and(|output| output.status.success());
    }
    if package.probe.starts_with('/') { Path::new(package.probe).exists() } else { exists(package.probe) }
}

/// Names of the needed packages that dpkg says are installed.
fn installed() -> Result<Vec<String>> {
    // The exit code only says that some are unknown, which is what we ask.
    let output = program("dpkg-query")
        .args(["--show", "--showformat", "${db:Status-Status} ${Package}\n"])
        .args(NEEDED.iter().map(|package| package.name))
        .output()?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    Ok(text.lines().filter_map(|line| line.strip_prefix("installed ")).map(str::to_owned).collect())
}
