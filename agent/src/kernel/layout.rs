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
