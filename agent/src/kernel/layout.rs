//! Where the running kernel keeps what the programs read, found in its BTF.

use conntally_common::{ABSENT, Layout};

use super::btf::{Btf, LookupError};

/// Conntrack entries of this kernel cannot be read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("this kernel's conntrack is laid out in an unknown way: {}", list(.missing))]
pub struct LayoutError {
    /// What is not there, each with its reason.
    pub missing: Vec<LookupError>,
}

/// Finds every offset that the programs need. `module` is the BTF of `nf_conntrack` when it is a module and the
/// kernel has BTF of modules.
///
/// # Errors
/// When anything is missing without which a flow cannot be read: all of it at once.
pub fn resolve(vmlinux: &Btf, module: Option<&Btf>) -> Result<Layout, LayoutError> {
    let mut resolver = Resolver { btf: module.unwrap_or(vmlinux), missing: Vec::new() };
    let layout = resolver.layout();
    if resolver.missing.is_empty() { Ok(layout) } else { Err(LayoutError { missing: resolver.missing }) }
}

/// Whether `__nf_ct_refresh_acct` takes the packet (before 6.9) rather than its length; `None` when no BTF has the
/// function, as on 5.10.
///
/// Before: <https://github.com/torvalds/linux/blob/v6.6/net/netfilter/nf_conntrack_core.c#L2092>,
/// after: <https://github.com/torvalds/linux/blob/v6.12/net/netfilter/nf_conntrack_core.c#L2109>.
#[must_use]
pub fn refresh_takes_skb(btf: &Btf) -> Option<bool> {
    let function = btf.find_func("__nf_ct_refresh_acct")?;
    let params = btf.func_params(function).ok()?;
    params.get(2).map(|third| third.name == "skb")
}

struct Resolver<'a> {
    btf: &'a Btf,
    missing: Vec<LookupError>,
}

impl Resolver<'_> {
    fn layout(&mut self) -> Layout {
        Layout {
            tuple_original: self.mandatory("nf_conn", "tuplehash[0].tuple"),
            tuple_reply: self.mandatory("nf_conn", "tuplehash[1].tuple"),
            status: self.mandatory("nf_conn", "status"),
            timeout: self.mandatory("nf_conn", "timeout"),
            net: self.mandatory("nf_conn", "ct_net"),
            ext: self.mandatory("nf_conn", "ext"),
            zone: self.optional("nf_conn", "zone.id"),
            mark: self.optional("nf_conn", "mark"),
            tcp_state: self.optional("nf_conn", "proto.tcp.state"),
            sctp_state: self.optional("nf_conn", "proto.sctp.state"),
            dccp_state: self.optional("nf_conn", "proto.dccp.state"),
            net_inum: self.mandatory("net", "ns.inum"),
            net_references: self.first_of("net", &["ns.__ns_ref", "ns.count", "count"]),
            skb_nfct: self.mandatory("sk_buff", "_nfct"),
            skb_len: self.mandatory("sk_buff", "len"),
            ext_acct: self.need(Self::extension, "NF_CT_EXT_ACCT"),
            ext_tstamp: self.extension("NF_CT_EXT_TSTAMP").unwrap_or(ABSENT),
            ext_labels: self.extension("NF_CT_EXT_LABELS").unwrap_or(ABSENT),
            // Kernels without BTF of modules are older than the change.
            refresh_takes_skb: u32::from(refresh_takes_skb(self.btf).unwrap_or(true)),
        }
    }

    fn mandatory(&mut self, struct_name: &str, path: &str) -> u32 {
        self.need(|resolver, path| resolver.btf.member_offset(struct_name, path), path)
    }

    fn optional(&self, struct_name: &str, path: &str) -> u32 {
        self.btf.member_offset(struct_name, path).unwrap_or(ABSENT)
    }

    /// A member that moved from one kernel to the next.
    fn first_of(&self, struct_name: &str, paths: &[&str]) -> u32 {
        paths.iter().find_map(|path| self.btf.member_offset(struct_name, path).ok()).unwrap_or(ABSENT)
    }

    fn need(&mut self, find: impl Fn(&Self, &str) -> Result<u32, LookupError>, what: &str) -> u32 {
        find(self, what).unwrap_or_else(|missing| {
            self.missing.push(missing);
            ABSENT
        })
    }

    /// Where `nf_ct_ext.offset[]`, an array of bytes, says how far away an extension is.
    fn extension(&self, constant: &str) -> Result<u32, LookupError> {
        let id = self.btf.enum_value("nf_ct_ext_id", constant)?;
        let element = format!("offset[{id}]");
        match self.btf.member_size("nf_ct_ext", &element)? {
            1 => self.btf.member_offset("nf_ct_ext", &element),
            _ => Err(LookupError::Nonsense { path: format!("nf_ct_ext.{element}") }),
        }
    }
}

