//! The built object, with its maps made and its programs linked with them.

use std::{
    collections::{HashMap, HashSet},
    path::PathBuf,
};

use aya_obj::{Object, generated::BPF_RINGBUF_HDR_SZ};
use conntally_common::{Event, Layout};
use zerocopy::IntoBytes;

use super::{
    code::Code,
    maps::{Maps, MapsError},
    subprograms::{self, Declared, Global, Known},
};

/// What `cargo xtask ebpf` built.
static OBJECT: &[u8] = aya::include_bytes_aligned!("../../conntally.bpf.o");

/// What is recorded of it: of which sources, by which tools.
const RECORD: &str = include_str!("../../conntally.bpf.sha256");

/// Functions that the verifier looks at once, not at each of their calls.
const GLOBAL_FUNCTIONS: &[Global] = &[
    Global { name: "announce_next", parameters: 0 },
    Global { name: "interval", parameters: 2 },
    Global { name: "speak", parameters: 4 },
    Global { name: "sweep_visit", parameters: 1 },
    Global { name: "walk_step", parameters: 0 },
];

/// Sizes of what events wait in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RingSizes {
    /// Bytes of the ring of new flows and updates, a power of two.
    pub updates: u32,
    /// Bytes of the ring of ends, a power of two.
    pub ends: u32,
    /// Ends that the ring behind that one has room for at least.
    pub ends_overflow: u32,
}

/// What is fixed when the programs are loaded.
pub(in super::super) struct Constants {
    pub(in super::super) layout: Layout,
    pub(in super::super) head_bytes: u32,
    pub(in super::super) tail_offset: u32,
    pub(in super::super) bucket_bits: u32,
    pub(in super::super) rings: RingSizes,
    /// Of this machine, or more.
    pub(in super::super) cpus: u32,
}

/// Bytes of a ring that an event takes.
const EVENT_BYTES: u32 = BPF_RINGBUF_HDR_SZ + size_of::<Event>() as u32;

/// Flows that may wait to be announced, 16 bytes each, however large the ring is.
const MOST_UNANNOUNCED: u32 = 1 << 16;

/// The digest of the built object, which no other has.
pub(in super::super) fn object_digest() -> &'static str {
    RECORD.lines().find_map(|line| line.strip_prefix("object ")).unwrap_or(RECORD).trim()
}

/// The object with its maps made and frozen.
pub(in super::super) struct LoadedObject {
    pub(in super::super) maps: Maps,
    linked: Object,
    globals: Vec<Known>,
}

