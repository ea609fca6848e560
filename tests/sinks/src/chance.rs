//! Numbers that nobody foresees, but that a seed brings back.

use std::time::{SystemTime, UNIX_EPOCH};

/// Where they come from.
#[derive(Clone, Debug)]
pub struct Chance(u64);

impl Chance {
    /// The numbers of a seed.
    #[must_use]
    pub const fn of(seed: u64) -> Self {
        Self(seed | 1)
    }

    /// A number below another one.
    pub const fn below(&mut self, limit: u64) -> u64 {
        // Xorshift.
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 16) % limit
    }
}

/// Another seed each time.
#[must_use]
pub fn seed() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(1, |now| now.subsec_nanos().into())
}
