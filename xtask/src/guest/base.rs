//! What every guest of a kernel has: tools, modules and the first process. Made once and kept in the cache.

use std::{
    fs::{self, File},
    hash::{DefaultHasher, Hash as _, Hasher as _},
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result};

use super::archive::Tree;
use crate::{
    command::{output, program, run},
    kernels::Kernel,
    paths::Paths,
};

const INIT: &str = include_str!("init.sh");

/// `bash` because busybox's shell has an `ip` of its own that goes before iproute2's.
const TOOLS: &[&str] =
    &["busybox", "bash", "nft", "conntrack", "ip", "tc", "ping", "ethtool", "sysctl", "bpftool", "strace"];

/// With all they depend on. What a kernel does not have is left out.
const MODULES: &[&str] = &[
    "nf_conntrack",
    "nf_conntrack_netlink",
    "nf_conntrack_ftp",
    "nf_tables",
    "nft_counter",
    "nft_ct",
    "nft_limit",
    "nft_numgen",
    "nf_nat",
    "nft_nat",
    "nft_masq",
    "nft_redir",
    "nft_chain_nat",
    "nf_flow_table",
    "nf_flow_table_inet",
    "nf_flow_table_ipv4",
    "nf_flow_table_ipv6",
    "nft_flow_offload",
    "veth",
    "dummy",
    "bridge",
    "sch_netem",
    "sctp",
    "dccp",
    "dccp_ipv4",
    "dccp_ipv6",
    "ip_gre",
    "ip6_gre",
    "nf_conntrack_sctp",
    "nft_reject_inet",
    "overlay",
];

/// The packed base of a kernel's guests.
pub(crate) fn find(paths: &Paths, kernel: &Kernel) -> Result<PathBuf> {
    // Two guests may start at once.
    let lock = File::create(kernel.folder.join("base.lock")).context("cannot create the lock of the base")?;
    lock.lock().context("cannot lock the base")?;
    let packed = kernel.folder.join(format!("base-{:016x}.cpio", fingerprint()));
    if !packed.exists() {
        let new = packed.with_extension(format!("new-{}", std::process::id()));
        let tree = Tree::new(paths.cache.join(format!("base-{}-{}", kernel.release, std::process::id())))?;
        fill(&tree, kernel)?;
        tree.pack(&new)?;
        fs::rename(&new, &packed).context("cannot keep the guest's base")?;
    }
    Ok(packed)
}

/// Changes with whatever the base is made of but the kernel.
fn fingerprint() -> u64 {
    let mut hasher = DefaultHasher::new();
    (INIT, MODULES).hash(&mut hasher);
    for tool in TOOLS {
        let found = output(program("sh").arg("-c").arg(format!("command -v {tool}"))).unwrap_or_default();
        let modified = fs::metadata(found.trim()).and_then(|of| of.modified()).ok();
        (tool, found, modified).hash(&mut hasher);
    }
    hasher.finish()
}

fn fill(tree: &Tree, kernel: &Kernel) -> Result<()> {
    for folder in ["proc", "sys", "dev", "tmp", "run", "etc", "root", "out", "usr/bin", "sbin", "var"] {
        tree.folder(folder)?;
    }
    tree.link("/run", "var/run")?;
    tree.script("init", INIT)?;
    for tool in TOOLS {
        tree.tool(tool)?;
    }
    for file in kernel.module_files(MODULES) {
        copy_module(tree, kernel, &file)?;
    }
    let modules = format!("lib/modules/{}", kernel.release);
    for list in ["modules.builtin", "modules.builtin.modinfo", "modules.order"] {
        let from = kernel.folder.join(&modules).join(list);
        if from.exists() {
            tree.copy(&from, &format!("{modules}/{list}"))?;
        }
    }
    run(program("depmod").arg("-b").arg(tree.root()).arg(&kernel.release))
}

/// Uncompressed, as busybox loads them only so.
fn copy_module(tree: &Tree, kernel: &Kernel, file: &Path) -> Result<()> {
    let inside = file.strip_prefix(&kernel.folder).context("a module outside its kernel's folder")?;
    let to = tree.at(&inside.to_string_lossy())?;
    fs::copy(file, &to).with_context(|| format!("cannot copy {}", file.display()))?;
    match to.extension().and_then(|extension| extension.to_str()) {
        Some("xz") => run(program("xz").arg("--decompress").arg(&to)),
        Some("zst") => run(program("zstd").args(["--quiet", "--rm", "--decompress"]).arg(&to)),
        _ => Ok(()),
    }
}
