//! Where the walk of the kernel's connection table stands.

/// The single value of the map `WALK`. User space sets it before the first run of the program `walk`; each run goes
/// on where the one before stopped.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[cfg_attr(
    feature = "user",
    derive(zerocopy::FromBytes, zerocopy::IntoBytes, zerocopy::Immutable, zerocopy::KnownLayout)
)]
pub struct Walk {
    /// Address of the kernel's variable `nf_conntrack_hash`.
    pub table_pointer: u64,
    /// Address of the kernel's variable `nf_conntrack_htable_size`.
    pub size_pointer: u64,
    /// Address of the kernel's variable `nf_conntrack_generation`, whose first four bytes are counted up before the
    /// kernel moves its flows to a table of another size, and again after it.
    pub generation_pointer: u64,
    /// The table, 0 before the walk's first run.
    pub table: u64,
    /// Its number of buckets.
    pub size: u32,
    /// The next bucket.
    pub bucket: u32,
    /// Entries of that bucket which were looked at already.
    pub skip: u32,
    /// One of [`WalkState`].
    pub state: u32,
    /// Living flows met so far.
    pub flows: u64,
    /// Buckets that were walked again because an entry moved under the walk.
    pub repeated: u64,
    /// Entries that ended, or became another flow's, while they were read.
    pub torn: u64,
    /// Nanoseconds of the longest run so far.
    pub longest_ns: u64,
    /// Runs so far.
    pub runs: u64,
    /// Nanoseconds of all runs.
    pub spent_ns: u64,
    /// Events that the last run left in the map `SIGHTS`.
    pub told: u32,
    /// The generation of the table. Another one: the table was resized.
    pub generation: u32,
}

/// Values of [`Walk::state`].
pub struct WalkState;

impl WalkState {
    /// There is more: run the program again.
    pub const UNDER_WAY: u32 = 0;
    /// Every bucket was walked.
    pub const COMPLETE: u32 = 1;
    /// The table was resized: begin again.
    pub const RESIZED: u32 = 2;
    /// The kernel's memory could not be read where the symbols say.
    pub const UNREADABLE: u32 = 3;
}

const _: () = assert!(size_of::<Walk>() == 104);
