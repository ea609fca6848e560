//! What the kernel side says about a flow: one fixed-size record that carries totals, never deltas.

/// One direction of a flow as the kernel stores it: `struct nf_conntrack_tuple`, 40 bytes, copied unchanged.
///
/// <https://github.com/torvalds/linux/blob/v6.12/include/net/netfilter/nf_conntrack_tuple.h#L37>
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(
    feature = "user",
    derive(zerocopy::FromBytes, zerocopy::IntoBytes, zerocopy::Immutable, zerocopy::KnownLayout)
)]
pub struct KernelTuple {
    /// Source address; IPv4 uses the first 4 bytes, the rest is zero.
    pub src: [u8; 16],
    /// Source port, ICMP identifier or GRE key, in network byte order.
    pub src_port: [u8; 2],
    /// Address family: `AF_INET` or `AF_INET6`, in host byte order.
    pub family: u16,
    /// Destination address.
    pub dst: [u8; 16],
    /// Destination port or GRE key in network byte order, or ICMP type and code.
    pub dst_port: [u8; 2],
    /// IP protocol number.
    pub protocol: u8,
    /// 0 in the tuple of the original direction, 1 in that of the reply.
    pub direction: u8,
}

/// Totals of one direction: `struct nf_conn_counter`.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[cfg_attr(
    feature = "user",
    derive(zerocopy::FromBytes, zerocopy::IntoBytes, zerocopy::Immutable, zerocopy::KnownLayout)
)]
pub struct Counter {
    /// IP packets.
    pub packets: u64,
    /// Bytes, IP headers included.
    pub bytes: u64,
}

/// Values of [`Event::kind`].
pub struct EventKind;

impl EventKind {
    /// The flow was just confirmed or inserted.
    pub const NEW: u8 = 1;
    /// The flow lives and was due.
    pub const UPDATE: u8 = 2;
    /// The flow's entry was destroyed; the totals are final.
    pub const END: u8 = 3;
    /// The walk of the kernel's table met the flow alive.
    pub const EXISTING: u8 = 4;
}

/// Bits of [`Event::flags`].
pub struct EventFlags;

impl EventFlags {
    /// The entry has an accounting extension; without it the totals are zero and mean nothing.
    pub const COUNTERS: u8 = 1;
    /// The agent's hook met this flow first in the middle of its life.
    pub const MIDLIFE: u8 = 1 << 1;
    /// `nf_ct_delete` was called for a netlink request (only with END).
    pub const DELETED_BY_NETLINK: u8 = 1 << 2;
    /// `nf_ct_delete` was called by the kernel itself (only with END).
    pub const DELETED_BY_KERNEL: u8 = 1 << 3;
    /// The entry's network namespace is being removed (only with END).
    pub const NETNS_GONE: u8 = 1 << 4;
    /// Some event of this flow was submitted before: its end is not the first that user space hears of it.
    pub const ANNOUNCED: u8 = 1 << 5;
}

/// The address that the agent's own test packets go from and to ("CNT" in ASCII). No traffic of anybody else is there:
/// it is how one agent knows the test of another, whose namespace it cannot tell from a user's.
pub const SELFTEST_ADDRESS: [u8; 4] = [127, 67, 78, 84];

/// One sight of a flow. 200 bytes, every field at its natural alignment.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(
    feature = "user",
    derive(zerocopy::FromBytes, zerocopy::IntoBytes, zerocopy::Immutable, zerocopy::KnownLayout)
)]
pub struct Event {
    /// When it was seen: nanoseconds of `CLOCK_BOOTTIME`.
    pub boot_ns: u64,
    /// Address of the `nf_conn`. Reused after the end of the flow.
    pub conntrack: u64,
    /// When the kernel side first met the flow, `CLOCK_BOOTTIME`; 0 when it had no slot. Tells two flows at the
    /// same address apart.
    pub born_ns: u64,
    /// Start and stop of the timestamp extension, `CLOCK_REALTIME` nanoseconds; 0 when the kernel keeps none.
    pub start_ns: u64,
    /// See `start_ns`; set when the entry was deleted.
    pub stop_ns: u64,
    /// Totals: original direction, reply direction.
    pub counters: [Counter; 2],
    /// Tuples: original direction, reply direction.
    pub tuples: [KernelTuple; 2],
    /// Connection label bits, zero when there are none.
    pub labels: [u8; 16],
    /// `enum ip_conntrack_status`.
    pub status: u32,
    /// Connection mark.
    pub mark: u32,
    /// When the entry expires, in the low 32 bits of jiffies.
    pub timeout: u32,
    /// The low 32 bits of jiffies at `boot_ns`.
    pub jiffies: u32,
    /// Inode of the network namespace.
    pub netns: u32,
    /// Conntrack zone.
    pub zone: u16,
    /// One of [`EventKind`].
    pub kind: u8,
    /// Bits of [`EventFlags`].
    pub flags: u8,
    /// State of the protocol tracker (`enum tcp_conntrack` …) for TCP, SCTP and DCCP, else 0.
    pub protocol_state: u8,
    /// Zero.
    pub padding: [u8; 7],
}

/// Which layout and meaning [`Event`] and [`crate::Tally`] have. Programs outlive the agent that attached them: a later one
/// reads theirs only if this number is its own. Whoever moves a field or changes what a field, a kind or a flag means, adds 1.
pub const EVENT_LAYOUT: u32 = 1;

const _: () = {
    assert!(size_of::<KernelTuple>() == 40);
    assert!(core::mem::offset_of!(KernelTuple, dst) == 20);
    assert!(core::mem::offset_of!(KernelTuple, direction) == 39);
    assert!(size_of::<Counter>() == 16);
    assert!(core::mem::offset_of!(Event, counters) == 40);
    assert!(core::mem::offset_of!(Event, tuples) == 72);
    assert!(core::mem::offset_of!(Event, labels) == 152);
    assert!(core::mem::offset_of!(Event, status) == 168);
    assert!(core::mem::offset_of!(Event, protocol_state) == 192);
    assert!(size_of::<Event>() == 200);
};
