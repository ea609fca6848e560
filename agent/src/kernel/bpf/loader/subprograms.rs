//! Has functions of a program verified once, by themselves, and not again at each of their calls.
//!
//! The verifier does that with functions that BTF declares global (kernel 5.6): it takes their arguments, which must
//! be numbers, and their result as any value. The BTF is made here: what the compiler wrote would describe every
//! type of the programs, which the kernel would read for nothing.
//!
//! <https://docs.kernel.org/bpf/btf.html#btf-kind-func>

use aya_obj::generated::{bpf_func_info, bpf_insn, btf_func_linkage};

use super::code::{Code, is_same_function};

/// A function that is verified once. In the programs it is `#[inline(never)]` with its name kept, takes numbers and
/// returns one.
pub(super) struct Global {
    /// Its symbol.
    pub(super) name: &'static str,
    /// How many parameters it takes, at most 5.
    pub(super) parameters: usize,
}

/// A global function with its instructions before linking, by which it is found in linked programs.
pub(super) struct Known {
    pub(super) global: &'static Global,
    pub(super) instructions: Vec<bpf_insn>,
}

/// What the kernel is told of a program's functions.
#[derive(Debug)]
pub(super) struct Declared {
    /// The bytes of the BTF.
    pub(super) btf: Vec<u8>,
    /// One record for each function, in the order of the instructions.
    pub(super) records: Vec<bpf_func_info>,
}

/// Declares the functions of a program; `None` when none of them is global, as then there is nothing to say.
pub(super) fn declare(program: &str, code: &Code<'_>, globals: &[Known]) -> Option<Declared> {
    let functions = code.functions();
    let found: Vec<Option<&Global>> = functions.iter().map(|(_, code)| find(code, globals)).collect();
    if found.iter().all(Option::is_none) {
        return None;
    }
    let mut types = Types::new();
    let plain = types.prototype(0);
    let records = functions.iter().zip(found).enumerate().map(|(index, ((start, _), global))| {
        let type_id = match global {
            Some(global) => {
                let prototype = types.prototype(global.parameters);
                types.function(global.name, prototype, btf_func_linkage::BTF_FUNC_GLOBAL)
            }
            None => {
                let name = if index == 0 { program } else { "part" };
                types.function(name, plain, btf_func_linkage::BTF_FUNC_STATIC)
            }
        };
        bpf_func_info { insn_off: u32::try_from(*start).unwrap_or(u32::MAX), type_id }
    });
    let records = records.collect();
    Some(Declared { btf: types.bytes(), records })
}

fn find(code: &[bpf_insn], globals: &[Known]) -> Option<&'static Global> {
    globals.iter().find(|known| is_same_function(&known.instructions, code)).map(|known| known.global)
}

const INT: u32 = 1;
const FUNC: u32 = 12;
const FUNC_PROTO: u32 = 13;

/// Type records and their names, as they are written.
struct Types {
    records: Vec<u32>,
    names: Vec<u8>,
    count: u32,
}

/// The first type: the number that every parameter and result is.
const NUMBER: u32 = 1;

impl Types {
    fn new() -> Self {
        let mut types = Self { records: Vec::new(), names: vec![0], count: 0 };
        let name = types.name("number");
        // 8 bytes; encoding: unsigned, from bit 0, 64 bits.
        types.record(name, INT, 0, 8, &[64]);
        types
    }

    fn prototype(&mut self, parameters: usize) -> u32 {
        let name = self.name("value");
        let data: Vec<u32> = std::iter::repeat_n([name, NUMBER], parameters).flatten().collect();
        self.record(0, FUNC_PROTO, parameters as u32, NUMBER, &data)
    }

    fn function(&mut self, name: &str, prototype: u32, linkage: btf_func_linkage) -> u32 {
        let name = self.name(name);
        self.record(name, FUNC, linkage as u32, prototype, &[])
    }

    fn name(&mut self, name: &str) -> u32 {
        let offset = self.names.len() as u32;
        self.names.extend(name.bytes());
        self.names.push(0);
        offset
    }

    fn record(&mut self, name: u32, kind: u32, len: u32, size_or_type: u32, data: &[u32]) -> u32 {
        self.records.extend([name, kind << 24 | len, size_or_type]);
        self.records.extend(data);
        self.count += 1;
        self.count
    }

    /// Header, records, names.
    fn bytes(&self) -> Vec<u8> {
        let types = 4 * self.records.len() as u32;
        let magic_version_flags = if cfg!(target_endian = "little") { 0x0001_eb9f } else { 0xeb9f_0100 };
        let header = [magic_version_flags, 24, 0, types, types, self.names.len() as u32];
        let words = header.iter().chain(&self.records).flat_map(|word| word.to_ne_bytes());
        words.chain(self.names.iter().copied()).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernel::btf::{Btf, Kind, TypeId};

    static STEP: Global = Global { name: "step", parameters: 2 };

    /// A word of code that no other function has.
    fn function(mark: i32, calls: Option<i32>) -> Vec<bpf_insn> {
        let blank = bpf_insn {
            code: 0xb7,
            _bitfield_align_1: [],
            _bitfield_1: aya_obj::generated::__BindgenBitfieldUnit::new([0]),
            off: 0,
            imm: mark,
        };
        let exit = bpf_insn { code: 0x95, imm: 0, ..blank };
        let call = calls.map(|imm| {
            let mut call = bpf_insn { code: 0x85, imm, ..blank };
            call.set_src_reg(1);
            call
        });
        [Some(blank), call, Some(exit)].into_iter().flatten().collect()
    }

    /// A program that calls a global function, which calls another one.
    fn program() -> Vec<bpf_insn> {
        [function(1, Some(1)), function(2, Some(1)), function(3, None)].concat()
    }

    #[test]
    fn each_function_is_declared_where_it_begins_and_as_what_it_is() {
        let globals = [Known { global: &STEP, instructions: function(2, Some(-1)) }];
        let instructions = program();
        let declared = declare("main", &Code { instructions: &instructions }, &globals).unwrap();
        let starts: Vec<_> = declared.records.iter().map(|record| record.insn_off).collect();
        assert_eq!(starts, [0, 3, 6]);
        let btf = Btf::parse(declared.btf).unwrap();
        let functions: Vec<_> = declared
            .records
            .iter()
            .map(|record| {
                let ty = btf.type_by_id(TypeId(record.type_id)).unwrap();
                assert_eq!(ty.kind, Kind::Function);
                (
                    btf.string(ty.name).unwrap().to_vec(),
                    ty.len,
                    btf.func_params(TypeId(record.type_id)).unwrap().len(),
                )
            })
            .collect();
        let expected = [(b"main".to_vec(), 0, 0), (b"step".to_vec(), 1, 2), (b"part".to_vec(), 0, 0)];
        assert_eq!(functions, expected);
    }

    #[test]
    fn a_program_without_global_functions_needs_no_types() {
        let instructions = program();
        assert!(declare("main", &Code { instructions: &instructions }, &[]).is_none());
        let elsewhere = [Known { global: &STEP, instructions: function(9, None) }];
        assert!(declare("main", &Code { instructions: &instructions }, &elsewhere).is_none());
    }
}
