//! The status bits of a conntrack entry.

/// `enum ip_conntrack_status` as the kernel keeps it.
///
/// <https://github.com/torvalds/linux/blob/v6.12/include/uapi/linux/netfilter/nf_conntrack_common.h#L42>
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Status(pub u32);

impl Status {
    /// An expected connection (opened by a helper).
    pub const EXPECTED: u32 = 1;
    /// Packets were seen in both directions.
    pub const SEEN_REPLY: u32 = 1 << 1;
    /// Not to be evicted early.
    pub const ASSURED: u32 = 1 << 2;
    /// The entry is in the table.
    pub const CONFIRMED: u32 = 1 << 3;
    /// The source is translated.
    pub const SRC_NAT: u32 = 1 << 4;
    /// The destination is translated.
    pub const DST_NAT: u32 = 1 << 5;
    /// The entry is being removed.
    pub const DYING: u32 = 1 << 9;
    /// Packets bypass conntrack through a software flowtable.
    pub const OFFLOAD: u32 = 1 << 14;
    /// Packets bypass conntrack through hardware.
    pub const HW_OFFLOAD: u32 = 1 << 15;
    /// Those whose change alone is worth a record. Every flow here is confirmed, whether the bit was set already or not
    /// when it was first seen.
    pub const SHOWN: u32 = Self::EXPECTED
        | Self::SEEN_REPLY
        | Self::ASSURED
        | Self::SRC_NAT
        | Self::DST_NAT
        | Self::OFFLOAD
        | Self::HW_OFFLOAD;

    /// Whether packets bypass conntrack, in software or hardware.
    #[must_use]
    pub const fn is_offloaded(self) -> bool {
        self.0 & (Self::OFFLOAD | Self::HW_OFFLOAD) != 0
    }

    /// Whether all the given bits are set.
    #[must_use]
    pub const fn has(self, bits: u32) -> bool {
        self.0 & bits == bits
    }
}
