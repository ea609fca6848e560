//! Where the running kernel keeps the things that are read: byte offsets found in its BTF at start.

/// An offset or value that this kernel does not have.
pub const ABSENT: u32 = u32::MAX;

/// Byte offsets into kernel structs, and enum values. Injected into the programs as a read-only global, so the
/// verifier knows each value and removes the branches of what is [`ABSENT`].
///
/// Optional members are [`ABSENT`] where the kernel was built without them.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(
    feature = "user",
    derive(zerocopy::FromBytes, zerocopy::IntoBytes, zerocopy::Immutable, zerocopy::KnownLayout)
)]
pub struct Layout {
    /// `nf_conn.tuplehash[0].tuple`
    pub tuple_original: u32,
    /// `nf_conn.tuplehash[1].tuple`
    pub tuple_reply: u32,
    /// `nf_conn.status`
    pub status: u32,
    /// `nf_conn.timeout`
    pub timeout: u32,
    /// `nf_conn.ct_net`
    pub net: u32,
    /// `nf_conn.ext`
    pub ext: u32,
    /// `nf_conn.zone.id`, optional
    pub zone: u32,
    /// `nf_conn.mark`, optional
    pub mark: u32,
    /// `nf_conn.proto.tcp.state`, optional
    pub tcp_state: u32,
    /// `nf_conn.proto.sctp.state`, optional
    pub sctp_state: u32,
    /// `nf_conn.proto.dccp.state`, optional
    pub dccp_state: u32,
    /// `net.ns.inum`
    pub net_inum: u32,
    /// Reference count of `net`, which is 0 once the namespace is being removed, optional: `net.ns.__ns_ref`
    /// (since 6.18), `net.ns.count` (since 5.11) or `net.count`
    pub net_references: u32,
    /// `sk_buff._nfct`
    pub skb_nfct: u32,
    /// `sk_buff.len`
    pub skb_len: u32,
    /// Position of the accounting extension's entry in `nf_ct_ext.offset[]`: `nf_ct_ext.offset + NF_CT_EXT_ACCT`
    pub ext_acct: u32,
    /// The same for `NF_CT_EXT_TSTAMP`, optional
    pub ext_tstamp: u32,
    /// The same for `NF_CT_EXT_LABELS`, optional
    pub ext_labels: u32,
    /// 1 when the third parameter of `__nf_ct_refresh_acct` is the packet and the fifth says whether to account
    /// it (before 6.9), 0 when the fourth is its length in bytes.
    pub refresh_takes_skb: u32,
}

impl Layout {
    /// Nothing known yet.
    pub const UNKNOWN: Self = Self {
        tuple_original: ABSENT,
        tuple_reply: ABSENT,
        status: ABSENT,
        timeout: ABSENT,
        net: ABSENT,
        ext: ABSENT,
        zone: ABSENT,
        mark: ABSENT,
        tcp_state: ABSENT,
        sctp_state: ABSENT,
        dccp_state: ABSENT,
        net_inum: ABSENT,
        net_references: ABSENT,
        skb_nfct: ABSENT,
        skb_len: ABSENT,
        ext_acct: ABSENT,
        ext_tstamp: ABSENT,
        ext_labels: ABSENT,
        refresh_takes_skb: ABSENT,
    };
}

const _: () = assert!(size_of::<Layout>() == 19 * 4);
