//! Type information of a kernel or module: any bytes are read or refused, and what was read can be asked anything.
#![no_main]

use std::sync::LazyLock;

use conntally::kernel::btf::{Btf, TypeId};
use libfuzzer_sys::fuzz_target;

/// What the input may be a module of.
static KERNEL: LazyLock<Btf> = LazyLock::new(|| {
    let fixture = include_bytes!("../../src/kernel/fixtures/x86_64-6.12.vmlinux.btf");
    Btf::parse(fixture.to_vec()).expect("the fixture is read in the agent's tests, too")
});

fuzz_target!(|bytes: &[u8]| {
    if let Ok(btf) = Btf::parse(bytes.to_vec()) {
        look_at_all(&btf);
    }
    if let Ok(module) = Btf::parse_split(bytes.to_vec(), &KERNEL) {
        look_at_all(&module);
    }
});

fn look_at_all(btf: &Btf) {
    for id in btf.own_ids().chain([TypeId::VOID, TypeId(u32::MAX)]) {
        // Only whether it comes back counts.
        let _ = btf.func_params(id);
        let Some(found) = btf.type_by_id(id) else { continue };
        let _ = (found.data().count(), found.array(), found.constants().count());
        let members = found.members().map(|member| member.name).chain(found.params().map(|(name, _)| name));
        for name in members {
            let _ = btf.string(name);
        }
    }
    let _ = (btf.member_offset("nf_conn", "tuplehash"), btf.member_size("nf_conn", "mark"));
    let _ = (btf.enum_value("nf_ct_ext_id", "NF_CT_EXT_ACCT"), btf.find_func("nf_ct_delete"));
}
