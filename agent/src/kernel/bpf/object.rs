//! The built object: its maps made by aya, its instructions relocated for our own loader.

use std::{collections::HashSet, os::fd::AsRawFd};

use aya::{Ebpf, EbpfLoader, maps::Map};
use aya_obj::{Object, generated::bpf_insn};
use conntally_common::{LOSS_REASONS, Layout};

use super::abi::Plain;

/// What `cargo xtask ebpf` built.
static OBJECT: &[u8] = aya::include_bytes_aligned!("../conntally.bpf.o");

/// Bytes of the rings, powers of two.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RingSizes {
    /// New flows and updates.
    pub updates: u32,
    /// Ends.
    pub ends: u32,
}

/// What is fixed when the programs are loaded.
pub(super) struct Constants {
    pub(super) layout: Layout,
    pub(super) head_bytes: u32,
    pub(super) bucket_bits: u32,
    pub(super) rings: RingSizes,
}

/// The object with its maps made and frozen.
pub(super) struct LoadedObject {
    /// Maps, and the programs that aya loads (kprobes).
    pub(super) ebpf: Ebpf,
    relocated: Object,
}

/// Why the object could not be loaded.
#[derive(Debug, thiserror::Error)]
pub(super) enum ObjectError {
    /// aya refused.
    #[error("the kernel programs' maps cannot be made")]
    Maps(#[from] aya::EbpfError),
    /// The object is broken.
    #[error("the kernel programs' object cannot be read")]
    Parse(#[from] aya_obj::ParseError),
    /// The object refers to something it does not have.
    #[error("the kernel programs' object cannot be linked")]
    Link(#[from] aya_obj::relocation::EbpfRelocationError),
}

impl LoadedObject {
    /// Makes the maps and links the programs with them.
    pub(super) fn load(constants: &Constants) -> Result<Self, ObjectError> {
        let layout = Plain(constants.layout);
        let ebpf = EbpfLoader::new()
            // No program here has CO-RE relocations, and reading the kernel's BTF again takes long.
            .btf(None)
            .override_global("LAYOUT", &layout, true)
            .override_global("HEAD_BYTES", &constants.head_bytes, true)
            .override_global("BUCKET_BITS", &constants.bucket_bits, true)
            .map_max_entries("UPDATES", constants.rings.updates)
            .map_max_entries("ENDS", constants.rings.ends)
            .map_max_entries("SLOTS", 1 << constants.bucket_bits)
            .map_max_entries("LOSSES", LOSS_REASONS)
            .load(OBJECT)?;
        let relocated = relocate(&ebpf)?;
        Ok(Self { ebpf, relocated })
    }

    /// The instructions of a program, ready to be loaded.
    pub(super) fn instructions(&self, program: &str) -> Option<&[bpf_insn]> {
        let program = self.relocated.programs.get(program)?;
        Some(&self.relocated.functions.get(&program.function_key())?.instructions)
    }
}

fn relocate(ebpf: &Ebpf) -> Result<Object, ObjectError> {
    let mut object = Object::parse(OBJECT)?;
    let text_sections: HashSet<usize> = object.functions.keys().map(|(section, _)| *section).collect();
    let maps = std::mem::take(&mut object.maps);
    let fds = ebpf.maps().filter_map(|(name, map)| Some((name, map_fd(map)?, maps.get(name)?)));
    object.relocate_maps(fds, &text_sections)?;
    object.relocate_calls(&text_sections)?;
    Ok(object)
}

fn map_fd(map: &Map) -> Option<i32> {
    let data = match map {
        Map::Array(data) | Map::PerCpuArray(data) | Map::Queue(data) | Map::RingBuf(data) => data,
        _ => return None,
    };
    Some(std::os::fd::AsFd::as_fd(data.fd()).as_raw_fd())
}
