//! The instructions of one program, and where each function in them begins.

use std::collections::BTreeSet;

use aya_obj::generated::{BPF_CALL, BPF_JMP, BPF_PSEUDO_CALL, BPF_PSEUDO_FUNC, bpf_insn};

/// Opcode of a call, be it of a helper or of a function of the program.
const CALL: u8 = (BPF_JMP | BPF_CALL) as u8;

/// Opcode of a load of 64 bits from the instruction, which fills two of them.
const LOAD_64: u8 = 0x18;

/// A program with every function that it calls behind it.
pub(super) struct Code<'a> {
    pub(super) instructions: &'a [bpf_insn],
}

impl<'a> Code<'a> {
    /// Indices of the first instruction of each function, ascending; the first is the program's own.
    pub(super) fn starts(&self) -> BTreeSet<usize> {
        let callees =
            self.instructions.iter().enumerate().filter_map(|(at, instruction)| callee(at, instruction));
        std::iter::once(0).chain(callees).collect()
    }

    /// Each function's first index with its instructions.
    pub(super) fn functions(&self) -> Vec<(usize, &'a [bpf_insn])> {
        let starts: Vec<usize> = self.starts().into_iter().collect();
        let ends = starts.iter().skip(1).copied().chain([self.instructions.len()]);
        starts
            .iter()
            .zip(ends)
            .filter_map(|(start, end)| Some((*start, self.instructions.get(*start..end)?)))
            .collect()
    }
}

/// Whether two pieces of code are the same function, one of them linked into a program and one not yet: where they
/// call their own functions is then all that differs.
pub(super) fn is_same_function(a: &[bpf_insn], b: &[bpf_insn]) -> bool {
    a.len() == b.len() && a.iter().zip(b).all(|(a, b)| is_same(a, b))
}

fn is_same(a: &bpf_insn, b: &bpf_insn) -> bool {
    (a.code, a.dst_reg(), a.src_reg(), a.off) == (b.code, b.dst_reg(), b.src_reg(), b.off)
        && (a.imm == b.imm || is_own_call(a))
}

fn is_own_call(instruction: &bpf_insn) -> bool {
    instruction.code == CALL && u32::from(instruction.src_reg()) == BPF_PSEUDO_CALL
}

/// The function that an instruction calls, or takes the address of.
fn callee(at: usize, instruction: &bpf_insn) -> Option<usize> {
    let is_address = instruction.code == LOAD_64 && u32::from(instruction.src_reg()) == BPF_PSEUDO_FUNC;
    if !is_address && !is_own_call(instruction) {
        return None;
    }
    (at + 1).checked_add_signed(isize::try_from(instruction.imm).ok()?)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn instruction(code: u8, src: u8, imm: i32) -> bpf_insn {
        let mut made = blank();
        made.code = code;
        made.set_src_reg(src);
        made.imm = imm;
        made
    }

    fn blank() -> bpf_insn {
        bpf_insn {
            code: 0,
            _bitfield_align_1: [],
            _bitfield_1: aya_obj::generated::__BindgenBitfieldUnit::new([0]),
            off: 0,
            imm: 0,
        }
    }

    const EXIT: u8 = 0x95;

    #[test]
    fn functions_begin_where_calls_go() {
        let code = Code {
            instructions: &[
                instruction(CALL, 1, 2),
                instruction(CALL, 0, 5),
                instruction(EXIT, 0, 0),
                instruction(CALL, 1, 1),
                instruction(EXIT, 0, 0),
                instruction(CALL, 1, -6),
                instruction(EXIT, 0, 0),
            ],
        };
        assert_eq!(code.starts().into_iter().collect::<Vec<_>>(), [0, 3, 5]);
        let lengths: Vec<_> = code.functions().iter().map(|(start, code)| (*start, code.len())).collect();
        assert_eq!(lengths, [(0, 3), (3, 2), (5, 2)]);
    }

    #[test]
    fn a_function_is_known_again_after_its_calls_were_linked() {
        let before = [instruction(CALL, 1, -1), instruction(CALL, 0, 5), instruction(EXIT, 0, 0)];
        let linked = [instruction(CALL, 1, 70), instruction(CALL, 0, 5), instruction(EXIT, 0, 0)];
        assert!(is_same_function(&before, &linked));
        let other_helper = [instruction(CALL, 1, 70), instruction(CALL, 0, 6), instruction(EXIT, 0, 0)];
        assert!(!is_same_function(&before, &other_helper));
        assert!(!is_same_function(&before, &linked[..2]));
    }
}
