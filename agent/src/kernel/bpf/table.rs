//! Finds where the kernel keeps its connection table.

use anyhow::{Context, ensure};

use super::loader::{LoadedObject, Runnable};
use crate::kernel::addresses::Addresses;

/// The kernel's variables: the table, and its number of buckets.
///
/// <https://github.com/torvalds/linux/blob/v6.12/net/netfilter/nf_conntrack_core.c#L193>
pub(super) const VARIABLES: [&str; 2] = ["nf_conntrack_hash", "nf_conntrack_htable_size"];

/// Addresses of the two variables. `known` is what was read of the symbol table before.
pub(super) fn find(object: &LoadedObject, known: Option<&Addresses>) -> anyhow::Result<[u64; 2]> {
    if let Some(found) = known.and_then(get) {
        return Ok(found);
    }
    ask(object).or_else(|error| {
        tracing::debug!("the symbol table is read, as the kernel does not look names up: {error:#}");
        let addresses = Addresses::find(VARIABLES).context("the symbol table cannot be read")?;
        get(&addresses).context("the kernel does not say where its connection table is")
    })
}

fn get(addresses: &Addresses) -> Option<[u64; 2]> {
    let [table, size] = VARIABLES;
    Some([addresses.get(table)?, addresses.get(size)?])
}

/// Has the kernel look the names up, which it can since 5.16: the symbol table takes much longer to read.
fn ask(object: &LoadedObject) -> anyhow::Result<[u64; 2]> {
    Runnable::load_system_call(object, "look_up")?.run().context("the program look_up cannot be run")?;
    let found = object.maps.shared::<u64>("ADDRESSES")?;
    let addresses = [0, 1].map(|index| found.get(index).unwrap_or(0));
    ensure!(!addresses.contains(&0), "the kernel does not tell addresses");
    Ok(addresses)
}
