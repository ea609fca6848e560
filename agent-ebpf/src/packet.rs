//! The packet that a hook was called for, by the parameters of the hooked function.

use crate::{entry::read, maps::layout};

/// `IP_CT_IS_REPLY`: from here on `enum ip_conntrack_info` means the reply direction.
const IS_REPLY: u32 = 3;

/// The packet that a hook was called for, which the counters do not hold yet at the function's entry.
#[derive(Clone, Copy)]
pub struct OwnPacket {
    /// 0 original, 1 reply.
    pub direction: u32,
    pub packets: u32,
    pub bytes: u32,
}

impl OwnPacket {
    /// No packet: the counters are complete.
    pub const NONE: Self = Self { direction: 0, packets: 0, bytes: 0 };
}

/// The parameters of `__nf_ct_refresh_acct`.
///
/// Before 6.9 they are `(ct, ctinfo, skb, extra_jiffies, do_acct)`, since then `(ct, ctinfo, extra_jiffies, bytes)`.
pub struct Refresh {
    pub info: u64,
    pub third: u64,
    pub fourth: u64,
}

impl Refresh {
    /// Whether a packet is accounted, or only the timeout refreshed.
    #[inline(always)]
    pub fn has_packet(&self, fifth: impl FnOnce() -> u64) -> bool {
        if layout!(refresh_takes_skb) == 1 { fifth() as u8 != 0 } else { self.fourth as u32 != 0 }
    }

    /// That packet.
    #[inline(always)]
    pub fn own_packet(&self) -> OwnPacket {
        let bytes = if layout!(refresh_takes_skb) == 1 {
            read::<u32>(self.third + u64::from(layout!(skb_len))).unwrap_or(0)
        } else {
            self.fourth as u32
        };
        OwnPacket { direction: u32::from(self.info as u32 >= IS_REPLY), packets: 1, bytes }
    }
}
