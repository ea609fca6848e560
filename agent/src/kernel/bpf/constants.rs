//! What is fixed before the programs are loaded: offsets of the running kernel, sizes of the maps.

use std::fs;

use anyhow::{Context, ensure};
use conntally_common::{ABSENT, Layout};

use super::{loader::Constants, programs::KernelSideOptions, start_error::StartError};
use crate::kernel::{
    btf::{self, Btf, ReadError},
    layout,
};

/// Bytes at the head of an entry that the programs can copy.
const HEAD_MAX: u32 = 256;

/// 16 million flows, for which the buckets take 1.5 GiB; the configuration allows no more.
const MAX_BUCKET_BITS: u32 = 24;

/// More than any kernel is built for.
const MAX_CPUS: u32 = 1 << 16;

/// Works them out from the kernel's types and the configuration.
pub(super) fn constants(btf: &Btf, options: &KernelSideOptions) -> Result<Constants, StartError> {
    let layout = layout::resolve(btf, None)?;
    let head_bytes = head_bytes(&layout).map_err(StartError::of)?;
    Ok(Constants {
        layout,
        head_bytes,
        tail_offset: tail_offset(&layout),
        bucket_bits: bucket_bits(options.slots),
        rings: options.rings,
        cpus: cpus().map_err(StartError::of)?,
    })
}

/// Largest number of a CPU that may ever come to run, plus one.
fn cpus() -> anyhow::Result<u32> {
    const POSSIBLE: &str = "/sys/devices/system/cpu/possible";
    let text = fs::read_to_string(POSSIBLE).with_context(|| format!("{POSSIBLE} cannot be read"))?;
    count_of_cpus(&text).with_context(|| format!("{POSSIBLE} has no list of CPUs: {text:?}"))
}

/// Reads a list such as `0-3,8`.
fn count_of_cpus(list: &str) -> Option<u32> {
    let last: u32 = list.trim().rsplit([',', '-']).next()?.parse().ok()?;
    last.checked_add(1).filter(|cpus| *cpus <= MAX_CPUS)
}

/// The types of conntrack: the module's on top of the kernel's, or the kernel's alone.
pub(super) fn kernel_btf() -> Result<Btf, ReadError> {
    let vmlinux = btf::read_vmlinux()?;
    match btf::read_module(&vmlinux) {
        Ok(module) => Ok(module),
        Err(ReadError::Absent { .. }) => Ok(vmlinux),
        Err(error) => {
            tracing::warn!("fentry cannot be used: {error}");
            Ok(vmlinux)
        }
    }
}

/// How much of an entry's head holds all that the programs pick from its copy.
fn head_bytes(layout: &Layout) -> anyhow::Result<u32> {
    let ends = [
        (layout.tuple_original, 40),
        (layout.tuple_reply, 40),
        (layout.status, 4),
        (layout.timeout, 4),
        (layout.net, 8),
        (layout.ext, 8),
        (layout.zone, 2),
        (layout.mark, 4),
    ];
    let ends = ends.iter().filter(|(offset, _)| *offset != ABSENT).map(|(offset, size)| offset + size);
    let bytes = ends.max().unwrap_or(0).next_multiple_of(8);
    ensure!(bytes <= HEAD_MAX, "an nf_conn of this kernel is read up to byte {bytes}, more than {HEAD_MAX}");
    Ok(bytes)
}

/// From where on an entry's head holds what changes while it lives.
fn tail_offset(layout: &Layout) -> u32 {
    // An absent member has the largest number.
    layout.status.min(layout.mark).min(layout.ext) & !7
}

/// A bucket for each flow, that is four slots: then 4 flows in 1,000 find their bucket full when all are there
/// (Poisson, mean 1), and have no updates, only their end.
fn bucket_bits(flows: u32) -> u32 {
    flows.max(1).next_power_of_two().trailing_zeros().clamp(8, MAX_BUCKET_BITS)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_cpu_of_the_list_gives_their_number() {
        assert_eq!(count_of_cpus("0\n"), Some(1));
        assert_eq!(count_of_cpus("0-63\n"), Some(64));
        assert_eq!(count_of_cpus("0-3,8\n"), Some(9));
        assert_eq!(count_of_cpus(""), None);
        assert_eq!(count_of_cpus("0-4294967295"), None);
    }

    #[test]
    fn there_are_as_many_buckets_as_flows() {
        assert_eq!(bucket_bits(0), 8);
        assert_eq!(bucket_bits(262_144), 18);
        assert_eq!(bucket_bits(262_145), 19);
        assert_eq!(bucket_bits(1 << 24), MAX_BUCKET_BITS);
    }
}