fn list(missing: &[LookupError]) -> String {
    missing.iter().map(ToString::to_string).collect::<Vec<_>>().join("; ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernel::fixtures::{self, Fixture};

    fn parse((image, module): Fixture) -> (Btf, Option<Btf>) {
        let vmlinux = Btf::parse(image.to_vec()).unwrap();
        let module = module.map(|module| Btf::parse_split(module.to_vec(), &vmlinux).unwrap());
        (vmlinux, module)
    }

    fn layout(fixture: Fixture) -> Layout {
        let (vmlinux, module) = parse(fixture);
        resolve(&vmlinux, module.as_ref()).unwrap()
    }

    /// 6.12 on x86-64, as `bpftool btf dump` shows it.
    const X86_64_6_12: Layout = Layout {
        tuple_original: 16 + 16,
        tuple_reply: 16 + 56 + 16,
        status: 128,
        timeout: 8,
        net: 136,
        ext: 176,
        zone: 12,
        mark: 168,
        tcp_state: 184 + 40,
        sctp_state: 184,
        dccp_state: 184 + 2,
        net_inum: 120 + 16,
        net_references: 120 + 20,
        skb_nfct: 104,
        skb_len: 112,
        ext_acct: 3,
        ext_tstamp: 5,
        ext_labels: 7,
        refresh_takes_skb: 0,
    };

    #[test]
    fn the_layout_of_6_12_is_known() {
        assert_eq!(layout(fixtures::X86_64_6_12), X86_64_6_12);
    }

    #[test]
    fn the_layout_of_6_1_differs_in_the_prototype_and_in_struct_net() {
        let expected =
            Layout { net_inum: 128 + 16, net_references: 128 + 20, refresh_takes_skb: 1, ..X86_64_6_12 };
        assert_eq!(layout(fixtures::X86_64_6_1), expected);
    }

    #[test]
    fn the_layout_of_5_10_is_found_without_a_module() {
        let expected = Layout {
            net: 144,
            ext: 184,
            mark: 176,
            tcp_state: 192 + 40,
            sctp_state: 192,
            dccp_state: 192 + 2,
            net_inum: 128 + 16,
            net_references: 4,
            refresh_takes_skb: 1,
            ..X86_64_6_12
        };
        assert_eq!(layout(fixtures::X86_64_5_10), expected);
    }

    #[test]
    fn kernels_without_dccp_lack_only_its_state() {
        let expected =
            Layout { dccp_state: ABSENT, net_inum: 152 + 24, net_references: 152 + 28, ..X86_64_6_12 };
        assert_eq!(layout(fixtures::X86_64_6_18), expected);
    }

    #[test]
    fn the_layout_of_7_2_is_found_among_repeated_types() {
        let expected = Layout { dccp_state: ABSENT, net_inum: 192 + 88, net_references: 192, ..X86_64_6_12 };
        assert_eq!(layout(fixtures::X86_64_7_2), expected);
    }

    #[test]
    fn arm64_is_laid_out_as_its_own_btf_says() {
        assert_eq!(layout(fixtures::AARCH64_6_12), Layout { ..X86_64_6_12 });
    }

    #[test]
    fn hooks_are_found_in_the_module_under_the_kernels_numbers() {
        for fixture in
            [fixtures::X86_64_6_1, fixtures::X86_64_6_12, fixtures::X86_64_6_18, fixtures::X86_64_7_2]
        {
            let (vmlinux, module) = parse(fixture);
            let module = module.unwrap();
            for function in
                ["nf_ct_acct_add", "__nf_ct_refresh_acct", "__nf_conntrack_confirm", "nf_ct_destroy"]
            {
                let id = module.find_func(function).unwrap();
                assert!(module.is_own(id), "{function}");
                assert_eq!(vmlinux.find_func(function), None, "{function}");
            }
        }
    }

    #[test]
    fn everything_that_is_missing_is_named_at_once() {
        // Renames two members in the strings, as a future kernel might.
        let (image, _) = fixtures::X86_64_6_12;
        let mut bytes = image.to_vec();
        for (name, renamed) in [
            (&b"\0tuplehash\0"[..], &b"\0tuplehush\0"[..]),
            (b"\0inum\0", b"\0imum\0"),
            (b"\0mark\0", b"\0mork\0"),
        ] {
            let at = bytes.windows(name.len()).position(|window| window == name).unwrap();
            bytes[at..at + name.len()].copy_from_slice(renamed);
        }
        let error = resolve(&Btf::parse(bytes).unwrap(), None).unwrap_err();
        assert_eq!(
            error.to_string(),
            "this kernel's conntrack is laid out in an unknown way: the kernel has no nf_conn.tuplehash[0]; \
             the kernel has no nf_conn.tuplehash[1]; the kernel has no net.ns.inum"
        );
    }

    #[test]
    fn a_kernel_without_conntrack_is_told_from_one_with_an_unknown_one() {
        let no_types: Vec<u8> =
            [0x1_eb9f_u32, 24, 0, 0, 0, 1].iter().flat_map(|word| word.to_ne_bytes()).chain([0]).collect();
        let error = resolve(&Btf::parse(no_types).unwrap(), None).unwrap_err();
        assert_eq!(error.missing[0].to_string(), "the kernel has no struct nf_conn");
        assert_eq!(error.missing.len(), 10);
    }
}