/// Why the object could not be loaded.
#[derive(Debug, thiserror::Error)]
pub(in super::super) enum ObjectError {
    /// The kernel refused a map.
    #[error(transparent)]
    Maps(#[from] MapsError),
    /// The object is broken.
    #[error("the kernel programs' object cannot be read")]
    Parse(#[from] aya_obj::ParseError),
    /// The object refers to something it does not have.
    #[error("the kernel programs' object cannot be linked")]
    Link(#[from] aya_obj::relocation::EbpfRelocationError),
}

impl LoadedObject {
    /// Makes the maps and links the programs with them.
    pub(in super::super) fn load(constants: &Constants) -> Result<Self, ObjectError> {
        Self::load_with(constants, Maps::create)
    }

    /// Links the programs with the maps of another process, of which `pin` says where they are.
    pub(in super::super) fn load_onto(
        constants: &Constants,
        pin: &dyn Fn(&str) -> PathBuf,
    ) -> Result<Self, ObjectError> {
        Self::load_with(constants, |definitions| Maps::reopen(definitions, pin))
    }

    fn load_with(
        constants: &Constants,
        maps: impl FnOnce(&HashMap<String, aya_obj::Map>) -> Result<Maps, MapsError>,
    ) -> Result<Self, ObjectError> {
        let mut object = Object::parse(OBJECT)?;
        set_constants(&mut object, constants)?;
        let mut definitions = std::mem::take(&mut object.maps);
        set_sizes(&mut definitions, constants);
        let maps = maps(&definitions)?;
        let globals = link(&mut object, &maps, &definitions)?;
        Ok(Self { maps, linked: object, globals })
    }

    /// A program, ready to be loaded.
    pub(super) fn program(&self, name: &str) -> Option<Code<'_>> {
        let program = self.linked.programs.get(name)?;
        let function = self.linked.functions.get(&program.function_key())?;
        Some(Code { instructions: &function.instructions })
    }

    /// What is to be said of a program's functions.
    pub(super) fn declare_functions(&self, name: &str, code: &Code<'_>) -> Option<Declared> {
        subprograms::declare(name, code, &self.globals)
    }
}

fn set_constants(object: &mut Object, constants: &Constants) -> Result<(), ObjectError> {
    let head_bytes = constants.head_bytes.to_ne_bytes();
    let tail_offset = constants.tail_offset.to_ne_bytes();
    let bucket_bits = constants.bucket_bits.to_ne_bytes();
    object.patch_map_data(HashMap::from([
        ("LAYOUT", (constants.layout.as_bytes(), true)),
        ("HEAD_BYTES", (head_bytes.as_slice(), true)),
        ("TAIL_OFFSET", (tail_offset.as_slice(), true)),
        ("BUCKET_BITS", (bucket_bits.as_slice(), true)),
    ]))?;
    Ok(())
}

fn set_sizes(definitions: &mut HashMap<String, aya_obj::Map>, constants: &Constants) {
    let sizes = [
        ("UPDATES", constants.rings.updates),
        ("ENDS", constants.rings.ends),
        ("ENDS_OVERFLOW", constants.rings.ends_overflow.saturating_mul(EVENT_BYTES)),
        ("UNANNOUNCED", constants.rings.updates.div_ceil(EVENT_BYTES).min(MOST_UNANNOUNCED)),
        ("SLOTS", 1 << constants.bucket_bits),
        ("TALLIES", constants.cpus),
    ];
    for (name, entries) in sizes {
        if let Some(map) = definitions.get_mut(name) {
            map.set_max_entries(entries);
        }
    }
}

/// Puts the maps' descriptors and the called functions into the programs. The global functions are remembered as they
/// are between the two steps, where they can still be told by their names.
fn link(
    object: &mut Object,
    maps: &Maps,
    definitions: &HashMap<String, aya_obj::Map>,
) -> Result<Vec<Known>, ObjectError> {
    let text_sections: HashSet<usize> = object.functions.keys().map(|(section, _)| *section).collect();
    let descriptors = maps.descriptors().filter_map(|(name, fd)| Some((name, fd, definitions.get(name)?)));
    object.relocate_maps(descriptors, &text_sections)?;
    let globals = GLOBAL_FUNCTIONS.iter().filter_map(|global| known(object, global)).collect();
    object.relocate_calls(&text_sections)?;
    Ok(globals)
}

fn known(object: &Object, global: &'static Global) -> Option<Known> {
    let function = object.functions.values().find(|function| function.name == global.name)?;
    Some(Known { global, instructions: function.instructions.clone() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_object_has_a_digest() {
        let digest = object_digest();
        assert!(digest.len() == 64 && digest.bytes().all(|byte| byte.is_ascii_hexdigit()), "{digest}");
    }

    #[test]
    fn the_object_has_every_function_that_is_to_be_verified_once() {
        let object = Object::parse(OBJECT).unwrap();
        for global in GLOBAL_FUNCTIONS {
            assert!(known(&object, global).is_some(), "{}", global.name);
        }
    }

    #[test]
    fn constants_and_sizes_are_set() {
        let mut object = Object::parse(OBJECT).unwrap();
        let constants = Constants {
            layout: Layout::UNKNOWN,
            head_bytes: 0x1234_5678,
            tail_offset: 128,
            bucket_bits: 17,
            rings: RingSizes { updates: 1 << 16, ends: 1 << 17, ends_overflow: 77 },
            cpus: 6,
        };
        set_constants(&mut object, &constants).unwrap();
        let data = object.maps[".rodata"].data().to_vec();
        assert!(data.windows(4).any(|bytes| bytes == constants.head_bytes.to_ne_bytes()));
        let mut definitions = std::mem::take(&mut object.maps);
        set_sizes(&mut definitions, &constants);
        assert_eq!(definitions["ENDS"].max_entries(), 1 << 17);
        assert_eq!(definitions["ENDS_OVERFLOW"].max_entries(), 77 * 208);
        assert_eq!(definitions["UNANNOUNCED"].max_entries(), 316);
        assert_eq!(definitions["TALLIES"].max_entries(), 6);
        assert_eq!(definitions["SLOTS"].max_entries(), 1 << 17);
    }
}
