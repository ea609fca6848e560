//! Finds where the kernel keeps its connection table.

use anyhow::{Context, ensure};

use super::loader::{LoadedObject, Runnable};
use crate::kernel::addresses::Addresses;

/// The kernel's variables: the table, its number of buckets, and the count of its moves. All are in the symbol table
/// or none: it has those of functions alone where the kernel was built without `CONFIG_KALLSYMS_ALL`.
///
/// <https://github.com/torvalds/linux/blob/v6.12/net/netfilter/nf_conntrack_core.c#L193>
pub(super) const VARIABLES: [&str; 3] =
    ["nf_conntrack_hash", "nf_conntrack_htable_size", "nf_conntrack_generation"];

/// Addresses of these variables. `known` is what was read of the symbol table before.
pub(super) fn find(object: &LoadedObject, known: Option<&Addresses>) -> anyhow::Result<[u64; 3]> {
    if let Some(found) = known.and_then(get) {
        return Ok(found);
    }
    ask(object).or_else(|error| {
        tracing::debug!("the symbol table is read, as the kernel does not look names up: {error:#}");
        let addresses = Addresses::find(VARIABLES).context("the symbol table cannot be read")?;
        get(&addresses).context("the kernel does not say where its connection table is")
    })
}

fn get(addresses: &Addresses) -> Option<[u64; 3]> {
    let [table, size, generation] = VARIABLES;
    Some([addresses.get(table)?, addresses.get(size)?, addresses.get(generation)?])
}

/// Has the kernel look the names up, which it can since 5.16: the symbol table takes much longer to read.
fn ask(object: &LoadedObject) -> anyhow::Result<[u64; 3]> {
    Runnable::load_system_call(object, "look_up")?.run().context("the program look_up cannot be run")?;
    let found = object.maps.shared::<u64>("ADDRESSES")?;
    let addresses = [0, 1, 2].map(|index| found.get(index).unwrap_or(0));
    ensure!(!addresses.contains(&0), "the kernel does not tell addresses");
    Ok(addresses)
}
