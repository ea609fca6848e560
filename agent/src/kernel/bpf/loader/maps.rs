//! The maps of the kernel programs, made in the kernel and filled before any program can see them.

use std::{
    collections::HashMap,
    os::fd::{AsFd, AsRawFd, BorrowedFd},
    path::{Path, PathBuf},
};

use anyhow::{Context, bail};
use aya::maps::{Map, MapData, MapError};
use aya_obj::{EbpfSectionKind, generated::bpf_map_type::BPF_MAP_TYPE_RINGBUF};
use zerocopy::{FromBytes, IntoBytes};

use super::syscall;
use crate::kernel::bpf::{
    ring::{Ring, page_bytes},
    shared::Shared,
};

/// Every map by its name in the programs.
pub(in super::super) struct Maps(HashMap<String, Map>);

/// Why a map could not be made.
#[derive(Debug, thiserror::Error)]
pub(in super::super) enum MapsError {
    /// The kernel refuses it.
    #[error("the map {0} cannot be made")]
    Create(String, #[source] MapError),
    /// The one of another process is not there.
    #[error("the map {0} cannot be opened")]
    Open(String, #[source] MapError),
    /// What the programs take as constant cannot be put into it.
    #[error("the map {0} cannot be filled")]
    Fill(String, #[source] std::io::Error),
}

impl Maps {
    /// Makes them. A map with data gets it; one that is constant for the programs is then frozen, so that the
    /// verifier sees through it.
    pub(super) fn create(definitions: &HashMap<String, aya_obj::Map>) -> Result<Self, MapsError> {
        let made = definitions.iter().map(|(name, map)| Ok((name.clone(), create(name, map)?)));
        Ok(Self(made.collect::<Result<_, MapsError>>()?))
    }

    /// A map.
    pub(in super::super) fn get(&self, name: &str) -> anyhow::Result<&Map> {
        self.0.get(name).with_context(|| missing(name))
    }

    /// Opens those that another process made; `pin` says where each is. A map of constants is made anew: it has no pin,
    /// and what it holds is the same.
    pub(super) fn reopen(
        definitions: &HashMap<String, aya_obj::Map>,
        pin: &dyn Fn(&str) -> PathBuf,
    ) -> Result<Self, MapsError> {
        let maps = definitions.iter().map(|(name, map)| {
            let map = if is_pinned(name) { open(name, &pin(name)) } else { create(name, map) };
            Ok((name.clone(), map?))
        });
        Ok(Self(maps.collect::<Result<_, MapsError>>()?))
    }

    /// The maps that another process has to find, by their names.
    pub(in super::super) fn to_pin(&self) -> impl Iterator<Item = (&str, BorrowedFd<'_>)> {
        let pinned = self.0.iter().filter(|(name, _)| is_pinned(name));
        pinned.filter_map(|(name, map)| Some((name.as_str(), descriptor(map)?)))
    }

    /// A ring to read.
    pub(in super::super) fn ring(&self, name: &str) -> anyhow::Result<Ring> {
        ring(self.get(name)?).with_context(|| format!("the ring {name} cannot be read"))
    }

    /// The elements of a map that was made with `BPF_F_MMAPABLE`, shared with the programs.
    pub(in super::super) fn shared<T: FromBytes + IntoBytes + Copy>(
        &self,
        name: &str,
    ) -> anyhow::Result<Shared<T>> {
        shared(self.get(name)?).with_context(|| format!("the map {name} cannot be shared"))
    }

    /// Number of the descriptor of each map.
    pub(super) fn descriptors(&self) -> impl Iterator<Item = (&str, i32)> {
        self.0.iter().filter_map(|(name, map)| Some((name.as_str(), descriptor(map)?.as_raw_fd())))
    }
}

/// A map to read as a ring.
pub(in super::super) fn ring(map: &Map) -> anyhow::Result<Ring> {
    let Map::RingBuf(data) = map else { bail!("it is no ring") };
    Ok(Ring::open(data)?)
}

/// The elements of an array map, shared with whoever else has it.
pub(in super::super) fn shared<T: FromBytes + IntoBytes + Copy>(map: &Map) -> anyhow::Result<Shared<T>> {
    let Map::Array(data) = map else { bail!("it is no array") };
    Ok(Shared::open(data)?)
}

/// Sets the only value of an array, as a whole: whoever dies meanwhile leaves the old one or the new one.
pub(in super::super) fn set_whole(map: &Map, value: &[u8]) -> anyhow::Result<()> {
    Ok(syscall::set_map_value(descriptor(map).context("it is of no known kind")?, 0, value)?)
}

/// The descriptor of a map; `None` for a kind of map that no program here has.
pub(in super::super) fn descriptor(map: &Map) -> Option<BorrowedFd<'_>> {
    match map {
        Map::Array(data) | Map::PerCpuArray(data) | Map::Queue(data) | Map::RingBuf(data) => {
            Some(data.fd().as_fd())
        }
        _ => None,
    }
}

/// A name that no file may have is that of data of the object, which are constants.
fn is_pinned(name: &str) -> bool {
    !name.starts_with('.')
}

fn open(name: &str, pin: &Path) -> Result<Map, MapsError> {
    let failed = |error| MapsError::Open(name.to_owned(), error);
    Map::from_map_data(MapData::from_pin(pin).map_err(failed)?).map_err(failed)
}

fn create(name: &str, definition: &aya_obj::Map) -> Result<Map, MapsError> {
    let failed = |error| MapsError::Create(name.to_owned(), error);
    let mut definition = definition.clone();
    if definition.map_type() == BPF_MAP_TYPE_RINGBUF as u32 {
        definition.set_max_entries(ring_bytes(definition.max_entries(), page_bytes()));
    }
    let data = definition.data().to_vec();
    let is_constant = definition.section_kind() == EbpfSectionKind::Rodata;
    let map = MapData::create(definition, name, None).map_err(failed)?;
    fill(map.fd().as_fd(), &data, is_constant).map_err(|error| MapsError::Fill(name.to_owned(), error))?;
    Map::from_map_data(map).map_err(failed)
}

fn fill(map: BorrowedFd<'_>, data: &[u8], is_constant: bool) -> std::io::Result<()> {
    if !data.is_empty() {
        syscall::set_map_value(map, 0, data)?;
    }
    if is_constant { syscall::freeze_map(map) } else { Ok(()) }
}

/// A ring's size must be a power of two and whole pages.
fn ring_bytes(asked: u32, page: u32) -> u32 {
    asked.checked_next_power_of_two().unwrap_or(1 << 31).max(page)
}

fn missing(name: &str) -> String {
    format!("the kernel programs have no map {name}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rings_have_sizes_that_the_kernel_takes() {
        assert_eq!(ring_bytes(0, 4096), 4096);
        assert_eq!(ring_bytes(4096, 1 << 16), 1 << 16);
        assert_eq!(ring_bytes(100_000, 4096), 1 << 17);
        assert_eq!(ring_bytes(16 << 20, 4096), 16 << 20);
        assert_eq!(ring_bytes(u32::MAX, 4096), 1 << 31);
    }
}
