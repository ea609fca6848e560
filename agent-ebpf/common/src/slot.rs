//! Which flows are live and when each may speak next: the table that the packet hook consults.

/// Slots in one bucket. A flow may sit in any of them.
pub const SLOTS_PER_BUCKET: usize = 4;

/// Steps of the rate curve at most.
pub const CURVE_STEPS: usize = 8;

/// A live flow's place in the table.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Slot {
    /// Address of the `nf_conn`; 0 when the slot is free.
    pub conntrack: u64,
    /// When the flow was first met, `CLOCK_BOOTTIME` nanoseconds.
    pub born_ns: u64,
    /// The flow may speak from here on: low 32 bits of jiffies.
    pub due: u32,
    /// Bits of [`crate::EventFlags`] that later events repeat: the word is the union of its bytes, one for each writer.
    pub flags: u32,
}

/// A flow that a probe gave a slot without being able to announce it: an element of the queue `UNANNOUNCED`.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Unannounced {
    /// Address of the `nf_conn`.
    pub conntrack: u64,
    /// [`Slot::born_ns`] of the slot it got.
    pub born_ns: u64,
}

/// Elements that the program `announce` takes from the queue in one run. Few, because the verifier walks through the
/// body once for each, which a start pays for.
pub const ANNOUNCE_BATCH: u64 = 2;

/// The value of the array map `SLOTS`: the flows whose address hashes to it.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bucket {
    /// In no order.
    pub slots: [Slot; SLOTS_PER_BUCKET],
}

/// One step of the rate curve.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[cfg_attr(
    feature = "user",
    derive(zerocopy::FromBytes, zerocopy::IntoBytes, zerocopy::Immutable, zerocopy::KnownLayout)
)]
pub struct CurveStep {
    /// The step holds for flows of at least this age, in nanoseconds.
    pub age_ns: u64,
    /// Jiffies between two updates of such a flow.
    pub every: u32,
    /// Zero.
    pub padding: u32,
}

/// The settings that user space may change while the programs run: the single value of the map `CONTROL`.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(
    feature = "user",
    derive(zerocopy::FromBytes, zerocopy::IntoBytes, zerocopy::Immutable, zerocopy::KnownLayout)
)]
pub struct Control {
    /// Rate curve by ascending age; steps past `steps` mean nothing.
    pub curve: [CurveStep; CURVE_STEPS],
    /// How many steps are set; at least 1.
    pub steps: u32,
    /// Inode of the self-test's network namespace, in which every packet speaks; 0 when there is none.
    pub selftest_netns: u32,
    /// Jiffies until a flow tries again after the ring was full.
    pub retry: u32,
    /// Bytes waiting in a ring from which on its reader is woken.
    pub wakeup_bytes: u32,
    /// Kinds of event that are submitted: bit `1 << kind` of [`crate::EventKind`]. Ends and what a walk meets are
    /// submitted always.
    pub wants: u32,
    /// 1 when no packet speaks and every visit of a flow is due, 0 when visits only follow up on packets.
    pub sweeps: u32,
}

/// Two clocks read at the same moment, to find out how long a jiffy is: the single value of the map `CLOCK`.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[cfg_attr(
    feature = "user",
    derive(zerocopy::FromBytes, zerocopy::IntoBytes, zerocopy::Immutable, zerocopy::KnownLayout)
)]
pub struct Clock {
    /// `jiffies64`
    pub jiffies: u64,
    /// `CLOCK_BOOTTIME` nanoseconds.
    pub boot_ns: u64,
}

/// The bucket of an entry, given the low half of its address and the number of buckets as a power of two.
///
/// Entries are at least 64 bytes apart, so the low 6 bits say nothing; the multiplication (Knuth, TAOCP vol. 3,
/// 6.4) spreads the pages of the slab over the table.
#[inline(always)]
#[must_use]
pub const fn bucket_index(address_low: u32, bucket_bits: u32) -> u32 {
    (address_low >> 6).wrapping_mul(0x9E37_79B1) >> (32 - bucket_bits)
}

const _: () = {
    assert!(size_of::<Slot>() == 24);
    assert!(size_of::<Bucket>() == 96);
    assert!(size_of::<Control>() == 8 * 16 + 24);
};
